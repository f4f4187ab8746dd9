//! Tests how paths of an image are resolved, made and removed within its root, on hostile trees too.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl;
use nix::sys::stat::Mode;
use nix::unistd::{self, UnlinkatFlags};

use super::calls::TEMPORARY_NAMES;
use super::resolve::Resolver;
use super::*;

/// An image, and next to it a directory that must never be touched.
struct TestImage {
    dir: tempfile::TempDir,
    image: PathBuf,
    rootfs: Rootfs,
}

impl TestImage {
    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn assert_outside_is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let canary = self.outside().join("canary");
        assert_eq!(fs::read_to_string(&canary).unwrap(), "sings");
        assert_eq!(fs::metadata(canary).unwrap().mode() & 0o7777, 0o640);
    }
}

/// Runs a test with each resolver.
fn with_both_resolvers(test: impl Fn(&TestImage)) {
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("usr/lib")).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "sings").unwrap();
        fs::set_permissions(outside.join("canary"), Permissions::from_mode(0o640)).unwrap();
        let mut rootfs = Rootfs::open(&image).unwrap();
        rootfs.resolver = resolver;
        let place = TestImage { dir, image, rootfs };
        test(&place);
        place.assert_outside_is_untouched();
    }
}

#[test]
fn links_to_the_outside_stay_in_the_image() {
    with_both_resolvers(|place| {
        let (rootfs, image, outside) = (&place.rootfs, &place.image, place.outside());
        symlink(&outside, image.join("etc")).unwrap();
        symlink("../../../../../..", image.join("usr/up")).unwrap();
        symlink(outside.join("canary"), image.join("usr/lib/canary")).unwrap();
        let write = |path: &str| rootfs.write(Path::new(path), b"x", 0o644).unwrap();
        write("/etc/ld.so.cache");
        let inner = outside.strip_prefix("/").unwrap();
        assert!(image.join(inner).join("ld.so.cache").is_file());
        write("/usr/up/made");
        assert!(image.join("made").exists());
        write("/usr/lib/canary");
        let made = fs::symlink_metadata(image.join("usr/lib/canary")).unwrap();
        assert!(made.is_file());
        rootfs
            .mount_point(Path::new("/etc/canary"), MountPointKind::File)
            .unwrap();
        rootfs.symlink(Path::new("/etc/x"), Path::new("y")).unwrap();
    });
}

#[test]
fn a_link_of_the_image_is_followed_within_it() {
    with_both_resolvers(|place| {
        symlink("/usr/lib", place.image.join("lib64")).unwrap();
        let path = Path::new("/lib64/libcuda.so.1");
        place
            .rootfs
            .mount_point(path, MountPointKind::File)
            .unwrap();
        assert!(place.image.join("usr/lib/libcuda.so.1").is_file());
    });
}

#[test]
fn a_dangling_link_is_followed_in_the_image() {
    with_both_resolvers(|place| {
        let (rootfs, image) = (&place.rootfs, &place.image);
        symlink("/not/yet/made", image.join("lib64")).unwrap();
        symlink("../../../over/there", image.join("usr/share")).unwrap();
        symlink(place.outside().join("new"), image.join("opt")).unwrap();
        symlink("/usr/lib/other", image.join("usr/lib/file")).unwrap();
        symlink(
            place.outside().join("file"),
            image.join("usr/lib/file-outside"),
        )
        .unwrap();
        let point = |path: &str| rootfs.mount_point(Path::new(path), MountPointKind::File);
        for path in [
            "/lib64/x",
            "/usr/share/y",
            "/opt/z",
            "/usr/lib/file",
            "/usr/lib/file-outside",
        ] {
            point(path).unwrap();
        }
        assert!(image.join("not/yet/made/x").is_file());
        assert!(image.join("over/there/y").is_file());
        assert!(image.join("usr/lib/other").is_file());
        symlink("b", image.join("a")).unwrap();
        symlink("a", image.join("b")).unwrap();
        assert!(rootfs.make_dir(Path::new("/a/dir")).is_err());
        assert!(point("/a").is_err());
    });
}

