//! Tests that the work an image can cause is bounded.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::make::MAX_KNOWN;
use super::resolve::Resolver;
use super::walk::{Bound, MAX_MADE, MAX_OPEN, MAX_PARTS};
use super::*;
use crate::error::Error;

fn image() -> (tempfile::TempDir, Rootfs) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
    let rootfs = Rootfs::open(dir.path()).unwrap();
    (dir, rootfs)
}

fn bound<T: std::fmt::Debug>(done: Result<T, Error>) -> Option<Bound> {
    match done {
        Err(Error::Rootfs { source, .. }) => source.get_ref()?.downcast_ref().copied(),
        other => panic!("{other:?}"),
    }
}

/// Number of open descriptors of files below this directory. Tests run in parallel, so others are not counted.
fn descriptors(of: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let leads = |e: io::Result<fs::DirEntry>| fs::read_link(e.ok()?.path()).ok();
    open.filter_map(leads)
        .filter(|to| to.starts_with(of))
        .count()
}

/// Makes a chain of links, each of which leads to the next by a long detour, as a hostile image
/// could have it.
fn chain(dir: &Path, links: usize, detour: &str) {
    for n in 0..links {
        let target = format!("/usr/lib/{detour}l{}", n + 1);
        symlink(target, dir.join(format!("usr/lib/l{n}"))).unwrap();
    }
}

#[test]
fn a_path_that_takes_too_many_steps_is_refused() {
    let (dir, rootfs) = image();
    chain(dir.path(), 30, &"./m/../".repeat(200));
    fs::create_dir(dir.path().join("usr/lib/m")).unwrap();
    let point = |path: &str| rootfs.mount_point(Path::new(path), MountPointKind::File);
    assert_eq!(bound(point("/usr/lib/l0")), Some(Bound::Parts));
    point("/usr/lib/l25").unwrap();
    assert!(dir.path().join("usr/lib/l30").is_file());
    let deep = "d/".repeat(MAX_OPEN + 10);
    fs::create_dir_all(dir.path().join(&deep)).unwrap();
    symlink(format!("/{deep}missing"), dir.path().join("usr/lib/deep")).unwrap();
    assert_eq!(bound(point("/usr/lib/deep")), Some(Bound::Open));
    chain(&dir.path().join("usr/lib/m"), 0, "");
    for n in 0..60 {
        symlink(format!("/a{}", n + 1), dir.path().join(format!("a{n}"))).unwrap();
    }
    assert_eq!(bound(point("/a0")), Some(Bound::Links));
}

/// Many libraries, each a link by a detour that is short enough by itself.
#[test]
fn paths_that_together_take_too_many_steps_are_refused() {
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let (dir, mut rootfs) = image();
        rootfs.resolver = resolver;
        fs::create_dir(dir.path().join("usr/lib/m")).unwrap();
        let way = "m/../".repeat(MAX_PARTS as usize / 2 / 3 - 10);
        for n in 0..200 {
            let end = if n == 0 {
                "gone".into()
            } else {
                format!("x{n}")
            };
            for (from, to) in [("x", "y"), ("y", "z")] {
                let target = format!("/usr/lib/{way}{to}{n}");
                symlink(target, dir.path().join(format!("usr/lib/{from}{n}"))).unwrap();
            }
            symlink(end, dir.path().join(format!("usr/lib/z{n}"))).unwrap();
        }
        let started = std::time::Instant::now();
        let all: Vec<_> = (0..200)
            .map(|n| {
                rootfs.mount_point(
                    &PathBuf::from(format!("/usr/lib/x{n}")),
                    MountPointKind::File,
                )
            })
            .collect();
        let refused = all.into_iter().filter_map(Result::err);
        let steps = refused.filter(|e| bound::<()>(Err(clone(e))) == Some(Bound::Steps));
        assert!(steps.count() > 0);
        println!("{resolver:?}: {:?}", started.elapsed());
        assert!(started.elapsed().as_secs() < 30);
    }
}

fn clone(error: &Error) -> Error {
    let Error::Rootfs { path, what, source } = error else {
        panic!("{error}");
    };
    let inner: Option<&Bound> = source.get_ref().and_then(|e| e.downcast_ref());
    Error::Rootfs {
        path: path.clone(),
        what,
        source: inner.map_or_else(|| io::Error::other("other"), |b| io::Error::other(*b)),
    }
}

#[test]
fn the_number_of_directories_that_are_made_is_bounded() {
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let (dir, mut rootfs) = image();
        rootfs.resolver = resolver;
        let before = descriptors(dir.path());
        // Each link needs more directories; an earlier version took quadratic time for this and two descriptors for each.
        for n in 0..40 {
            let target = format!("/{}", format!("new{n}/").repeat(30));
            symlink(target, dir.path().join(format!("usr/lib/l{n}"))).unwrap();
        }
        let made: Vec<_> = (0..40)
            .map(|n| rootfs.make_dir(&PathBuf::from(format!("/usr/lib/l{n}/x"))))
            .collect();
        let refused = made.into_iter().find(Result::is_err).unwrap();
        assert_eq!(bound(refused), Some(Bound::Made));
        assert!(descriptors(dir.path()) - before <= MAX_MADE + MAX_KNOWN + 10);
        rootfs.roll_back();
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "only usr is left"
        );
    }
}

/// The path of the directory is resolved once, and only some of its links are followed.
#[test]
fn only_part_of_a_directory_full_of_links_is_read() {
    use crate::rootfs_edits::elf::tests::object;

    let (dir, mut rootfs) = image();
    rootfs.resolver = Resolver::Walk;
    let within = dir.path().join("usr/lib/compat");
    fs::create_dir(&within).unwrap();
    fs::create_dir(dir.path().join("usr/lib/m")).unwrap();
    let way = "m/../".repeat(300);
    symlink(format!("/usr/lib/{way}compat"), dir.path().join("compat")).unwrap();
    let library = object("libcuda.so.1", None);
    fs::write(within.join("libcuda.so.999.1"), &library).unwrap();
    // Fewer than the limit on names of a directory: beyond it, the file system decides which names are read.
    for n in 0..500 {
        symlink("none", within.join(format!("lib{n}.so"))).unwrap();
        fs::create_dir(within.join(format!("libcuda.so.{n}.0"))).unwrap();
    }
    let compat = crate::CudaCompat {
        driver: "580.1".into(),
        cuda: None,
        root: Some("/compat".into()),
    };
    let before = rootfs.steps.get();
    assert!(crate::rootfs_edits::cuda_compat::libraries(&rootfs, &compat).is_some());
    let steps = before - rootfs.steps.get();
    assert!(steps < 70 * 620, "{steps}");
    fs::remove_dir_all(&within).unwrap();
    fs::create_dir(&within).unwrap();
    for n in 0..200 {
        fs::write(within.join(format!("lib{n}.so.1")), &library).unwrap();
    }
    rootfs.clear_caches();
    let before = rootfs.steps.get();
    assert_eq!(
        crate::rootfs_edits::library_scan::libraries(&rootfs, &["/compat".into()])
            .unwrap()
            .len(),
        1
    );
    assert!(before - rootfs.steps.get() < 2 * 620);
}
