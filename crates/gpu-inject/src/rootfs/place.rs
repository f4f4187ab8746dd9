//! Places in a container: directories of its own, and what can be mounted on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;

use super::walk::Trouble;

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For a file, socket or device node.
    File,
    /// For a directory.
    Directory,
}

/// Which mount something is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The container's root mount.
    Root,
    /// Another that only the container has.
    Own,
    /// Something else, by its number.
    Other(u64),
}

/// What can be mounted on.
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

/// A directory of the container's own.
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