#[test]
fn links_replace_only_links_and_empty_files() {
    with_both_resolvers(|place| {
        let (rootfs, lib) = (&place.rootfs, place.image.join("usr/lib"));
        fs::write(lib.join("empty"), "").unwrap();
        fs::write(lib.join("full"), "full").unwrap();
        symlink("old", lib.join("link")).unwrap();
        let link = |name: &str| {
            rootfs
                .symlink(&Path::new("/usr/lib").join(name), Path::new("new"))
                .unwrap()
        };
        for name in ["empty", "link", "fresh"] {
            assert_eq!(link(name), Linked::Yes);
            assert_eq!(fs::read_link(lib.join(name)).unwrap(), Path::new("new"));
        }
        assert_eq!(link("full"), Linked::Occupied);
        assert_eq!(fs::read(lib.join("full")).unwrap(), b"full");
    });
}

#[test]
fn reading_is_bounded_and_never_waits() {
    with_both_resolvers(|place| {
        let (rootfs, image) = (&place.rootfs, &place.image);
        nix::unistd::mkfifo(&image.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        std::os::unix::net::UnixListener::bind(image.join("socket")).unwrap();
        fs::write(image.join("long"), vec![0; 100]).unwrap();
        symlink("loop", image.join("loop")).unwrap();
        for none in ["/fifo", "/socket", "/none", "/usr"] {
            assert_eq!(rootfs.read(Path::new(none), 10).unwrap(), None, "{none}");
        }
        assert!(rootfs.read(Path::new("/long"), 10).is_err());
        assert!(rootfs.read(Path::new("/loop"), 10).is_err());
        let all = rootfs.read(Path::new("/long"), 100).unwrap().unwrap();
        assert_eq!(all.len(), 100);
    });
}

/// A hard link may be another name of a file elsewhere, so it is replaced and never written to.
#[test]
fn a_file_with_a_second_name_is_not_written_to() {
    with_both_resolvers(|place| {
        let cache = place.image.join("usr/lib/cache");
        fs::hard_link(place.outside().join("canary"), &cache).unwrap();
        let path = Path::new("/usr/lib/cache");
        place.rootfs.write(path, b"new", 0o666).unwrap();
        assert_eq!(fs::read(cache).unwrap(), b"new");
    });
}

/// The vendor's tool changes modes by name. Between making a file and that, an image can replace
/// the file with a link.
#[test]
fn the_mode_is_that_of_the_file_that_was_made() {
    with_both_resolvers(|place| {
        let path = Path::new("/usr/lib/new");
        place.rootfs.write(path, b"x", 0o604).unwrap();
        let made = fs::metadata(place.image.join("usr/lib/new")).unwrap();
        assert_eq!(made.mode() & 0o7777, 0o604);
    });
}

#[test]
fn nothing_is_made_on_the_kernels_own_file_systems() {
    if !Path::new("/proc/self").exists() {
        return;
    }
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        let mut rootfs = Rootfs::open(Path::new("/")).unwrap();
        rootfs.resolver = resolver;
        for dir in ["/proc", "/sys", "/proc/sys/kernel"] {
            let path = Path::new(dir).join("gpu-container-test/x");
            let refused = rootfs.make_dir(&path).unwrap_err();
            assert!(refused.to_string().contains("Read-only"), "{refused}");
            assert!(rootfs.mount_point(&path, MountPointKind::File).is_err());
            let link = rootfs.symlink(&path, Path::new("x")).unwrap();
            assert_eq!(link, Linked::Unwritable);
        }
    }
}

#[test]
fn rollback_removes_only_what_was_made() {
    with_both_resolvers(|place| {
        let (rootfs, image) = (&place.rootfs, &place.image);
        fs::write(image.join("usr/lib/theirs"), "").unwrap();
        let point = |path: &str, kind| drop(rootfs.mount_point(Path::new(path), kind).unwrap());
        point("/usr/lib/theirs", MountPointKind::File);
        point("/usr/lib/a/b/file", MountPointKind::File);
        point("/run/dir", MountPointKind::Directory);
        rootfs.roll_back();
        assert!(image.join("usr/lib/theirs").exists());
        assert!(!image.join("usr/lib/a").exists() && !image.join("run").exists());
    });
}

