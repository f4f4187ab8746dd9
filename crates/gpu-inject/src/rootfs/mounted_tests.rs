//! Tests of roots with mounts in them. Each test's thread has its own mount namespace.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::place::On;
use super::resolve::Resolver;
use super::table::MountTable;
use super::*;
use crate::error::Error;
use crate::linux::namespace::OwnMounts;
use crate::rootfs_edits::read_only_cover;

const NONE: Option<&Path> = None;

struct MountedImage {
    dir: tempfile::TempDir,
}

impl MountedImage {
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn image(&self, path: &str) -> PathBuf {
        self.path("image").join(path)
    }

    fn bind(&self, from: &str, to: &str) {
        let (from, to) = (self.path(from), self.path(to));
        mount(Some(&from), &to, NONE, MsFlags::MS_BIND, NONE).unwrap();
    }

    fn tmpfs(&self, at: &str) {
        let kind = Some(Path::new("tmpfs"));
        mount(kind, &self.path(at), kind, MsFlags::empty(), NONE).unwrap();
    }

    fn share(&self, at: &str) {
        mount(NONE, &self.path(at), NONE, MsFlags::MS_SHARED, NONE).unwrap();
    }

    fn propagation(&self, at: &str) -> String {
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let at = self.path(at).display().to_string();
        let line = table.lines().rfind(|l| l.split(' ').nth(4) == Some(&at));
        let words = line.unwrap().split(' ').skip(6);
        words.take_while(|w| *w != "-").collect()
    }
}

/// Runs a test with each resolver, on a root mount with a volume, a tmpfs of its own and one of the host's.
fn in_container(test: impl Fn(&MountedImage, &Rootfs) + Sync) {
    if !skips::has(&[skips::Need::Root]) {
        return;
    }
    for resolver in [Resolver::Kernel, Resolver::Walk] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(NONE, Path::new("/"), NONE, flags, NONE).unwrap();
                let place = MountedImage {
                    dir: tempfile::tempdir().unwrap(),
                };
                for dir in [
                    "image/usr/lib",
                    "image/vol",
                    "image/run",
                    "image/tmp",
                    "vol",
                    "host",
                ] {
                    fs::create_dir_all(place.path(dir)).unwrap();
                }
                place.bind("image", "image");
                place.bind("vol", "image/vol");
                place.tmpfs("host");
                place.tmpfs("image/run");
                place.bind("host", "image/tmp");
                let rootfs = Rootfs::open(&place.image("")).unwrap();
                let mut rootfs = rootfs.in_namespace(OwnMounts::of_caller());
                rootfs.resolver = resolver;
                test(&place, &rootfs);
            });
        });
    }
}

fn why<T: std::fmt::Debug>(done: Result<T, Error>) -> Option<Elsewhere> {
    done.unwrap_err().elsewhere()
}

#[test]
fn a_volume_is_distinguished_from_the_containers_own_file_systems() {
    in_container(|place, rootfs| {
        symlink("/vol", place.image("etc")).unwrap();
        symlink("/run", place.image("var")).unwrap();
        let write = |path: &str| rootfs.write(Path::new(path), b"x", 0o644);
        for (path, expected) in [
            ("/vol/x", Elsewhere::Volume),
            ("/vol/deep/er/x", Elsewhere::Volume),
            ("/tmp/x", Elsewhere::Volume),
            ("/etc/x", Elsewhere::ByLink),
            ("/etc/deep/x", Elsewhere::ByLink),
        ] {
            assert_eq!(why(write(path)), Some(expected), "{path}");
            let point = rootfs.mount_point(Path::new(path), MountPointKind::File);
            assert_eq!(why(point), Some(expected), "{path}");
            let point = rootfs.mount_point(Path::new(path), MountPointKind::Directory);
            assert_eq!(why(point), Some(expected), "{path}");
        }
        for path in [
            "/usr/lib/x",
            "/run/x",
            "/var/y",
            "/run/deep/er/x",
            "/vol/../usr/z",
        ] {
            write(path).unwrap();
        }
        let link = |path: &str| rootfs.symlink(Path::new(path), Path::new("target"));
        assert_eq!(link("/vol/link").unwrap(), Linked::Unwritable);
        assert_eq!(why(link("/etc/link")), Some(Elsewhere::ByLink));
        for dir in ["vol", "host"] {
            assert_eq!(fs::read_dir(place.path(dir)).unwrap().count(), 0, "{dir}");
        }
        // Existing files can be mount points, and an existing link counts as made.
        fs::write(place.path("vol/x"), "secret").unwrap();
        symlink("target", place.path("vol/link")).unwrap();
        for path in ["/vol/x", "/etc/x"] {
            rootfs
                .mount_point(Path::new(path), MountPointKind::File)
                .unwrap();
        }
        assert_eq!(link("/vol/link").unwrap(), Linked::Yes);
        assert_eq!(link("/etc/link").unwrap(), Linked::Yes);
        assert_eq!(link("/etc/x").unwrap(), Linked::Occupied);
        let read = |path: &str| rootfs.read(Path::new(path), 99);
        assert_eq!(read("/vol/x").unwrap().as_deref(), Some(&b"secret"[..]));
        assert_eq!(why(read("/etc/x")), Some(Elsewhere::ByLink));
        let mode = || {
            fs::metadata(place.path("vol/x"))
                .unwrap()
                .permissions()
                .mode()
        };
        let before = mode();
        rootfs.set_mode(Path::new("/vol/x"), 0o777).unwrap();
        assert_eq!(
            why(rootfs.set_mode(Path::new("/etc/x"), 0o777)),
            Some(Elsewhere::ByLink)
        );
        assert_eq!(mode(), before);
    });
}

