//! Resolves a path to a descriptor within a hostile root.
//!
//! There are two resolvers with the same results. The kernel's is `openat2(2)` with
//! `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS` (Linux 5.6). Ours is used if there is no openat2
//! or an older seccomp filter refuses it. It opens one component at a time (`walk`), so that moving
//! a directory meanwhile cannot lead it outside. Both return `O_PATH` descriptors: resolving
//! opens no file, so no device and no FIFO is touched.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};

use super::walk::{ReadOnlyGuide, Trouble, walk};

/// Which resolver is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    Kernel,
    Walk,
}

impl Resolver {
    /// The kernel's, if openat2 is available.
    pub(super) fn of(root: BorrowedFd<'_>) -> Self {
        match by_kernel(root, Path::new("/"), OFlag::empty(), ResolveFlag::empty()) {
            Err(Errno::ENOSYS | Errno::EPERM) => Self::Walk,
            _ => Self::Kernel,
        }
    }

    /// Returns an `O_PATH` descriptor of what `path` leads to; links are followed within `root`.
    pub(super) fn resolve(
        self,
        root: BorrowedFd<'_>,
        path: &Path,
        steps: &Cell<u32>,
    ) -> nix::Result<OwnedFd> {
        let by_walk = || {
            let step = walk(root, path, steps, &ReadOnlyGuide).map_err(Trouble::errno)?;
            Rc::into_inner(step.fd).ok_or(Errno::EBADF)
        };
        match self {
            // If anything is mounted or unmounted meanwhile, the kernel starts over without
            // resetting its count of links (seen on Linux 6.18: 30 links count as 60), so our own
            // walk counts again. On a host that mounts all the time the kernel also gives up on a
            // path with many `..`.
            Self::Kernel => match by_kernel(root, path, OFlag::empty(), ResolveFlag::empty()) {
                Err(Errno::ELOOP | Errno::EAGAIN) => by_walk(),
                other => other,
            },
            Self::Walk => by_walk(),
        }
    }

    /// Like [`Self::resolve`], if the whole path is on the mount of `root`. Fails with `EXDEV` if it
    /// is not, and with `ENOSYS` if only a walk can tell.
    pub(super) fn on_mount(
        self,
        root: BorrowedFd<'_>,
        path: &Path,
        flags: OFlag,
    ) -> nix::Result<OwnedFd> {
        match self {
            Self::Kernel => match by_kernel(root, path, flags, ResolveFlag::RESOLVE_NO_XDEV) {
                Err(Errno::ELOOP | Errno::EAGAIN) => Err(Errno::ENOSYS),
                other => other,
            },
            Self::Walk => Err(Errno::ENOSYS),
        }
    }
}

