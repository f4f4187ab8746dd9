//! Finds the libraries in directories of a container, with the SONAMEs in their files.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::elf::Object;
use crate::edits::Library;
use crate::error::Error;
use crate::rootfs::Rootfs;

/// Maximum libraries of one directory: an image with everything of a distribution installed has some twenty thousand.
const MAX_LIBRARIES: usize = 1 << 16;

/// Every shared object that is a regular file. If several in one directory have the same SONAME,
/// only the newest by the numbers in its name, as with ldconfig(8).
pub(crate) fn libraries(rootfs: &Rootfs, directories: &[PathBuf]) -> Result<Vec<Library>, Error> {
    let mut libraries: Vec<Library> = Vec::new();
    for dir in directories {
        let mut names = rootfs.names_of(dir, MAX_LIBRARIES, is_library)?;
        names.sort();
        names.sort_by_key(|name| Reverse(numbers(name)));
        let mut sonames = HashSet::new();
        for name in names.iter().filter_map(|name| name.to_str()) {
            if let Some(one) = library(rootfs, dir, name)?
                && sonames.insert((one.soname.clone(), one.compat32))
            {
                libraries.push(one);
            }
        }
    }
    Ok(libraries)
}

fn is_library(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"lib") && name.windows(3).any(|part| part == b".so")
}

/// `None` if it is not a library. A file that cannot be read is an error, because it could be the driver's.
fn library(rootfs: &Rootfs, dir: &Path, name: &str) -> Result<Option<Library>, Error> {
    let path = dir.join(name);
    let Some(file) = rootfs.open_plain_file(&path)? else {
        return Ok(None);
    };
    let failed = |source| Error::Rootfs {
        path: path.clone(),
        what: "read",
        source,
    };
    let Some(object) = Object::open(&file).map_err(failed)? else {
        return Ok(None);
    };
    let (soname, compat32) = (object.soname(), object.is_32());
    if let Some(failure) = object.into_failure() {
        return Err(failed(failure));
    }
    Ok(Some(Library {
        soname: soname.unwrap_or_else(|| name.to_owned()),
        compat32,
        path,
    }))
}

/// The numbers in a file name after `.so.`.
fn numbers(name: &OsString) -> Vec<u64> {
    let name = name.to_string_lossy();
    let version = name.split_once(".so.").map_or("", |(_, v)| v);
    version.split('.').map_while(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs_edits::elf::tests::object;

    #[test]
    fn files_are_named_by_their_soname_and_the_newest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        put("libcuda.so.9.1", &object("libcuda.so.1", None));
        put("libcuda.so.10.1", &object("libcuda.so.1", None));
        put("libx.so", &object("", None));
        put("libempty.so.1", b"");
        put("libtext.so.1", &[b'x'; 100]);
        put("other.so", &object("other.so.1", None));
        std::os::unix::fs::symlink("libcuda.so.9.1", dir.path().join("libcuda.so.1")).unwrap();
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let libraries = libraries(&rootfs, &["/".into(), "/none".into()]).unwrap();
        let names: Vec<_> = libraries
            .iter()
            .map(|l| (l.path.to_str().unwrap(), l.soname.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("/libcuda.so.10.1", "libcuda.so.1"),
                ("/libx.so", "libx.so"),
            ]
        );
    }

    /// A directory of an image can have ten thousand files in any order, of which few are libraries.
    #[test]
    fn files_that_are_no_libraries_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..9000 {
            std::fs::write(dir.path().join(format!("data{n}")), "").unwrap();
        }
        for n in 0..300 {
            let name = format!("libdriver{n}.so.1");
            std::fs::write(dir.path().join(&name), object(&name, None)).unwrap();
        }
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let libraries = libraries(&rootfs, &["/".into()]).unwrap();
        assert_eq!(libraries.len(), 300);
    }

    #[test]
    fn a_directory_with_more_than_are_looked_at_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..5 {
            std::fs::write(dir.path().join(format!("lib{n}.so")), "").unwrap();
        }
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let names = |most| rootfs.names_of(Path::new("/"), most, is_library);
        assert_eq!(names(5).unwrap().len(), 5);
        let refused = names(4).unwrap_err().to_string();
        assert!(refused.contains("more than 4 names"), "{refused}");
    }
}
