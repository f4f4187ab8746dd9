//! Reads the names in a directory into a buffer on the stack: the C library's directory streams allocate memory, and
//! read more from the kernel than is used.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

/// Size of the buffer: it holds some thirty names, enough for a container's /dev.
const ROOM: usize = 2048;

/// Passes each name in the directory except `.` and `..`, with its type as far as the directory has it, to `take`,
/// until `take` returns false.
pub(super) fn each(
    dir: &OwnedFd,
    mut take: impl FnMut(&OsStr, FileType) -> bool,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(dir, ".", flags, Mode::empty())?;
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut entries = RawDir::new(dir, &mut room);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !take(OsStr::from_bytes(name), entry.file_type()) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs::{self, File};

    use super::*;

    fn names(dir: &OwnedFd, most: usize) -> Vec<OsString> {
        let mut names = Vec::new();
        let done = each(dir, |name, _| {
            let takes = names.len() < most;
            if takes {
                names.push(name.to_owned());
            }
            takes
        });
        done.unwrap();
        names
    }

    #[test]
    fn each_name_comes_once_however_many_there_are_and_no_more_than_are_wanted() {
        let made = tempfile::tempdir().unwrap();
        let wanted: BTreeSet<OsString> =
            (0..3 * ROOM / 24).map(|n| format!("f{n}").into()).collect();
        for name in &wanted {
            fs::write(made.path().join(name), "").unwrap();
        }
        let dir = OwnedFd::from(File::open(made.path()).unwrap());
        let entries = names(&dir, usize::MAX);
        assert_eq!(entries.len(), wanted.len());
        assert_eq!(entries.into_iter().collect::<BTreeSet<_>>(), wanted);
        for most in [0, 1, 7] {
            assert_eq!(names(&dir, most).len(), most);
        }
        // Opens a new descriptor, so that the directory is read from its start each time.
        assert_eq!(names(&dir, usize::MAX).len(), wanted.len());
    }

    #[test]
    fn the_longest_name_fits_and_what_is_no_directory_is_an_error() {
        let made = tempfile::tempdir().unwrap();
        let long = "x".repeat(255);
        fs::write(made.path().join(&long), "").unwrap();
        let dir = OwnedFd::from(File::open(made.path()).unwrap());
        assert_eq!(names(&dir, 9), [long.as_str()]);
        let file = OwnedFd::from(File::open(made.path().join(&long)).unwrap());
        assert_eq!(each(&file, |_, _| true), Err(Errno::NOTDIR));
    }

    #[test]
    fn a_name_comes_with_what_it_is() {
        let made = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", made.path().join("link")).unwrap();
        let dir = OwnedFd::from(File::open(made.path()).unwrap());
        let mut kinds = Vec::new();
        each(&dir, |_, kind| {
            kinds.push(kind);
            true
        })
        .unwrap();
        assert_eq!(kinds, [FileType::Symlink]);
    }
}
