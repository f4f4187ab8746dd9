//! From a path to a descriptor, within a root that is hostile.
//!
//! Two ways with one meaning. The kernel's: `openat2(2)` with `RESOLVE_IN_ROOT` and
//! `RESOLVE_NO_MAGICLINKS` (Linux 5.6). Ours, where there is no openat2 or a seccomp
//! filter older than it refuses it: a component at a time, each opened from its
//! directory's descriptor with `O_NOFOLLOW`, links read from their own descriptor. `..`
//! is never asked of the file system: it goes back to the descriptor we came by, so a
//! directory that is moved meanwhile leads nowhere we have not been. Only `O_PATH`
//! descriptors come out: resolving opens nothing, so no device and no FIFO is touched.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

/// Links in one path, as the kernel counts them (`MAXSYMLINKS`).
pub(super) const MAX_LINKS: u8 = 40;

/// Which way is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    Kernel,
    Walk,
}

impl Resolver {
    /// The kernel's where it answers.
    pub(super) fn of(root: BorrowedFd<'_>) -> Self {
        match by_kernel(root, Path::new("/")) {
            Err(Errno::ENOSYS | Errno::EPERM) => Self::Walk,
            _ => Self::Kernel,
        }
    }

    /// An `O_PATH` descriptor of what `path` leads to, all links followed within `root`.
    pub(super) fn resolve(self, root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
        match self {
            // A mount or unmount anywhere makes the kernel begin again without setting its count
            // of links to nothing (seen on Linux 6.18: 30 links are 60), so we count. And a path
            // with many `..` it gives up where the host mounts all the time.
            Self::Kernel => match by_kernel(root, path) {
                Err(Errno::ELOOP | Errno::EAGAIN) => by_walk(root, path),
                other => other,
            },
            Self::Walk => by_walk(root, path),
        }
    }
}

fn by_kernel(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
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

fn by_walk(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    // The way we came; its first is the root, and never goes.
    let mut way = vec![at(root, OsStr::new("."))?];
    let mut todo = Vec::new();
    push(&mut todo, path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == "." {
            continue;
        }
        if part == ".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let Some(dir) = way.last() else {
            return Err(Errno::ENOENT);
        };
        let found = at(dir.as_fd(), &part)?;
        let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFLNK {
            links += 1;
            // What a link of procfs says need not be where it leads.
            if links > MAX_LINKS || fstatfs(&found)?.filesystem_type() == PROC_SUPER_MAGIC {
                return Err(Errno::ELOOP);
            }
            let target = fcntl::readlinkat(&found, "")?;
            if target.is_empty() {
                return Err(Errno::ENOENT);
            }
            if Path::new(&target).is_absolute() {
                way.truncate(1);
            }
            push(&mut todo, Path::new(&target));
            continue;
        }
        if kind != SFlag::S_IFDIR && !todo.is_empty() {
            return Err(Errno::ENOTDIR);
        }
        way.push(found);
    }
    way.pop().ok_or(Errno::ENOENT)
}

fn at(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::empty())
}

/// A slash at the end asks for a directory, as `/.` does. `Path` would drop both.
fn push(todo: &mut Vec<OsString>, path: &Path) {
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/") {
        todo.push(".".into());
    }
    let parts = bytes.split(|b| *b == b'/').filter(|p| !p.is_empty());
    todo.extend(parts.rev().map(|p| OsStr::from_bytes(p).to_owned()));
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

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
                let found = resolver.resolve(root.as_fd(), Path::new(path))?;
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
                let found = resolver.resolve(root.as_fd(), Path::new(path));
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
                    let thirty = resolver.resolve(root.as_fd(), Path::new("0"));
                    let sixty = resolver.resolve(root.as_fd(), Path::new("long0"));
                    let many = resolver.resolve(root.as_fd(), &up_and_down);
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
