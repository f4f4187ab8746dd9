//! Resolves a path one component at a time, each opened from its directory's descriptor.
//!
//! `..` is never looked up in the file system; it goes back to the descriptor we came from. An
//! image decides how long its links and how deep its directories are, so all of it is bounded.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::elsewhere::Elsewhere;
use crate::error::Error;

/// Maximum links in one path, the same as the kernel's (`MAXSYMLINKS`).
pub(super) const MAX_LINKS: u8 = 40;
/// Maximum components of one path including its links. The kernel has no such bound: 40 links of
/// 4 KiB can have 80,000.
pub(super) const MAX_PARTS: u32 = 4096;
/// Maximum components of all paths of one container start together.
pub(super) const MAX_STEPS: u32 = 1 << 17;
/// Maximum directories of one path that are open at a time. They are kept for `..`.
pub(super) const MAX_OPEN: usize = 1024;
/// Maximum directories that are made in one container start. A driver's files are in two dozen.
pub(super) const MAX_MADE: usize = 256;

/// A bound that a path of the image exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Links,
    Parts,
    Steps,
    Open,
    Made,
}

impl Display for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (what, most) = match self {
            Self::Links => ("links in one path", u64::from(MAX_LINKS)),
            Self::Parts => ("directories in one path and its links", MAX_PARTS.into()),
            Self::Steps => ("directories in the paths of one start", MAX_STEPS.into()),
            Self::Open => ("directories below each other", MAX_OPEN as u64),
            Self::Made => ("missing directories to make", MAX_MADE as u64),
        };
        write!(
            f,
            "the image's links lead through more than {most} {what}; \
             `find -type l` in the image shows them"
        )
    }
}

impl std::error::Error for Bound {}

impl Error {
    /// Whether a path of the image has more links than the kernel follows, for example because a link leads to
    /// itself.
    pub(crate) fn is_loop_of_links(&self) -> bool {
        let Self::Rootfs { source, .. } = self else {
            return false;
        };
        let bound = source.get_ref().and_then(|e| e.downcast_ref::<Bound>());
        source.raw_os_error() == Some(libc::ELOOP) || bound == Some(&Bound::Links)
    }
}

/// Why a path cannot be resolved or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    System(Errno),
    Elsewhere(Elsewhere),
    TooMuch(Bound),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<Bound> for Trouble {
    fn from(bound: Bound) -> Self {
        Self::TooMuch(bound)
    }
}

impl Trouble {
    /// As an errno, for operations that only read.
    pub(super) fn errno(self) -> Errno {
        match self {
            Self::System(errno) => errno,
            Self::Elsewhere(_) => Errno::EXDEV,
            Self::TooMuch(_) => Errno::ELOOP,
        }
    }
}

/// A directory or file that the walk has reached.
pub(super) struct Step {
    pub(super) fd: Rc<OwnedFd>,
    /// The ID of the mount it is on; 0 if the walk does not keep track of mounts.
    pub(super) mount: u64,
    /// Whether that mount was entered by following a link, rather than by the path itself.
    pub(super) by_link: bool,
}

/// Callbacks of a walk.
pub(super) trait Guide {
    /// The mount of a descriptor.
    fn mount(&self, fd: BorrowedFd<'_>) -> nix::Result<u64>;

    /// Called for a name that does not exist: makes the entry or returns an error.
    fn missing(&self, dir: &Step, name: &OsStr, is_last: bool) -> Result<OwnedFd, Trouble>;
}

/// A guide for reading: a missing component is an error, and mounts are not tracked.
pub(super) struct ReadOnlyGuide;

impl Guide for ReadOnlyGuide {
    fn mount(&self, _: BorrowedFd<'_>) -> nix::Result<u64> {
        Ok(0)
    }

    fn missing(&self, _: &Step, _: &OsStr, _: bool) -> Result<OwnedFd, Trouble> {
        Err(Errno::ENOENT.into())
    }
}

/// Resolves `path`; links are followed within `root`. `steps` is the number of components that this start may still use.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    path: &Path,
    steps: &Cell<u32>,
    guide: &dyn Guide,
) -> Result<Step, Trouble> {
    let start = at(root, OsStr::new("."))?;
    // The directories we came through. The first is the root and is never removed.
    let mut way = vec![Step {
        mount: guide.mount(start.as_fd())?,
        fd: Rc::new(start),
        by_link: false,
    }];
    let mut todo = Vec::new();
    push(&mut todo, path, false);
    let (mut links, mut parts) = (0, 0);
    while let Some((part, of_link)) = todo.pop() {
        parts += 1;
        if parts > MAX_PARTS {
            return Err(Bound::Parts.into());
        }
        steps.set(steps.get().checked_sub(1).ok_or(Bound::Steps)?);
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
            return Err(Errno::ENOENT.into());
        };
        let entry = match at(dir.fd.as_fd(), &part) {
            Err(Errno::ENOENT) => guide.missing(dir, &part, todo.is_empty())?,
            other => other?,
        };
        let kind = SFlag::from_bits_truncate(fstat(&entry)?.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFLNK {
            links += 1;
            if links > MAX_LINKS {
                return Err(Bound::Links.into());
            }
            // A magic link of procfs need not lead to its target as text.
            if fstatfs(&entry)?.filesystem_type() == PROC_SUPER_MAGIC {
                return Err(Errno::ELOOP.into());
            }
            let target = fcntl::readlinkat(&entry, "")?;
            if target.is_empty() {
                return Err(Errno::ENOENT.into());
            }
            if Path::new(&target).is_absolute() {
                way.truncate(1);
            }
            push(&mut todo, Path::new(&target), true);
            continue;
        }
        if kind != SFlag::S_IFDIR && !todo.is_empty() {
            return Err(Errno::ENOTDIR.into());
        }
        if way.len() >= MAX_OPEN {
            return Err(Bound::Open.into());
        }
        let mount = guide.mount(entry.as_fd())?;
        let by_link = if mount == dir.mount {
            dir.by_link
        } else {
            of_link
        };
        way.push(Step {
            fd: Rc::new(entry),
            mount,
            by_link,
        });
    }
    Ok(way.pop().ok_or(Errno::ENOENT)?)
}

fn at(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::empty())
}

/// Adds the components of a path. A slash at the end requires a directory, like `/.`; `Path::components` would drop both.
fn push(todo: &mut Vec<(OsString, bool)>, path: &Path, of_link: bool) {
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/") {
        todo.push((".".into(), of_link));
    }
    let parts = bytes.split(|b| *b == b'/').filter(|p| !p.is_empty());
    todo.extend(
        parts
            .rev()
            .map(|p| (OsStr::from_bytes(p).to_owned(), of_link)),
    );
}