fn by_kernel(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
    more: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | more);
    // With RESOLVE_IN_ROOT an absolute path starts at `root`.
    let inner = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let mut tries = 0;
    loop {
        match fcntl::openat2(root, inner, how) {
            // EAGAIN: the kernel could not rule out that a concurrent rename led out (openat2(2)).
            // The limit keeps an image from blocking us by renaming.
            Err(Errno::EAGAIN) if tries < 64 => tries += 1,
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::super::walk::MAX_STEPS;
    use super::*;

    fn steps() -> Cell<u32> {
        Cell::new(MAX_STEPS)
    }

    /// Both resolvers give the same inode or the same error for each path.
    #[test]
    fn both_resolvers_agree() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("a/b/c")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(image.join("a/file"), "").unwrap();
        for (link, target) in [
            ("up", "../../../../a"),
            ("a/abs", "/a/b"),
            ("a/b/back", ".."),
            ("a/b/c/far", "../../../../../../a/./b//c"),
            ("out", dir.path().join("outside").to_str().unwrap()),
            ("loop", "loop"),
            ("one", "two"),
            ("two", "one"),
            ("dangling", "/not/there"),
            ("to-file", "a/file"),
            ("slash", "a/file/"),
            ("dot", "a/file/."),
            ("dir-slash", "a/b//"),
            ("self", "."),
            ("root", "/"),
            ("new\nline", "a"),
        ] {
            symlink(target, image.join(link)).unwrap();
        }
        // 39 links in one path pass, 41 do not.
        for n in 0..45 {
            let target = if n == 0 {
                "a".to_owned()
            } else {
                format!("chain{}", n - 1)
            };
            symlink(target, image.join(format!("chain{n}"))).unwrap();
        }
        let root = File::open(&image).unwrap();
        for path in [
            "/",
            "",
            ".",
            "..",
            "a",
            "/a/b/c",
            "up",
            "up/b",
            "a/abs/c",
            "a/b/back/file",
            "a/b/c/far",
            "out",
            "out/x",
            "loop",
            "one",
            "dangling",
            "dangling/x",
            "to-file",
            "to-file/x",
            "to-file/..",
            "self/self/self/a",
            "root/root/../a",
            "new\nline/b",
            "none",
            "a/file/",
            "a/file/.",
            "to-file/",
            "/to-file/.",
            "a/",
            "a/.",
            "slash",
            "dot",
            "dir-slash",
            "none/..",
            "a/../a/../../a/b",
            "chain5",
            "chain38",
            "chain39",
            "chain41",
            "chain44",
        ] {
            let [kernel, walk] = [Resolver::Kernel, Resolver::Walk].map(|resolver| {
                let file = resolver.resolve(root.as_fd(), Path::new(path), &steps())?;
                let metadata = File::from(file).metadata().map_err(|_| Errno::EIO)?;
                Ok::<_, Errno>((metadata.dev(), metadata.ino()))
            });
            assert_eq!(kernel, walk, "{path:?}");
        }
    }

    #[test]
    fn magic_links_of_procfs_are_not_followed() {
        let root = File::open("/").unwrap();
        for resolver in [Resolver::Kernel, Resolver::Walk] {
            for path in ["/proc/self/root/etc", "/proc/self/fd/0", "/proc/self/cwd"] {
                let result = resolver.resolve(root.as_fd(), Path::new(path), &steps());
                assert!(result.is_err(), "{resolver:?} {path}");
            }
        }
    }

    /// While mounts change, the kernel alone answers ELOOP to thirty links a third of the time, and
    /// EAGAIN to many `..` now and then.
    #[test]
    fn concurrent_mounts_do_not_make_thirty_links_fail() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for n in 0..30 {
            symlink(format!("/{}", n + 1), dir.path().join(n.to_string())).unwrap();
        }
        fs::create_dir(dir.path().join("30")).unwrap();
        for n in 0..60 {
            symlink(
                format!("/long{}", n + 1),
                dir.path().join(format!("long{n}")),
            )
            .unwrap();
        }
        let up_and_down = PathBuf::from("30/../".repeat(600) + "30");
        let root = File::open(dir.path()).unwrap();
        let (image, is_done) = (dir.path(), AtomicBool::new(false));
        thread::scope(|scope| {
            // The thread has its own mount namespace, so its mounts are not visible elsewhere.
            scope.spawn(|| {
                let none = None::<&str>;
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                while !is_done.load(Ordering::Relaxed) {
                    mount(Some(image), image, none, MsFlags::MS_BIND, none).unwrap();
                    umount2(image, MntFlags::MNT_DETACH).unwrap();
                }
            });
            for _ in 0..500 {
                for resolver in [Resolver::Kernel, Resolver::Walk] {
                    let thirty = resolver.resolve(root.as_fd(), Path::new("0"), &steps());
                    let sixty = resolver.resolve(root.as_fd(), Path::new("long0"), &steps());
                    let many = resolver.resolve(root.as_fd(), &up_and_down, &steps());
                    let results = (thirty.map(drop), sixty.map(drop), many.map(drop));
                    if results != (Ok(()), Err(Errno::ELOOP), Ok(())) {
                        is_done.store(true, Ordering::Relaxed);
                        panic!("{resolver:?}: {results:?}");
                    }
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
    }
}
