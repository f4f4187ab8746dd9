//! Makes mounts in a container by mount(2), for kernels without the mount API of Linux 5.2.
//!
//! mount(2) cannot make a detached mount, and can set flags only on an attached one. So a mount is first made in a
//! tmpfs of our own, which no other process uses, gets its flags there, and is then moved to its mount point. It is
//! never visible there without its flags. The tmpfs is attached to the root of the container, which runs nothing yet,
//! and is detached at the end. All paths are names in our `fd` directory in procfs, so no path of an image is
//! resolved.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::fchdir;

use super::calls::create;
use super::handle::Rootfs;
use crate::linux::mount_api::{NODEV, NOEXEC, NOSUID, RDONLY};
use crate::linux::namespace::Apart;

/// Names of the mount points in the tmpfs.
const FILE: &str = "file";
const DIRECTORY: &str = "directory";
const NONE: Option<&str> = None;

/// A tmpfs in which mounts are made; detached when dropped.
pub(crate) struct Stage<'r> {
    rootfs: &'r Rootfs,
    tmpfs: OwnedFd,
}

impl<'r> Stage<'r> {
    /// Makes a tmpfs of at most `size` bytes, `nosuid,nodev,noexec`. The argument of type [`Apart`] proves that the
    /// current mount namespace is not the host's.
    pub(crate) fn new(_: Apart, rootfs: &'r Rootfs, size: u64) -> io::Result<Self> {
        let root = rootfs.root()?;
        rootfs.ensure_private(&root)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = format!("mode=0755,size={size}");
        by_number(rootfs)?;
        mount(
            Some("tmpfs"),
            name(&root).as_str(),
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )?;
        let tmpfs = attached(root.as_fd(), rootfs).map_err(|e| {
            let e = io::Error::from(e);
            io::Error::other(format!(
                "the tmpfs that was attached to the container's root is not found again: {e}"
            ))
        })?;
        let stage = Self { rootfs, tmpfs };
        mount(
            NONE,
            name(&stage.tmpfs).as_str(),
            NONE,
            MsFlags::MS_PRIVATE,
            NONE,
        )?;
        create(stage.dir(), FILE.as_ref(), 0o600)?;
        mkdirat(stage.dir(), DIRECTORY, Mode::from_bits_truncate(0o700))?;
        Ok(stage)
    }

    /// Its directory, for a file that is to be mounted.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.tmpfs.as_fd()
    }

    /// Makes a private mount of this file or directory with these flags and those of its own mount, and attaches it at
    /// `target`. Returns its descriptor.
    pub(crate) fn mount(
        &self,
        source: BorrowedFd<'_>,
        flags: u64,
        target: BorrowedFd<'_>,
    ) -> io::Result<OwnedFd> {
        by_number(self.rootfs)?;
        let is_dir = fstat(source)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let place = if is_dir { DIRECTORY } else { FILE };
        let at = open(self.dir(), place)?;
        let (from, to) = (name(&source), name(&at));
        mount(
            Some(from.as_str()),
            to.as_str(),
            NONE,
            MsFlags::MS_BIND,
            NONE,
        )?;
        let made = open(self.dir(), place)?;
        let made_name = name(&made);
        let flags = remount_flags(flags, fstatvfs(&made)?.flags());
        mount(NONE, made_name.as_str(), NONE, flags, NONE)?;
        mount(NONE, made_name.as_str(), NONE, MsFlags::MS_PRIVATE, NONE)?;
        mount(
            Some(made_name.as_str()),
            name(&target).as_str(),
            NONE,
            MsFlags::MS_MOVE,
            NONE,
        )?;
        Ok(made)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Detaches also the mounts that an error has left attached below it.
        let _ = self.rootfs.detach(self.tmpfs.as_fd());
    }
}

/// The flags for a remount that sets these flags and keeps those of the file system.
pub(crate) fn remount_flags(wanted: u64, current: FsFlags) -> MsFlags {
    let mut all = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    for (one, of_file_system, flag) in [
        (RDONLY, FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (NOSUID, FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (NODEV, FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (NOEXEC, FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        all.set(flag, wanted & one != 0 || current.contains(of_file_system));
    }
    all
}

/// Makes our `fd` directory the working directory: from here on a descriptor's number is its path.
fn by_number(rootfs: &Rootfs) -> nix::Result<()> {
    fchdir(rootfs.descriptors().ok_or(Errno::ENOENT)?)
}

fn name(fd: &impl AsFd) -> String {
    fd.as_fd().as_raw_fd().to_string()
}

fn open(dir: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::empty())
}

/// Opens what was attached on top of `root`. The descriptor of `root` leads below that mount, so the directory is
/// opened again by its name in the parent directory, which is the host's.
fn attached(root: BorrowedFd<'_>, rootfs: &Rootfs) -> nix::Result<OwnedFd> {
    let descriptors = rootfs.descriptors().ok_or(Errno::ENOENT)?;
    let path = fcntl::readlinkat(descriptors, name(&root).as_str())?;
    let last = Path::new(&path).file_name().ok_or(Errno::ENOENT)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let above = fcntl::openat(root, "..", flags, Mode::empty())?;
    let top = fcntl::openat(&above, last, flags, Mode::empty())?;
    let is_other = fstat(&top)?.st_dev != fstat(root)?.st_dev;
    if is_other && fstatfs(&top)?.filesystem_type() == TMPFS_MAGIC {
        Ok(top)
    } else {
        Err(Errno::ESTALE)
    }
}
