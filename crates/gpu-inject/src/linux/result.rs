//! What a system call returns, as a result.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = done(result)?;
    // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn done(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}
