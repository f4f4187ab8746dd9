//! Access to a container's root file system, which is treated as hostile.
//!
//! Only this module resolves paths in a container, always from a descriptor of the root
//! (`resolve`). A link in the image, be it absolute or with any number of `..`, leads to a path in
//! the image. Afterwards only the descriptor is used, never the path again. A file's type is
//! checked before it is opened, since an image may have a device node or a FIFO of any name.
//! Nothing is made on the kernel's own file systems, where a new directory can be a new cgroup and
//! writing a file can be a command, and nothing is made in a volume (`owner`).

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
mod stage;
mod table;
mod walk;
mod write;

pub(crate) use calls::is_unwritable;
pub(crate) use elsewhere::{Elsewhere, of_io};
pub(crate) use handle::resolve_both;
pub use handle::{Rootfs, own_descriptors};
pub use place::{MountPlace, MountPointKind};
pub(crate) use stage::{Stage, remount_flags};
pub use write::Linked;
pub(crate) use write::{Bounded, Content};

#[cfg(test)]
mod bound_tests;
#[cfg(test)]
mod mounted_tests;
#[cfg(test)]
mod tests;
