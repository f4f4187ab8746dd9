//! Names in a directory, read into room of our own: the C library's directory streams ask for memory, and the kernel for more than is
//! used.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

/// What is read at a time: thirty names and more, a container's /dev.
const ROOM: usize = 2048;

/// Hands on each name in the directory but `.` and `..`, and what it is as far as the directory says, until `take` returns false.
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
        // By a descriptor that is read from the start each time.
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