#[test]
fn an_image_that_has_our_temporary_names_does_no_harm() {
    with_both_resolvers(|place| {
        for n in 0..TEMPORARY_NAMES - 1 {
            let name = format!("usr/lib/.cache.{}.{n}", std::process::id());
            symlink(place.outside().join("canary"), place.image.join(name)).unwrap();
        }
        let write = || place.rootfs.write(Path::new("/usr/lib/cache"), b"x", 0o644);
        write().unwrap();
        let last = format!(
            "usr/lib/.cache.{}.{}",
            std::process::id(),
            TEMPORARY_NAMES - 1
        );
        fs::write(place.image.join(last), "").unwrap();
        assert!(write().is_err());
    });
}

#[test]
fn a_name_from_the_image_cannot_add_lines_to_the_notes() {
    with_both_resolvers(|place| {
        place
            .rootfs
            .note(Path::new("/a\nlevel=error\u{1b}[2J"), "is odd");
        assert_eq!(
            place.rootfs.notes(),
            ["in the container: /a\\nlevel=error\\u{1b}[2J: is odd"]
        );
    });
}

/// Directories and links are exchanged while we work, as a process of the image can do. An
/// operation may fail then, but it never takes effect outside.
#[test]
fn a_concurrently_changing_image_affects_nothing_outside() {
    use std::sync::atomic::{AtomicBool, Ordering};
    const ROUNDS: usize = 100;
    with_both_resolvers(|place| {
        let (rootfs, image, outside) = (&place.rootfs, &place.image, place.outside());
        fs::create_dir_all(image.join("a/b/lib")).unwrap();
        fs::create_dir_all(image.join("etc")).unwrap();
        symlink(&outside, image.join("out")).unwrap();
        symlink("../../../../../../outside", image.join("a/up")).unwrap();
        symlink(&outside, image.join("usr/out")).unwrap();
        symlink(outside.join("canary"), image.join("etc/evil")).unwrap();
        fs::write(image.join("etc/cache"), "").unwrap();
        symlink("b/lib/../../..", image.join("a/back")).unwrap();
        // The exchanges use descriptors of the directories, so that the test itself stays in the image.
        let swaps = [
            ("", "a", "out"),
            ("a", "b", "up"),
            ("", "etc", "out"),
            ("etc", "cache", "evil"),
            ("usr", "lib", "out"),
        ]
        .map(|(dir, one, other)| (fs::File::open(image.join(dir)).unwrap(), one, other));
        let etc = fs::File::open(image.join("etc")).unwrap();
        let over = AtomicBool::new(false);
        let mut done = 0;
        std::thread::scope(|scope| {
            for (dir, one, other) in &swaps {
                let over = &over;
                scope.spawn(move || {
                    let flag = fcntl::RenameFlags::RENAME_EXCHANGE;
                    while !over.load(Ordering::Relaxed) {
                        let _ = fcntl::renameat2(dir, *one, dir, *other, flag);
                    }
                });
            }
            // Replaces temporary files by links to the canary: changing a mode by name would hit it.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut names =
                        nix::dir::Dir::from_fd(etc.try_clone().unwrap().into()).unwrap();
                    for name in names.iter().flatten().map(|e| e.file_name().to_owned()) {
                        if name.to_bytes().starts_with(b".cache.") {
                            let name = name.as_c_str();
                            let _ = unistd::unlinkat(&etc, name, UnlinkatFlags::NoRemoveDir);
                            let _ = unistd::symlinkat(&outside.join("canary"), &etc, name);
                        }
                    }
                }
            });
            for n in 0..ROUNDS {
                let made = [
                    rootfs.write(Path::new("/etc/cache"), b"x", 0o666).is_ok(),
                    rootfs
                        .symlink(Path::new("/a/b/lib/link"), Path::new("x"))
                        .is_ok(),
                    rootfs
                        .mount_point(
                            &PathBuf::from(format!("/a/b/lib/{n}")),
                            MountPointKind::File,
                        )
                        .is_ok(),
                    rootfs
                        .make_dir(&PathBuf::from(format!("/a/back/usr/lib/{n}")))
                        .is_ok(),
                    rootfs
                        .read(Path::new("/etc/cache"), 100)
                        .is_ok_and(|c| c.is_none_or(|c| c != b"sings")),
                ];
                done += made.iter().filter(|m| **m).count();
            }
            over.store(true, Ordering::Relaxed);
        });
        println!("{:?}: {done} of {} done", rootfs.resolver, ROUNDS * 5);
        assert!(done > 0);
    });
}
