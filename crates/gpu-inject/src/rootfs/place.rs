//! Resolved directories and mount points in a container, with the mount that each is on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;

use super::walk::Trouble;

/// The type that a mount point must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPointKind {
    /// For a file, socket or device node.
    File,
    /// For a directory.
    Directory,
}

/// The mount that a file or directory is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The container's root mount.
    Root,
    /// Another mount that only the container has.
    Own,
    /// Any other mount, by its ID.
    Other(u64),
}

/// A mount point.
#[derive(Debug)]
pub struct MountPlace {
    pub(crate) fd: OwnedFd,
    pub(crate) on: On,
}

impl AsFd for MountPlace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A directory in which entries may be made.
#[derive(Clone, Debug)]
pub(super) struct Dir {
    pub(super) fd: Rc<OwnedFd>,
    pub(super) on: On,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    pub(super) fn on_root(fd: OwnedFd) -> Self {
        Self {
            fd: Rc::new(fd),
            on: On::Root,
        }
    }

    pub(super) fn into_place(self) -> Result<MountPlace, Trouble> {
        Ok(MountPlace {
            fd: Rc::into_inner(self.fd).ok_or(Errno::EBADF)?,
            on: self.on,
        })
    }
}
