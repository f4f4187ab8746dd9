//! Makes missing directories and mount points, in the container's own file systems only.
//!
//! In most cases everything exists, or a directory or two are missing at the end of the path.
//! Dangling links of the image are followed too: their targets are made in the image.

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
use super::place::{Dir, MountPlace, MountPointKind, On};
use super::walk::{Bound, Guide, Step, Trouble, walk};
use crate::error::Error;

/// Upper bound for cached directories, which are kept open; a driver's files are in a dozen.
pub(super) const MAX_KNOWN: usize = 32;

/// Makes the missing components of a path.
struct Maker<'r> {
    rootfs: &'r Rootfs,
    last: MountPointKind,
}

impl Guide for Maker<'_> {
    fn mount(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        self.rootfs.mount_of(fd)
    }

    fn missing(&self, dir: &Step, name: &OsStr, is_last: bool) -> Result<OwnedFd, Trouble> {
        self.rootfs.ensure_own(dir)?;
        if is_last && self.last == MountPointKind::File {
            return Ok(self.rootfs.make_file(&dir.fd, name)?);
        }
        self.rootfs.make_one(&dir.fd, name)
    }
}

/// Keeps track of mounts; a missing component is an error.
struct MountTracker<'r>(&'r Rootfs);

impl Guide for MountTracker<'_> {
    fn mount(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        self.0.mount_of(fd)
    }

    fn missing(&self, _: &Step, _: &OsStr, _: bool) -> Result<OwnedFd, Trouble> {
        Err(Errno::ENOENT.into())
    }
}

impl Rootfs {
    /// Makes the directory at `path` and its parents, where missing. A dangling link of the image is
    /// followed: its target is made in the image.
    pub fn make_dir(&self, path: &Path) -> Result<(), Error> {
        let made = self.own_dir(path);
        made.map(drop).map_err(failed(path, "make directory"))
    }

    /// Returns a mount point at `path`, made if missing. An existing file or directory is not changed.
    pub fn mount_point(&self, path: &Path, kind: MountPointKind) -> Result<MountPlace, Error> {
        let what = match kind {
            MountPointKind::File => "make a file to mount on",
            MountPointKind::Directory => "make directory",
        };
        self.mount_place(path, kind).map_err(failed(path, what))
    }

    fn mount_place(&self, path: &Path, kind: MountPointKind) -> Result<MountPlace, Trouble> {
        // The common cases first: a new file, or a directory in the container's own file systems.
        let made = match kind {
            MountPointKind::File => self.new_file(path),
            MountPointKind::Directory => self.own_dir_uncached(path).and_then(Dir::into_place),
        };
        match made {
            Ok(place) => return Ok(place),
            Err(e @ Trouble::TooMuch(_)) => return Err(e),
            Err(_) => {}
        }
        // An existing file in a volume can also be a mount point, because nothing has to be made there.
        let place = match self
            .resolver
            .on_mount(self.fd.as_fd(), path, OFlag::empty())
        {
            Ok(fd) => MountPlace { fd, on: On::Root },
            Err(_) => self.mount_place_at(self.walk(path, kind)?)?,
        };
        if is_dir(&place.fd)? == (kind == MountPointKind::Directory) {
            return Ok(place);
        }
        Err(Trouble::System(match kind {
            MountPointKind::File => Errno::EISDIR,
            MountPointKind::Directory => Errno::ENOTDIR,
        }))
    }

    /// What exists at `path`, as a mount point for a file that covers it.
    pub(crate) fn cover_point(&self, path: &Path) -> Result<MountPlace, Error> {
        let look = || -> Result<MountPlace, Trouble> {
            match self
                .resolver
                .on_mount(self.fd.as_fd(), path, OFlag::empty())
            {
                Ok(fd) => Ok(MountPlace { fd, on: On::Root }),
                Err(Errno::EXDEV | Errno::ENOSYS) => {
                    let step = self.track(path)?;
                    self.ensure_not_away(&step)?;
                    self.mount_place_at(step)
                }
                Err(e) => Err(e.into()),
            }
        };
        look().map_err(failed(path, "cover"))
    }

    /// Resolves `path`, unless a link of the image leads into a volume.
    pub(super) fn resolve_not_away(&self, path: &Path) -> Result<OwnedFd, Trouble> {
        self.resolve_if(path, |step| self.ensure_not_away(step))
    }

