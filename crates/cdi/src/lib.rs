//! The Container Device Interface (CDI): reads, checks and writes its specs, resolves device names,
//! and applies specs to an OCI config.
//!
//! Implements the CDI specification 1.1.0 (github.com/cncf-tags/container-device-interface,
//! SPEC.md). It reads every version from 0.3.0 on and writes the lowest version that has the
//! features a document uses. This crate contains nothing specific to GPUs.
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
