//! Descriptors that a process is started with, of another process, or no longer wanted.

use std::io;
use std::os::fd::OwnedFd;

use super::result::owned;

/// A descriptor of our own for the one of that number, which we were started with.
pub(crate) fn inherited(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes numbers only; it fails where `fd` is none.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) }.into())
}

/// A descriptor of the process of that number in our pid namespace.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Closes every descriptor from 3 on. For the start of a program that has opened none yet.
pub(crate) fn close_inherited() {
    // SAFETY: close_range(2) takes three numbers; nothing here owns a descriptor it closes.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if done == 0 {
        return;
    }
    // Before Linux 5.9. More than a thousand are nobody's mistake.
    for fd in 3..1024 {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}
