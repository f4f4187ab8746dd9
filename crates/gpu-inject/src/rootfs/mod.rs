//! A container's root file system, which is hostile.
//!
//! Every path of a container is resolved here and nowhere else, from a descriptor of the
//! root (`resolve`). A link in the image, absolute or with any number of `..`, leads to a
//! place in the image; what is used is the descriptor, never the path again. A file is
//! looked at before it is opened: an image may have a device node or a FIFO of any name.
//! Nothing is made on file systems of the kernel's own, where a new directory can be a
//! new cgroup and writing a file a command, nor in a volume (`owner`).

mod calls;
mod detach;
mod elsewhere;
mod entries;
mod handle;
mod look;
mod make;
mod owner;
mod place;
mod resolve;
mod table;
mod walk;
mod write;

pub(crate) use calls::is_unwritable;
pub(crate) use elsewhere::{Elsewhere, of_io};
pub(crate) use handle::resolve_both;
pub use handle::{Rootfs, own_descriptors};
pub use place::{Kind, MountPlace};
pub(crate) use write::Content;
pub use write::Linked;

#[cfg(test)]
mod bound_tests;
#[cfg(test)]
mod mounted_tests;
#[cfg(test)]
mod tests;
