//! Takes over or closes inherited descriptors, and opens descriptors of other processes.

use std::io;
use std::os::fd::OwnedFd;

use super::result::owned;

/// Duplicates the inherited descriptor with this number, so that the copy is owned.
pub(crate) fn inherited(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes numbers only; it fails if `fd` is not open.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) }.into())
}

/// Opens the process with this number in our PID namespace.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Closes every descriptor from 3 on. Must be called before the program has opened any.
pub(crate) fn close_inherited() {
    // SAFETY: close_range(2) takes three numbers; no value in this process owns one of these descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if done == 0 {
        return;
    }
    // Linux before 5.9 has no close_range(2). Nobody leaks more than a thousand descriptors by mistake.
    for fd in 3..1024 {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}
