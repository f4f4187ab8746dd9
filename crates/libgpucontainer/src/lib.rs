//! GPUs for containers, as a library: reads the host's inventory and a container's request, plans the
//! edits, and applies them to an OCI config or to an existing container.
//!
//! ```
//! use gpucontainer::{GpuHost, Inventory, Policy, Request};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), gpucontainer::Error> {
//! // `GpuHost::load` reads the running host; this inventory is an example.
//! let inventory = Inventory {
//!     driver: Some(Default::default()),
//!     ..Inventory::default()
//! };
//! let host = GpuHost::of(inventory, Policy::default());
//!
//! let mut config = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}});
//! let request = host.request_of(&config)?;
//! let edits = host.plan(&request)?;
//! gpucontainer::oci::apply_to_value(&mut config, &edits, "/usr/bin/gpu-container-hook".as_ref())?;
//!
//! // Keeps a hook or an engine further down from injecting GPUs a second time.
//! assert_eq!(config["process"]["env"][0], "NVIDIA_VISIBLE_DEVICES=void");
//! # Ok(())
//! # }
//! ```
//!
//! [`capi`] is the same library for C: `libgpucontainer.so.1` and `gpucontainer.h`.
#![deny(unsafe_code)]

pub mod capi;

pub use cdi;
pub use gpu_host::{Capabilities, Capability, Inventory};
pub use gpu_inject::host::{GpuHost, HostOptions, can_be_rootfs, policy};
pub use gpu_inject::policy::Policy;
pub use gpu_inject::request::{Imex, Request, Visible};
pub use gpu_inject::{Edits, Error, live, oci};