    /// Resolves `path`, if it is in the container's own file systems.
    pub(super) fn resolve_own(&self, path: &Path) -> Result<OwnedFd, Trouble> {
        self.resolve_if(path, |step| self.ensure_own(step).map(drop))
    }

    /// Resolves `path`. If it is not on the root mount, `ensure` decides whether it may be used.
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
        let step = self.track(path)?;
        ensure(&step)?;
        Ok(Rc::into_inner(step.fd).ok_or(Errno::EBADF)?)
    }

    /// Whether `path` itself, which must not be a link, is in a directory on the root mount: then a
    /// mount made on it is in the container's own file systems. A missing directory is not made.
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
        let stat = dir.and_then(|dir| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok());
        stat.is_some_and(|f| f.st_mode & libc::S_IFMT != libc::S_IFLNK)
    }

    /// The mount at `path`, if it propagated out of the container when it was made.
    pub(crate) fn shared_mount(&self, path: &Path) -> Result<Option<OwnedFd>, Error> {
        let look = || -> Result<Option<OwnedFd>, Trouble> {
            let step = match self.track(path) {
                Err(Trouble::System(Errno::ENOENT)) => return Ok(None),
                other => other?,
            };
            let is_shared = self.is_on_shared(step.mount)?;
            Ok(is_shared.then(|| Rc::into_inner(step.fd)).flatten())
        };
        look().map_err(failed(path, "look where it is mounted"))
    }

    fn track(&self, path: &Path) -> Result<Step, Trouble> {
        walk(self.fd.as_fd(), path, &self.steps, &MountTracker(self))
    }

    fn walk(&self, path: &Path, last: MountPointKind) -> Result<Step, Trouble> {
        let maker = Maker { rootfs: self, last };
        walk(self.fd.as_fd(), path, &self.steps, &maker)
    }

    fn mount_place_at(&self, step: Step) -> Result<MountPlace, Trouble> {
        let on = self.on(&step)?;
        let fd = Rc::into_inner(step.fd).ok_or(Errno::EBADF)?;
        Ok(MountPlace { fd, on })
    }

    /// The directory for an entry that is to be made at `path`, made if missing, and the entry's name.
    pub(super) fn place<'a>(&self, path: &'a Path) -> Result<(Dir, &'a OsStr), Trouble> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.own_dir(parent)?, name))
    }

    fn own_dir(&self, path: &Path) -> Result<Dir, Trouble> {
        let known = self.known.borrow().iter().find_map(|(known, dir)| {
            let is_same = known.as_os_str() == path.as_os_str();
            is_same.then(|| dir.clone())
        });
        if let Some(dir) = known {
            return dir.map_err(Trouble::Elsewhere);
        }
        let dir = self.own_dir_uncached(path);
        match &dir {
            Ok(dir) => self.know(path, Ok(dir.clone())),
            Err(Trouble::Elsewhere(why)) => self.know(path, Err(*why)),
            Err(_) => {}
        }
        dir
    }

    fn know(&self, path: &Path, dir: Result<Dir, Elsewhere>) {
        let mut known = self.known.borrow_mut();
        if known.len() < MAX_KNOWN {
            known.push((path.to_owned(), dir));
        }
    }

    fn own_dir_uncached(&self, path: &Path) -> Result<Dir, Trouble> {
        match self.dir_on_root(path) {
            Err(Errno::ENOENT) => {
                if let Some(made) = self.make_below(path)? {
                    return Ok(made);
                }
            }
            Err(Errno::EXDEV | Errno::ENOSYS) => {}
            other => return Ok(Dir::on_root(other?)),
        }
        let step = self.walk(path, MountPointKind::Directory)?;
        if !is_dir(&step.fd)? {
            return Err(Errno::ENOTDIR.into());
        }
        let on = self.ensure_own(&step)?;
        Ok(Dir { fd: step.fd, on })
    }

    fn dir_on_root(&self, path: &Path) -> nix::Result<OwnedFd> {
        let root = self.fd.as_fd();
        self.resolver.on_mount(root, path, OFlag::O_DIRECTORY)
    }

    /// Makes the missing components at the end of a path. `None` if that is not enough, because of a
    /// dangling link or a mount in the path.
    fn make_below(&self, path: &Path) -> Result<Option<Dir>, Trouble> {
        let mut missing = Vec::new();
        let mut existing = path;
        let mut dir = loop {
            let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else {
                return Ok(None);
            };
            missing.push(name);
            existing = parent;
            match self.dir_on_root(existing) {
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
