//! From what a container asks for to the edits that give it, and two ways to
//! carry the same edits out: in the OCI spec before the low-level runtime reads
//! it, and in the namespaces of a container that already exists.
//!
//! This crate is the security boundary. Everything below a container's root
//! file system is hostile: it is reached through `rootfs` alone, by descriptor,
//! never by a path string.

pub mod edits;

pub use edits::{Edits, Library, Mount, MountKind};
