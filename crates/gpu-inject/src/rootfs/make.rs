//! Directories and places to mount on, made where missing, in what is the container's own.
//!
//! Mostly all of it is there, or a directory or two is missing below one that is there. Where
//! links of the image lead to nothing, what they name is made in the image, in one walk.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use super::calls::{create, failed, is_dir};
use super::elsewhere::Elsewhere;
use super::handle::Rootfs;
use super::place::{Dir, Kind, MountPlace, On};
use super::walk::{Bound, Guide, Step, Trouble, walk};
use crate::error::Error;

/// Directories that are kept open; a driver's files are in a dozen.
pub(super) const MOST_KNOWN: usize = 32;

/// Makes what a path misses.
struct Maker<'r> {
    rootfs: &'r Rootfs,
    last: Kind,
}

impl Guide for Maker<'_> {
    fn mount(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        self.rootfs.mount_of(fd)
    }

    fn missing(&self, dir: &Step, name: &OsStr, is_last: bool) -> Result<OwnedFd, Trouble> {
        self.rootfs.ensure_own(dir)?;
        if is_last && self.last == Kind::File {
            return Ok(self.rootfs.make_file(&dir.fd, name)?);
        }
        self.rootfs.make_one(&dir.fd, name)
    }
}

/// Keeps track of mounts, and makes nothing.
struct Track<'r>(&'r Rootfs);

impl Guide for Track<'_> {
    fn mount(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        self.0.mount_of(fd)
    }

    fn missing(&self, _: &Step, _: &OsStr, _: bool) -> Result<OwnedFd, Trouble> {
        Err(Errno::ENOENT.into())
    }
}

impl Rootfs {
    /// The directory at `path`, made with its parents where missing. A link of the image
    /// that leads nowhere is followed: what it names, in the image, is made.
    pub fn make_dir(&self, path: &Path) -> Result<(), Error> {
        let made = self.own_dir(path);
        made.map(drop).map_err(failed(path, "make directory"))
    }

    /// A place to mount on, made where missing. What is there stays as it is.
    pub fn mount_point(&self, path: &Path, kind: Kind) -> Result<MountPlace, Error> {
        let what = match kind {
            Kind::File => "make a file to mount on",
            Kind::Directory => "make directory",
        };
        self.mount_place(path, kind).map_err(failed(path, what))
    }

    fn mount_place(&self, path: &Path, kind: Kind) -> Result<MountPlace, Trouble> {
        // Mostly nothing is there of a file, and nothing more than the parent of a directory.
        let made = match kind {
            Kind::File => self.new_file(path),
            Kind::Directory => self.own_dir_unknown(path).and_then(Dir::into_place),
        };
        match made {
            Ok(place) => return Ok(place),
            Err(e @ Trouble::TooMuch(_)) => return Err(e),
            Err(_) => {}
        }
        // What is in a volume already can be mounted on: nothing is made there.
        let place = match self
            .resolver
            .on_mount(self.fd.as_fd(), path, OFlag::empty())
        {
            Ok(fd) => MountPlace { fd, on: On::Root },
            Err(_) => self.walked(self.walk(path, kind)?)?,
        };
        if is_dir(&place.fd)? == (kind == Kind::Directory) {
            return Ok(place);
        }
        Err(Trouble::System(match kind {
            Kind::File => Errno::EISDIR,
            Kind::Directory => Errno::ENOTDIR,
        }))
    }

    /// What is at `path`, to be covered.
    pub(crate) fn covered(&self, path: &Path) -> Result<MountPlace, Error> {
        let look = || -> Result<MountPlace, Trouble> {
            match self
                .resolver
                .on_mount(self.fd.as_fd(), path, OFlag::empty())
            {
                Ok(fd) => Ok(MountPlace { fd, on: On::Root }),
                Err(Errno::EXDEV | Errno::ENOSYS) => {
                    let found = self.track(path)?;
                    self.ensure_not_away(&found)?;
                    self.walked(found)
                }
                Err(e) => Err(e.into()),
            }
        };
        look().map_err(failed(path, "cover"))
    }

    /// What is at `path`, unless a link of the image leads to a volume.
    pub(super) fn resolve_not_away(&self, path: &Path) -> Result<OwnedFd, Trouble> {
        self.resolve_if(path, |found| self.ensure_not_away(found))
    }

    /// The same where it is the container's own.
    pub(super) fn resolve_own(&self, path: &Path) -> Result<OwnedFd, Trouble> {
        self.resolve_if(path, |found| self.ensure_own(found).map(drop))
    }

    /// What is at `path`: on the root mount as it is, else where `ensure` says that it may be used.
    fn resolve_if(
        &self,
        path: &Path,
        ensure: impl FnOnce(&Step) -> Result<(), Trouble>,
    ) -> Result<OwnedFd, Trouble> {
        match self
            .resolver
            .on_mount(self.fd.as_fd(), path, OFlag::empty())
        {
            Err(Errno::EXDEV | Errno::ENOSYS) => {}
            other => return Ok(other?),
        }
        let found = self.track(path)?;
        ensure(&found)?;
        Ok(Rc::into_inner(found.fd).ok_or(Errno::EBADF)?)
    }

