//! GPUs for containers, as a library: what this host has, what a container asks for, and
//! the edits that give it, carried out in an OCI config or in a container that exists.
//!
//! ```
//! use gpucontainer::{Host, Inventory, Policy, Request};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), gpucontainer::Error> {
//! // `Host::look` looks at the running host; this one is made up.
//! let inventory = Inventory {
//!     driver: Some(Default::default()),
//!     ..Inventory::default()
//! };
//! let host = Host::of(inventory, Policy::default());
//!
//! let mut config = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}});
//! let request = host.request_of(&config)?;
//! let edits = host.plan(&request)?;
//! gpucontainer::oci::apply_to_value(&mut config, &edits, "/usr/bin/gpu-container-hook".as_ref())?;
//!
//! // A hook or an engine further down does not do it again.
//! assert_eq!(config["process"]["env"][0], "NVIDIA_VISIBLE_DEVICES=void");
//! # Ok(())
//! # }
//! ```
//!
//! [`capi`] is the same for C: `libgpucontainer.so.1` and `gpucontainer.h`.
#![deny(unsafe_code)]

pub mod capi;

pub use cdi;
pub use gpu_host::{Capabilities, Capability, Inventory};
pub use gpu_inject::host::{Host, Look, can_be_rootfs, policy};
pub use gpu_inject::policy::Policy;
pub use gpu_inject::request::{Imex, Request, Visible};
pub use gpu_inject::{Edits, Error, live, oci};
