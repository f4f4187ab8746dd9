//! From what a container asks for to the edits that give it, and two ways to
//! carry the same edits out: in the OCI spec before the low-level runtime reads
//! it, and in the namespaces of a container that already exists.
//!
//! This crate is the security boundary. Everything below a container's root
//! file system is hostile: it is reached through [`rootfs`] alone, by descriptor,
//! never by a path string. unsafe is in `linux/` and nowhere else.
#![deny(unsafe_code)]

mod capability_list;
pub mod driver_params;
pub mod edits;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod generate;
pub mod host;
mod linux;
pub mod live;
pub mod oci;
pub mod plan;
pub mod policy;
pub mod request;
pub mod rootfs;
pub mod rootfs_edits;

pub use edits::{COMPAT_ROOT, CudaCompat, Edits, Library, Mount, MountKind, Mounted};
pub use error::{Error, Excerpt, Message};
