//! A mount taken off the container's root file system again.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::handle::Rootfs;

impl Rootfs {
    /// umount2(2) takes no descriptor. Changes the working directory.
    pub(crate) fn detach(&self, mount: BorrowedFd<'_>) -> nix::Result<()> {
        nix::unistd::fchdir(self.own().ok_or(Errno::ENOENT)?)?;
        umount2(mount.as_raw_fd().to_string().as_str(), MntFlags::MNT_DETACH)
    }
}
