//! Finds the libraries in directories of a container, with the SONAMEs in their files.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::elf::Object;
use crate::edits::Library;
use crate::rootfs::Rootfs;

/// Maximum names that are read in a directory; Debian's has a few thousand with a desktop.
const MAX_NAMES: usize = 8192;

/// Every shared object that is a regular file. If several in one directory have the same SONAME,
/// only the newest by the numbers in its name, as with ldconfig(8).
pub(crate) fn libraries(rootfs: &Rootfs, directories: &[PathBuf]) -> Vec<Library> {
    let mut libraries: Vec<Library> = Vec::new();
    for dir in directories {
        let mut names: Vec<OsString> = rootfs.names(dir, MAX_NAMES);
        names.sort_by_key(|name| Reverse(numbers(name)));
        let mut seen = HashSet::new();
        for one in names
            .iter()
            .filter_map(|name| library(rootfs, dir, name.to_str()?))
        {
            if seen.insert((one.soname.clone(), one.compat32)) {
                libraries.push(one);
            }
        }
    }
    libraries
}

fn library(rootfs: &Rootfs, dir: &Path, name: &str) -> Option<Library> {
    let is_library = name.starts_with("lib") && name.contains(".so");
    let path = dir.join(name);
    if !is_library {
        return None;
    }
    let file = rootfs.open_plain_file(&path)?;
    let object = Object::open(&file)?;
    Some(Library {
        soname: object.soname().unwrap_or_else(|| name.to_owned()),
        compat32: object.is_32(),
        path,
    })
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
        let libraries = libraries(&rootfs, &["/".into(), "/none".into()]);
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
}
