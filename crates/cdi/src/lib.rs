//! Container Device Interface: the specification's documents, their names, and
//! what they do to an OCI config.
//!
//! Follows the CDI specification 1.1.0 (github.com/cncf-tags/container-device-interface,
//! SPEC.md), reads every version from 0.3.0 on, writes the lowest version that
//! has what a document uses. Knows nothing of GPUs.
#![forbid(unsafe_code)]

pub mod annotations;
mod apply;
mod error;
mod excerpt;
mod lazy_json;
mod name;
mod registry;
mod spec;
mod transform;
mod validate;
mod version;

pub use apply::{KnownNode, NodeStat, add_known_nodes, apply, apply_to_value};
pub use error::Error;
pub use excerpt::{Breaks, Excerpt, Line, Message};
pub use lazy_json::LazyJson;
pub use name::QualifiedName;
pub use registry::{Registry, SPEC_DIRS};
pub use spec::{ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, Spec};
pub use transform::{RelativeTo, Transform};
