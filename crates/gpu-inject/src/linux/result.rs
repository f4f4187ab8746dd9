//! Converts the return value of a system call to a `Result`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = io_result(result)?;
    // SAFETY: the system call has just returned this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn io_result(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}
