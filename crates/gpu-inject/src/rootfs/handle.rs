//! The handle of a container's root file system: its descriptor, cached facts about it, and the entries we have made in it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{self, UnlinkatFlags, getpid, gettid};

use super::calls::is_dir;
use super::elsewhere::Elsewhere;
use super::place::Dir;
use super::resolve::Resolver;
use super::table::MountTable;
use super::walk::{MAX_MADE, MAX_STEPS};
use crate::error::{Error, Excerpt, Message};
use crate::linux::namespace::{Apart, OwnMounts};
use crate::oci::Arrangement;

/// A container's root file system, held by a descriptor.
#[derive(Debug)]
pub struct Rootfs {
    pub(super) fd: OwnedFd,
    pub(super) resolver: Resolver,
    /// Our `fd` directory in the host's procfs. It is the only way to reopen an `O_PATH` descriptor.
    pub(super) descriptors: Option<OwnedFd>,
    pub(super) notes: RefCell<Vec<Message>>,
    pub(super) made: RefCell<Vec<Made>>,
    /// Cache of directories that we have written in, and of those in which we may not. Most of our
    /// files go into a few directories. Cleared when a directory is mounted, which may hide one.
    pub(super) known: RefCell<Vec<(PathBuf, Result<Dir, Elsewhere>)>>,
    /// The directory that was read last.
    pub(super) looked_in: RefCell<Option<(PathBuf, Rc<OwnedFd>)>>,
    /// Path components that may still be resolved.
    pub(super) steps: Cell<u32>,
    /// Directories that may still be made.
    pub(super) may_make: Cell<usize>,
    pub(super) root_mount: OnceCell<u64>,
    pub(super) table: OnceCell<MountTable>,
    /// mountinfo(5) of the namespace that we left for the container's.
    pub(super) outside_text: OnceCell<String>,
    /// The file systems in `outside_text`, parsed on first use.
    pub(super) outside: OnceCell<HashSet<(u64, u64)>>,
    /// Whether the root mount's propagation has been changed to slave.
    pub(super) is_cut_off: Cell<bool>,
    /// The current mount namespace, once it is known to be the container's. Needed for mounting.
    pub(super) mounts: Option<OwnMounts>,
    pub(super) arrangement: Arrangement,
    /// Whether we have no more privileges than our caller. Then we may write to the caller's volumes.
    pub(super) has_callers_rights: bool,
    /// The mount at /dev, if the arrangement says that it is the container's own.
    pub(super) own_dev: OnceCell<Option<u64>>,
}

/// An entry that we have made, which [`Rootfs::roll_back`] removes.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) dir: Rc<OwnedFd>,
    pub(super) name: OsString,
    pub(super) is_dir: bool,
}

/// Opens our `fd` directory in procfs: the thread's, since mount namespaces are per thread. If it is
/// opened while `/proc` is the host's procfs, it can be used in any mount namespace entered later.
pub fn own_descriptors() -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // For the first thread both are the same, and the kernel has less work for the shorter path.
    let path = if gettid() == getpid() {
        "/proc/self/fd"
    } else {
        "/proc/thread-self/fd"
    };
    // With openat, because musl's open makes a second system call for O_CLOEXEC.
    let dir = fcntl::openat(AT_FDCWD, path, flags, Mode::empty()).ok()?;
    let kind = fstatfs(&dir).ok()?.filesystem_type();
    (kind == nix::sys::statfs::PROC_SUPER_MAGIC).then_some(dir)
}

/// For testenv/fuzz: the results of both resolvers; `None` if the kernel has no openat2.
pub(crate) fn resolve_both(root: &Path, path: &Path) -> Option<[Option<(u64, u64)>; 2]> {
    let rootfs = Rootfs::open(root).ok()?;
    if rootfs.resolver == Resolver::Walk {
        return None;
    }
    Some([Resolver::Kernel, Resolver::Walk].map(|resolver| {
        let file = resolver.resolve(rootfs.fd.as_fd(), path, &rootfs.steps);
        fstat(&file.ok()?).ok().map(|f| (f.st_dev, f.st_ino))
    }))
}

