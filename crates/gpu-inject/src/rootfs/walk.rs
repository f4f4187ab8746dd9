//! A path taken a component at a time, each opened from its directory's descriptor.
//!
//! `..` is never asked of the file system: it goes back to the descriptor we came by. An image
//! chooses how long its links and how deep its directories are, so all of it is bounded.

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

/// Links in one path, as the kernel counts them (`MAXSYMLINKS`).
pub(super) const MAX_LINKS: u8 = 40;
/// Components of one path and of the links in it. The kernel has no such bound of its own: 40
/// links of 4 KiB are 80,000.
pub(super) const MOST_PARTS: u32 = 4096;
/// Components of all paths of one start together.
pub(super) const MOST_STEPS: u32 = 1 << 17;
/// Directories of one path that are kept open at a time, to go back by.
pub(super) const MOST_OPEN: usize = 1024;
/// Directories that are made in one start. A driver's files are in two dozen.
pub(super) const MOST_MADE: usize = 256;

/// A quantity that an image chose too large.
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
            Self::Parts => ("directories in one path and its links", MOST_PARTS.into()),
            Self::Steps => ("directories in the paths of one start", MOST_STEPS.into()),
            Self::Open => ("directories below each other", MOST_OPEN as u64),
            Self::Made => ("missing directories to make", MOST_MADE as u64),
        };
        write!(
            f,
            "the image's links lead through more than {most} {what}; \
             `find -type l` in the image shows them"
        )
    }
}

impl std::error::Error for Bound {}

/// Why a path leads to no place that can be used.
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
    /// For those who look only.
    pub(super) fn errno(self) -> Errno {
        match self {
            Self::System(errno) => errno,
            Self::Elsewhere(_) => Errno::EXDEV,
            Self::TooMuch(_) => Errno::ELOOP,
        }
    }
}

/// A place on the way.
pub(super) struct Step {
    pub(super) fd: Rc<OwnedFd>,
    /// The mount it is on, where the walk keeps track of mounts.
    pub(super) mount: u64,
    /// Whether a link, and not the path itself, named the place where that mount was entered.
    pub(super) by_link: bool,
}

/// What a walk does besides walking.
pub(super) trait Guide {
    /// The mount of a descriptor.
    fn mount(&self, fd: BorrowedFd<'_>) -> nix::Result<u64>;

    /// Nothing has that name: makes it, or says why not.
    fn missing(&self, dir: &Step, name: &OsStr, is_last: bool) -> Result<OwnedFd, Trouble>;
}

/// Looks, and makes nothing.
pub(super) struct Look;

impl Guide for Look {
    fn mount(&self, _: BorrowedFd<'_>) -> nix::Result<u64> {
        Ok(0)
    }

    fn missing(&self, _: &Step, _: &OsStr, _: bool) -> Result<OwnedFd, Trouble> {
        Err(Errno::ENOENT.into())
    }
}

/// What `path` leads to, all links followed within `root`. `steps` is what the start has left.
pub(super) fn walk(
    root: BorrowedFd<'_>,
    path: &Path,
    steps: &Cell<u32>,
    guide: &dyn Guide,
) -> Result<Step, Trouble> {
    let start = at(root, OsStr::new("."))?;
    // The way we came; its first is the root, and never goes.
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
        if parts > MOST_PARTS {
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
        let found = match at(dir.fd.as_fd(), &part) {
            Err(Errno::ENOENT) => guide.missing(dir, &part, todo.is_empty())?,
            other => other?,
        };
        let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFLNK {
            links += 1;
            if links > MAX_LINKS {
                return Err(Bound::Links.into());
            }
            // What a link of procfs says need not be where it leads.
            if fstatfs(&found)?.filesystem_type() == PROC_SUPER_MAGIC {
                return Err(Errno::ELOOP.into());
            }
            let target = fcntl::readlinkat(&found, "")?;
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
        if way.len() >= MOST_OPEN {
            return Err(Bound::Open.into());
        }
        let mount = guide.mount(found.as_fd())?;
        let by_link = if mount == dir.mount {
            dir.by_link
        } else {
            of_link
        };
        way.push(Step {
            fd: Rc::new(found),
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

/// A slash at the end asks for a directory, as `/.` does. `Path` would drop both.
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
