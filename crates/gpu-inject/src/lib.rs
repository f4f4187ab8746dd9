//! Turns a container's request for GPUs into edits, and applies those edits in one of two ways:
//! to the OCI config before the low-level runtime reads it, or inside the namespaces of a
//! container that already exists.
//!
//! This crate is the security boundary. Everything below a container's root file system is
//! hostile. It is accessed only through [`rootfs`], by descriptor and never by a path string.
//! Unsafe code is only in `linux/`.
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

pub use edits::{BindMount, COMPAT_ROOT, CudaCompat, Edits, Library, MountKind, Mounted};
pub use error::{Error, Excerpt, KindRule, Message, MigControlFault};