/// After `pivot_root` the host's mounts are no longer visible, so they are recorded before.
#[test]
fn a_tmpfs_is_the_containers_only_if_the_host_is_known_not_to_have_it() {
    in_container(|place, _| {
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let within = place.image("").display().to_string();
        let within = within.trim_end_matches('/');
        let outside: Vec<&str> = table.lines().filter(|l| !l.contains(within)).collect();
        let rootfs = Rootfs::open(&place.image("")).unwrap();
        rootfs.know_outside(outside.join("\n"));
        rootfs.write(Path::new("/run/x"), b"x", 0o644).unwrap();
        let refused = rootfs.write(Path::new("/tmp/x"), b"x", 0o644);
        assert_eq!(why(refused), Some(Elsewhere::Volume));
        let alone = MountTable::of("30 30 0:9 / / rw - tmpfs none rw\n", 30);
        assert!(alone.outside.is_empty());
    });
}

#[test]
fn mounts_on_shared_volumes_are_refused_and_the_root_becomes_slave() {
    in_container(|place, rootfs| {
        place.share("image/vol");
        place.share("image");
        fs::write(place.path("vol/x"), "").unwrap();
        let point = rootfs
            .mount_point(Path::new("/vol/x"), MountPointKind::File)
            .unwrap();
        let refused = rootfs.ensure_private(&point).unwrap_err();
        assert_eq!(of_io(&refused), Some(Elsewhere::Shared));
        let point = rootfs
            .mount_point(Path::new("/usr/lib/x"), MountPointKind::File)
            .unwrap();
        assert!(place.propagation("image").contains("shared:"));
        rootfs.ensure_private(&point).unwrap();
        assert!(!place.propagation("image").contains("shared:"));
        assert!(place.propagation("image/vol").contains("shared:"));
    });
}

/// As with `-v FILE:/etc/ld.so.cache`, where rename(2) fails with EBUSY.
#[test]
fn a_file_that_is_mounted_or_in_a_volume_is_covered() {
    in_container(|place, rootfs| {
        fs::write(place.image("usr/lib/theirs"), "image").unwrap();
        fs::write(place.path("theirs"), "user").unwrap();
        place.bind("theirs", "image/usr/lib/theirs");
        fs::write(place.path("vol/theirs"), "user").unwrap();
        for path in ["/usr/lib/theirs", "/vol/theirs"] {
            read_only_cover::write(rootfs, Path::new(path), b"ours").unwrap();
            let text = fs::read_to_string(place.image(&path[1..])).unwrap();
            assert_eq!(text, "ours", "{path}: {:?}", rootfs.notes());
        }
        for left in ["theirs", "vol/theirs"] {
            assert_eq!(fs::read_to_string(place.path(left)).unwrap(), "user");
        }
        assert_eq!(rootfs.notes(), [""; 0]);
        read_only_cover::write(rootfs, Path::new("/vol/none"), b"ours").unwrap();
        assert!(
            rootfs.notes()[0].contains("/vol/none: not written"),
            "{:?}",
            rootfs.notes()
        );
        let link = rootfs.symlink(Path::new("/usr/lib/theirs"), Path::new("x"));
        assert_eq!(link.unwrap(), Linked::Occupied);
    });
}

