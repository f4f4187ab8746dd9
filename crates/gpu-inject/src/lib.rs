//! From what a container asks for to the edits that give it, and two ways to
//! carry the same edits out: in the OCI spec before the low-level runtime reads
//! it, and in the namespaces of a container that already exists.
//!
//! This crate is the security boundary. Everything below a container's root
//! file system is hostile: it is reached through [`rootfs`] alone, by descriptor,
//! never by a path string. unsafe is in `live/sys.rs` and nowhere else.
#![deny(unsafe_code)]

mod compat;
pub mod describe;
pub mod edits;
mod elf;
pub mod error;
mod folders;
#[doc(hidden)]
pub mod fuzzing;
pub mod generate;
pub mod inventory_store;
pub mod ldcache;
pub mod live;
mod musl;
pub mod plan;
pub mod policy;
pub mod prepare;
mod profile;
pub mod request;
pub mod requirements;
pub mod rootfs;
pub mod spec;
pub mod state;

pub use edits::{COMPAT_ROOT, CudaCompat, Edits, Library, Mount, MountKind, Mounted};
pub use error::{Error, Excerpt, Message};
