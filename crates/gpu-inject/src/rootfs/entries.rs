//! Names in a directory, read into room of our own: the C library's directory streams ask for memory, and the kernel for more than is
//! used.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};

/// What is read at a time: thirty names and more, a container's /dev.
const ROOM: usize = 2048;

/// Hands on each name in the directory but `.` and `..`, and what it is as far as the directory says; no more than `most` of them.
/// Nothing where it cannot be read.
pub(super) fn each(dir: &OwnedFd, most: usize, mut take: impl FnMut(&OsStr, FileType)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = openat(dir, ".", flags, Mode::empty()) else {
        return;
    };
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut entries = RawDir::new(dir, &mut room);
    let mut left = most;
    while let (1.., Some(Ok(entry))) = (left, entries.next()) {
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            take(OsStr::from_bytes(name), entry.file_type());
            left -= 1;
        }
    }
}
