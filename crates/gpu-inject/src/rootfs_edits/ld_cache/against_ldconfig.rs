//! Compares our cache with that of the real `ldconfig` for the same random trees: every name must
//! lead to the same file. Only the first entry of each name is compared, in the order in which the
//! loader searches, because the loader uses that one.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use skips::Need;

use crate::rootfs::Rootfs;
use crate::rootfs_edits::elf::tests::object;
use crate::rootfs_edits::refresh_cache;

const LDCONFIG: &str = "/sbin/ldconfig";
const IMAGE: [&str; 4] = [
    "/usr/lib",
    "/opt/image",
    "/usr/lib/glibc-hwcaps/x86-64-v2",
    "/usr/lib/glibc-hwcaps/x86-64-v3",
];
const OURS: [&str; 2] = ["/usr/lib/driver", "/usr/lib64/driver"];
/// Names whose order in the cache is not that of their bytes.
const STEMS: [&str; 6] = ["liba", "liba1", "liba10", "liba9", "liba-x", "libab"];

/// A library: index of its directory, index of its stem, number of its SONAME, and its version.
type LibraryFile = (usize, usize, u8, u8);

fn files(directories: usize) -> impl Strategy<Value = Vec<LibraryFile>> {
    let one = (0..directories, 0..STEMS.len(), 0u8..11, 0u8..12);
    proptest::collection::vec(one, 0..14)
}

fn put(root: &Path, directories: &[&str], files: &[LibraryFile]) {
    for (dir, stem, soname, version) in files {
        let dir = root.join(directories[*dir].trim_start_matches('/'));
        fs::create_dir_all(&dir).unwrap();
        let soname = format!("{}.so.{soname}", STEMS[*stem]);
        let content = object(&soname, None);
        fs::write(dir.join(format!("{soname}.{version}")), content).unwrap();
    }
}

fn ldconfig(root: &Path) {
    let out = Command::new(LDCONFIG).arg("-r").arg(root).output().unwrap();
    assert!(out.status.success());
}

/// An image with these libraries and a cache that ldconfig wrote.
fn image(files: &[LibraryFile]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("etc/ld.so.conf.d")).unwrap();
    let conf = "include /etc/ld.so.conf.d/*.conf\n/opt/image\n";
    fs::write(dir.path().join("etc/ld.so.conf"), conf).unwrap();
    put(dir.path(), &IMAGE, files);
    ldconfig(dir.path());
    dir
}

/// The first entry of each name and kind as (name, kind, file), with links followed.
fn first_of_each(root: &Path) -> Vec<(String, String, String)> {
    let out = Command::new(LDCONFIG)
        .args(["-p", "-C"])
        .arg(root.join("etc/ld.so.cache"))
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut seen = HashSet::new();
    text.lines()
        .filter_map(|line| {
            let (before, path) = line.trim().split_once(" => ")?;
            let (name, kind) = before.split_once(" (")?;
            let path = root.join(path.trim_start_matches('/'));
            let file = path.canonicalize().unwrap();
            let file = file.strip_prefix(root).unwrap().display().to_string();
            Some((name.to_owned(), kind.to_owned(), file))
        })
        .filter(|(name, kind, _)| seen.insert((name.clone(), kind.clone())))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_name_leads_to_the_same_file(image_files in files(4), ours in files(2)) {
        if !skips::has(&[Need::Root, Need::Ldconfig, Need::X86]) {
            return Ok(());
        }
        let (by_us, by_ldconfig) = (image(&image_files), image(&image_files));
        for root in [&by_us, &by_ldconfig] {
            for dir in OURS {
                fs::create_dir_all(root.path().join(dir.trim_start_matches('/'))).unwrap();
            }
            put(root.path(), &OURS, &ours);
        }
        let rootfs = Rootfs::open(by_us.path()).unwrap();
        refresh_cache(&rootfs, &OURS.map(PathBuf::from)).unwrap();
        prop_assert!(rootfs.notes().is_empty());
        let conf = by_ldconfig.path().join("etc/ld.so.conf.d/00-gpu-container.conf");
        fs::write(conf, OURS.join("\n")).unwrap();
        ldconfig(by_ldconfig.path());

        let our_names: HashSet<String> = ours
            .iter()
            .map(|(_, stem, soname, _)| format!("{}.so.{soname}", STEMS[*stem]))
            .collect();
        // One difference is intended: an image's copy for a newer CPU does not precede the driver's.
        let mut expected = first_of_each(by_ldconfig.path());
        expected.retain(|(name, kind, _)| !(our_names.contains(name) && kind.contains("hwcap")));
        prop_assert_eq!(first_of_each(by_us.path()), expected);
        // A later ldconfig in the container gives the same result.
        ldconfig(by_us.path());
        prop_assert_eq!(first_of_each(by_us.path()), first_of_each(by_ldconfig.path()));
    }
}