impl Rootfs {
    /// Opens the directory at `path`, which must come from the runtime and not from the image.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, own_descriptors())
    }

    /// Opens the directory at `path` after another mount namespace was entered. `descriptors` is
    /// from [`own_descriptors`], called before that.
    pub fn open_with(path: &Path, descriptors: Option<OwnedFd>) -> Result<Self, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = fcntl::openat(AT_FDCWD, path, flags, Mode::empty())
            .map_err(|e| Error::host(path)(e.into()))?;
        let resolver = Resolver::of(fd.as_fd());
        Ok(Self {
            fd,
            resolver,
            descriptors,
            notes: RefCell::default(),
            made: RefCell::default(),
            known: RefCell::default(),
            looked_in: RefCell::default(),
            steps: Cell::new(MAX_STEPS),
            may_make: Cell::new(MAX_MADE),
            root_mount: OnceCell::new(),
            table: OnceCell::new(),
            outside_text: OnceCell::new(),
            outside: OnceCell::new(),
            is_cut_off: Cell::new(false),
            mounts: None,
            arrangement: Arrangement::default(),
            has_callers_rights: false,
            own_dev: OnceCell::new(),
        })
    }

    /// The root directory's descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Allows mounting in it, in this mount namespace.
    #[must_use]
    pub fn in_namespace(mut self, mounts: OwnMounts) -> Self {
        self.mounts = Some(mounts);
        self
    }

    /// Adds facts about its mounts from config.json.
    #[must_use]
    pub fn arranged(mut self, arrangement: Arrangement) -> Self {
        self.arrangement = arrangement;
        self
    }

    /// Sets whether we have no more privileges than our caller, as in a user namespace that the caller made.
    pub(crate) fn with_callers_rights(mut self, has: bool) -> Self {
        self.has_callers_rights = has;
        self
    }

    pub(crate) fn arrangement(&self) -> Arrangement {
        self.arrangement
    }

    pub(crate) fn ensure_apart(&self) -> Result<Apart, Error> {
        match &self.mounts {
            Some(mounts) => mounts.ensure_apart(),
            None => Err(Error::State("nothing is to be mounted here".into())),
        }
    }

    /// Warnings about what could not be done while the container still starts, a line for each.
    pub fn notes(&self) -> Vec<Message> {
        self.notes.borrow().clone()
    }

    pub(crate) fn note(&self, path: &Path, what: &str) {
        let path = Excerpt::of(path);
        let note = Message::of(format_args!("in the container: {path}: {what}"));
        self.notes.borrow_mut().push(note);
    }

    /// Removes every entry made since the root was opened, last first. Directories that are not
    /// empty stay.
    pub(crate) fn roll_back(&self) {
        for made in self.made.borrow_mut().drain(..).rev() {
            let flag = if made.is_dir {
                UnlinkatFlags::RemoveDir
            } else {
                UnlinkatFlags::NoRemoveDir
            };
            let _ = unistd::unlinkat(made.dir.as_fd(), made.name.as_os_str(), flag);
        }
    }

    /// Records an entry for [`Self::roll_back`].
    pub(super) fn remember(&self, dir: Rc<OwnedFd>, name: &OsStr, is_dir: bool) {
        self.made.borrow_mut().push(Made {
            dir,
            name: name.to_owned(),
            is_dir,
        });
    }

    pub(super) fn resolve(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.resolver.resolve(self.fd.as_fd(), path, &self.steps)
    }

    /// Resolves a path that must lead to a directory.
    pub(super) fn resolve_dir(&self, path: &Path) -> nix::Result<OwnedFd> {
        let dir = self.resolve(path)?;
        if is_dir(&dir)? {
            Ok(dir)
        } else {
            Err(Errno::ENOTDIR)
        }
    }

    /// Opens the file that an `O_PATH` descriptor refers to.
    pub(super) fn reopen(&self, file: &OwnedFd, flags: OFlag) -> nix::Result<File> {
        let descriptors = self.descriptors.as_ref().ok_or(Errno::ENOENT)?;
        let name = file.as_raw_fd().to_string();
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        fcntl::openat(descriptors, name.as_str(), flags, Mode::empty()).map(File::from)
    }

    /// Our `fd` directory in procfs, for system calls that take a path instead of a descriptor.
    pub(crate) fn descriptors(&self) -> Option<BorrowedFd<'_>> {
        self.descriptors.as_ref().map(AsFd::as_fd)
    }

    /// Whether the path leads to anything.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path).is_ok()
    }

    /// Clears the caches. To be called after a mount on a directory, which may hide a cached one.
    pub(crate) fn clear_caches(&self) {
        self.known.borrow_mut().clear();
        self.looked_in.borrow_mut().take();
    }
}
