//! What to do about an error of the system, chosen by its error number.

use std::io::{self, ErrorKind};

use crate::host::limits;

/// What to do about the error; `None` if its number does not show that.
pub fn of(error: &io::Error) -> Option<String> {
    if limits::is_of_open_files(&error.to_string()) {
        return Some(limits::open_files_fix().into());
    }
    let fix = match error.kind() {
        ErrorKind::OutOfMemory => limits::memory_fix(),
        ErrorKind::StorageFull => "make room on that file system",
        ErrorKind::ReadOnlyFilesystem => {
            "that file system is read-only: `mount -o remount,rw` it first"
        }
        ErrorKind::PermissionDenied if nix::unistd::geteuid().is_root() => {
            "even root may not: look at `lsattr`, and at what SELinux or AppArmor logs"
        }
        ErrorKind::PermissionDenied => "run it with sudo",
        _ => return None,
    };
    Some(fix.into())
}

/// The same for an operation on a file. The limit on the size of files concerns only writing.
pub fn of_file(error: &io::Error, what: &str) -> Option<String> {
    if limits::is_of_size(error, what) {
        return Some(limits::size_fix());
    }
    of(error).or_else(|| match error.kind() {
        ErrorKind::InvalidData
        | ErrorKind::InvalidInput
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::FileTooLarge => {
            Some("put a plain text file there, or remove what is there".into())
        }
        _ => None,
    })
}
