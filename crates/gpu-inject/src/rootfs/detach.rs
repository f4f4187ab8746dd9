//! Unmounting from the container's root file system, by descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::handle::Rootfs;

impl Rootfs {
    /// Detaches a mount. umount2(2) takes no descriptor, so it is named by way of procfs, which changes the working directory.
    pub(crate) fn detach(&self, mount: BorrowedFd<'_>) -> nix::Result<()> {
        nix::unistd::fchdir(self.descriptors().ok_or(Errno::ENOENT)?)?;
        umount2(mount.as_raw_fd().to_string().as_str(), MntFlags::MNT_DETACH)
    }
}
