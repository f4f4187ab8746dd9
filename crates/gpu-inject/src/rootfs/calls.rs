//! System calls that take a directory's descriptor and a name, and conversion of their errors.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{self, UnlinkatFlags};

use super::walk::Trouble;
use crate::error::Error;

/// Number of names tried for a temporary file. An image may have taken some of them.
pub(super) const TEMPORARY_NAMES: u32 = 64;

/// Whether the error means that nobody can write there: the file system is read-only or full, the
/// file is immutable or a mount point, or its owner is not mapped in our user namespace.
pub(crate) fn is_unwritable(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EROFS
            | Errno::EPERM
            | Errno::EACCES
            | Errno::EOVERFLOW
            | Errno::ENOSPC
            | Errno::EDQUOT
            // The file would exceed our own limit or that of the file system.
            | Errno::EFBIG
            | Errno::EBUSY
    )
}

pub(super) fn kind(fd: &OwnedFd) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT)
}

pub(super) fn is_dir(fd: &OwnedFd) -> nix::Result<bool> {
    Ok(kind(fd)? == SFlag::S_IFDIR)
}

pub(super) fn open_no_follow(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::empty())
}

pub(super) fn create(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> nix::Result<OwnedFd> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::from_bits_truncate(mode))
}

pub(super) fn replace(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> nix::Result<()> {
    fcntl::renameat(dir, from, dir, to).inspect_err(|_| remove(dir, from))
}

pub(super) fn remove(dir: BorrowedFd<'_>, name: &OsStr) {
    let _ = unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir);
}

/// Makes an entry under a temporary name that does not exist yet.
pub(super) fn with_temporary<T>(
    name: &OsStr,
    make: impl Fn(&OsStr) -> nix::Result<T>,
) -> nix::Result<(OsString, T)> {
    // The process number keeps two hooks in one root file system from choosing the same names.
    static PID: OnceLock<u32> = OnceLock::new();
    let pid = PID.get_or_init(std::process::id);
    for n in 0..TEMPORARY_NAMES {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{pid}.{n}"));
        match make(&temporary) {
            Err(Errno::EEXIST) => {}
            other => return other.map(|made| (temporary, made)),
        }
    }
    Err(Errno::EEXIST)
}

/// The path is copied where something failed, and not each time that it could.
pub(super) fn failed<T: Into<Trouble>>(path: &Path, what: &'static str) -> impl FnOnce(T) -> Error {
    move |trouble| Error::Rootfs {
        path: path.to_owned(),
        what,
        source: match trouble.into() {
            Trouble::System(errno) => errno.into(),
            Trouble::Elsewhere(why) => io::Error::other(why),
            Trouble::TooMuch(bound) => io::Error::other(bound),
        },
    }
}

pub(super) fn io_failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Rootfs {
        path: path.to_owned(),
        what,
        source,
    }
}