/// In an overlay, a link and an empty file from a lower layer have another `st_dev` than their
/// directory.
#[test]
fn an_overlay_of_several_file_systems_is_one_mount() {
    in_container(|place, _| {
        for dir in ["lower", "upper", "merged"] {
            fs::create_dir(place.path(dir)).unwrap();
            if dir != "merged" {
                place.tmpfs(dir);
            }
        }
        fs::create_dir_all(place.path("lower/usr/lib")).unwrap();
        symlink("old", place.path("lower/usr/lib/stale")).unwrap();
        fs::write(place.path("lower/usr/lib/leftover"), "").unwrap();
        for dir in ["upper/up", "upper/work"] {
            fs::create_dir(place.path(dir)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            place.path("lower").display(),
            place.path("upper/up").display(),
            place.path("upper/work").display()
        );
        let kind = Some("overlay");
        mount(
            kind,
            &place.path("merged"),
            kind,
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        let rootfs = Rootfs::open(&place.path("merged")).unwrap();
        for name in ["stale", "leftover"] {
            let path = Path::new("/usr/lib").join(name);
            assert_eq!(
                rootfs.symlink(&path, Path::new("new")).unwrap(),
                Linked::Yes
            );
            let made = fs::read_link(place.path("merged/usr/lib").join(name)).unwrap();
            assert_eq!(made, Path::new("new"));
        }
    });
}

#[test]
fn mount_ids_are_the_same_by_the_ways_for_linux_before_5_8() {
    in_container(|place, rootfs| {
        fs::create_dir_all(place.image("a b\\/c\nd")).unwrap();
        place.bind("vol", "image/a b\\/c\nd");
        let not_utf8 = OsStr::from_bytes(b"image/not-utf8-\xff");
        fs::create_dir(place.dir.path().join(not_utf8)).unwrap();
        let (from, to) = (place.path("vol"), place.dir.path().join(not_utf8));
        mount(Some(&from), &to, NONE, MsFlags::MS_BIND, NONE).unwrap();
        symlink(OsStr::from_bytes(b"not-utf8-\xff"), place.image("link")).unwrap();
        fs::create_dir(place.path("vol/deep")).unwrap();
        // A second mount hides the first.
        place.bind("vol", "image/vol");
        let paths = [
            "/link/deep",
            "/",
            "/usr/lib",
            "/vol",
            "/vol/deep",
            "/run",
            "/tmp",
            "/a b\\/c\nd/deep",
        ];
        for path in paths {
            let file = rootfs.resolve(Path::new(path)).unwrap();
            let number = rootfs.mount_of(file.as_fd());
            assert_eq!(number, rootfs.mount_by_fdinfo(file.as_fd()), "{path}");
            assert_eq!(number, rootfs.mount_by_path(file.as_fd()), "{path}");
        }
        // This reads the same table for the container's own file systems.
        rootfs.write(Path::new("/run/x"), b"x", 0o644).unwrap();
    });
}

/// A file of procfs with a mount over it is not used, because the container does not see it.
#[test]
fn a_file_of_procfs_is_distinguished_from_a_mount_over_it() {
    in_container(|place, rootfs| {
        let procfs_of = |path: &str| rootfs.proc_file(Path::new(path)).unwrap().map(|p| p.on);
        assert_eq!(procfs_of("/proc/meminfo"), None);
        fs::create_dir(place.image("proc")).unwrap();
        fs::write(place.image("proc/meminfo"), "no procfs").unwrap();
        assert_eq!(procfs_of("/proc/meminfo"), None);
        fs::remove_file(place.image("proc/meminfo")).unwrap();
        let kind = Some(Path::new("proc"));
        mount(kind, &place.image("proc"), kind, MsFlags::empty(), NONE).unwrap();
        for path in ["/proc/meminfo", "/proc/sys/kernel/hostname"] {
            assert_eq!(procfs_of(path), Some(On::Own), "{path}");
        }
        for path in ["/proc/none", "/proc/meminfo/x", "/usr/lib", "/process"] {
            assert_eq!(procfs_of(path), None, "{path}");
        }
        fs::write(place.path("theirs"), "theirs").unwrap();
        place.bind("theirs", "image/proc/meminfo");
        assert_eq!(procfs_of("/proc/meminfo"), None);
        assert_eq!(procfs_of("/proc/version"), Some(On::Own));
    });
}
