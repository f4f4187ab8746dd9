//! From a path to a descriptor, within a root that is hostile.
//!
//! Two ways with one meaning. The kernel's: `openat2(2)` with `RESOLVE_IN_ROOT` and
//! `RESOLVE_NO_MAGICLINKS` (Linux 5.6). Ours, where there is no openat2 or a seccomp
//! filter older than it refuses it: a component at a time (`walk`), so that a directory
//! that is moved meanwhile leads nowhere we have not been. Only `O_PATH` descriptors come
//! out: resolving opens nothing, so no device and no FIFO is touched.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};

use super::walk::{Look, Trouble, walk};

/// Which way is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    Kernel,
    Walk,
}

impl Resolver {
    /// The kernel's where it answers.
    pub(super) fn of(root: BorrowedFd<'_>) -> Self {
        match by_kernel(root, Path::new("/"), OFlag::empty(), ResolveFlag::empty()) {
            Err(Errno::ENOSYS | Errno::EPERM) => Self::Walk,
            _ => Self::Kernel,
        }
    }

    /// An `O_PATH` descriptor of what `path` leads to, all links followed within `root`.
    pub(super) fn resolve(
        self,
        root: BorrowedFd<'_>,
        path: &Path,
        steps: &Cell<u32>,
    ) -> nix::Result<OwnedFd> {
        let by_walk = || {
            let found = walk(root, path, steps, &Look).map_err(Trouble::errno)?;
            Rc::into_inner(found.fd).ok_or(Errno::EBADF)
        };
        match self {
            // A mount or unmount anywhere makes the kernel begin again without setting its count
            // of links to nothing (seen on Linux 6.18: 30 links are 60), so we count. And a path
            // with many `..` it gives up where the host mounts all the time.
            Self::Kernel => match by_kernel(root, path, OFlag::empty(), ResolveFlag::empty()) {
                Err(Errno::ELOOP | Errno::EAGAIN) => by_walk(),
                other => other,
            },
            Self::Walk => by_walk(),
        }
    }

    /// The same where all of the way is on the mount of `root`, `EXDEV` where it is not. `ENOSYS`
    /// where only a walk can tell.
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
    // An absolute path is one of the root's.
    let inner = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let mut tries = 0;
    loop {
        match fcntl::openat2(root, inner, how) {
            // A rename elsewhere made the kernel unsure (openat2(2)); an image cannot keep
            // us here for ever by renaming.
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

    use super::super::walk::MOST_STEPS;
    use super::*;

    fn steps() -> Cell<u32> {
        Cell::new(MOST_STEPS)
    }

    /// Where the tree says each path leads, by inode, or the error: the same by both ways.
    #[test]
    fn both_ways_lead_to_the_same_place() {
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
                let found = resolver.resolve(root.as_fd(), Path::new(path), &steps())?;
                let found = File::from(found).metadata().map_err(|_| Errno::EIO)?;
                Ok::<_, Errno>((found.dev(), found.ino()))
            });
            assert_eq!(kernel, walk, "{path:?}");
        }
    }

    #[test]
    fn links_of_procfs_lead_nowhere() {
        let root = File::open("/").unwrap();
        for resolver in [Resolver::Kernel, Resolver::Walk] {
            for path in ["/proc/self/root/etc", "/proc/self/fd/0", "/proc/self/cwd"] {
                let found = resolver.resolve(root.as_fd(), Path::new(path), &steps());
                assert!(found.is_err(), "{resolver:?} {path}");
            }
        }
    }

    /// The kernel's own answer to links is ELOOP a third of the time, and to many `..` EAGAIN now
    /// and then.
    #[test]
    fn mounts_elsewhere_do_not_make_a_loop_of_thirty_links() {
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
        let (here, is_done) = (dir.path(), AtomicBool::new(false));
        thread::scope(|scope| {
            // Both of the thread's alone: its mounts are in a namespace of its own.
            scope.spawn(|| {
                let none = None::<&str>;
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                while !is_done.load(Ordering::Relaxed) {
                    mount(Some(here), here, none, MsFlags::MS_BIND, none).unwrap();
                    umount2(here, MntFlags::MNT_DETACH).unwrap();
                }
            });
            for _ in 0..500 {
                for resolver in [Resolver::Kernel, Resolver::Walk] {
                    let thirty = resolver.resolve(root.as_fd(), Path::new("0"), &steps());
                    let sixty = resolver.resolve(root.as_fd(), Path::new("long0"), &steps());
                    let many = resolver.resolve(root.as_fd(), &up_and_down, &steps());
                    let found = (thirty.map(drop), sixty.map(drop), many.map(drop));
                    if found != (Ok(()), Err(Errno::ELOOP), Ok(())) {
                        is_done.store(true, Ordering::Relaxed);
                        panic!("{resolver:?}: {found:?}");
                    }
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
    }
}