    /// Whether `path` itself, no link, is in a directory of the container's own: then so is what
    /// was mounted on it. A directory that is not there is not made.
    pub(crate) fn is_plain(&self, path: &Path) -> bool {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let is_known = |known: &(PathBuf, _)| known.0.as_os_str() == parent.as_os_str();
        if !self.known.borrow().iter().any(is_known) {
            let Ok(dir) = self.dir_on_root(parent) else {
                return false;
            };
            self.know(parent, Ok(Dir::on_root(dir)));
        }
        let known = self.known.borrow();
        let dir = known
            .iter()
            .find(|k| is_known(k))
            .and_then(|(_, dir)| dir.as_ref().ok());
        let found = dir.and_then(|dir| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok());
        found.is_some_and(|f| f.st_mode & libc::S_IFMT != libc::S_IFLNK)
    }

    /// Whether what is mounted at `path` is to be seen outside of the container; then a descriptor
    /// of it, too.
    pub(crate) fn is_shared(&self, path: &Path) -> Result<Option<OwnedFd>, Error> {
        let look = || -> Result<Option<OwnedFd>, Trouble> {
            let found = match self.track(path) {
                Err(Trouble::System(Errno::ENOENT)) => return Ok(None),
                found => found?,
            };
            let is_shared = self.is_on_shared(found.mount)?;
            Ok(is_shared.then(|| Rc::into_inner(found.fd)).flatten())
        };
        look().map_err(failed(path, "look where it is mounted"))
    }

    fn track(&self, path: &Path) -> Result<Step, Trouble> {
        walk(self.fd.as_fd(), path, &self.steps, &Track(self))
    }

    fn walk(&self, path: &Path, last: Kind) -> Result<Step, Trouble> {
        let maker = Maker { rootfs: self, last };
        walk(self.fd.as_fd(), path, &self.steps, &maker)
    }

    fn walked(&self, found: Step) -> Result<MountPlace, Trouble> {
        let on = self.on(&found)?;
        let fd = Rc::into_inner(found.fd).ok_or(Errno::EBADF)?;
        Ok(MountPlace { fd, on })
    }

    /// The directory that a path's last name is in, where things may be made, and that name.
    pub(super) fn place<'a>(&self, path: &'a Path) -> Result<(Dir, &'a OsStr), Trouble> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.own_dir(parent)?, name))
    }

    fn own_dir(&self, path: &Path) -> Result<Dir, Trouble> {
        let known = self.known.borrow().iter().find_map(|(known, dir)| {
            let is_it = known.as_os_str() == path.as_os_str();
            is_it.then(|| dir.clone())
        });
        if let Some(dir) = known {
            return dir.map_err(Trouble::Elsewhere);
        }
        let found = self.own_dir_unknown(path);
        match &found {
            Ok(dir) => self.know(path, Ok(dir.clone())),
            Err(Trouble::Elsewhere(why)) => self.know(path, Err(*why)),
            Err(_) => {}
        }
        found
    }

    fn know(&self, path: &Path, dir: Result<Dir, Elsewhere>) {
        let mut known = self.known.borrow_mut();
        if known.len() < MOST_KNOWN {
            known.push((path.to_owned(), dir));
        }
    }

    fn own_dir_unknown(&self, path: &Path) -> Result<Dir, Trouble> {
        match self.dir_on_root(path) {
            Err(Errno::ENOENT) => {
                if let Some(made) = self.make_below(path)? {
                    return Ok(made);
                }
            }
            Err(Errno::EXDEV | Errno::ENOSYS) => {}
            other => return Ok(Dir::on_root(other?)),
        }
        let found = self.walk(path, Kind::Directory)?;
        if !is_dir(&found.fd)? {
            return Err(Errno::ENOTDIR.into());
        }
        let on = self.ensure_own(&found)?;
        Ok(Dir { fd: found.fd, on })
    }

    fn dir_on_root(&self, path: &Path) -> nix::Result<OwnedFd> {
        let root = self.fd.as_fd();
        self.resolver.on_mount(root, path, OFlag::O_DIRECTORY)
    }

    /// Makes the last names of a path below what is there of it; `None` where that is not all:
    /// a link that leads nowhere, or a mount on the way.
    fn make_below(&self, path: &Path) -> Result<Option<Dir>, Trouble> {
        let mut missing = Vec::new();
        let mut above = path;
        let mut dir = loop {
            let (Some(parent), Some(name)) = (above.parent(), above.file_name()) else {
                return Ok(None);
            };
            missing.push(name);
            above = parent;
            match self.dir_on_root(above) {
                Ok(dir) => break dir,
                Err(Errno::ENOENT) => {}
                Err(_) => return Ok(None),
            }
        };
        for name in missing.into_iter().rev() {
            dir = match self.make_one(&Rc::new(dir), name) {
                Err(Trouble::System(Errno::EEXIST)) => return Ok(None),
                made => made?,
            };
        }
        Ok(Some(Dir::on_root(dir)))
    }

    fn make_one(&self, dir: &Rc<OwnedFd>, name: &OsStr) -> Result<OwnedFd, Trouble> {
        let left = self.may_make.get().checked_sub(1).ok_or(Bound::Made)?;
        mkdirat(dir.as_fd(), name, Mode::from_bits_truncate(0o755))?;
        self.may_make.set(left);
        self.remember(Rc::clone(dir), name, true);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(fcntl::openat(dir.as_fd(), name, flags, Mode::empty())?)
    }

    fn new_file(&self, path: &Path) -> Result<MountPlace, Trouble> {
        let (dir, name) = self.place(path)?;
        let fd = self.make_file(&dir.fd, name)?;
        Ok(MountPlace { fd, on: dir.on })
    }

    fn make_file(&self, dir: &Rc<OwnedFd>, name: &OsStr) -> nix::Result<OwnedFd> {
        let made = create(dir.as_fd(), name, 0o644)?;
        self.remember(Rc::clone(dir), name, false);
        Ok(made)
    }
}
