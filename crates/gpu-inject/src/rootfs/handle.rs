//! The root file system, entered by descriptor: what is known of it, and what was made in it.

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
use super::table::Table;
use super::walk::{MOST_MADE, MOST_STEPS};
use crate::error::{Error, Excerpt, Message};
use crate::linux::namespace::{Apart, OwnMounts};
use crate::oci::Arrangement;

/// A root file system, entered by descriptor.
#[derive(Debug)]
pub struct Rootfs {
    pub(super) fd: OwnedFd,
    pub(super) resolver: Resolver,
    /// Our `fd` directory in a procfs we trust: the one way to open what a descriptor is of.
    pub(super) own: Option<OwnedFd>,
    pub(super) notes: RefCell<Vec<Message>>,
    pub(super) made: RefCell<Vec<Made>>,
    /// Directories that something was written in, and those where nothing may be: most of what
    /// we write goes into a few. Forgotten before mounts, which may come over one.
    pub(super) known: RefCell<Vec<(PathBuf, Result<Dir, Elsewhere>)>>,
    pub(super) looked_in: RefCell<Option<(PathBuf, Rc<OwnedFd>)>>,
    /// What an image may still have us do.
    pub(super) steps: Cell<u32>,
    pub(super) may_make: Cell<usize>,
    pub(super) root_mount: OnceCell<u64>,
    pub(super) table: OnceCell<Table>,
    /// The mounts of the namespace that was left for the container's, and, once it matters, their file systems.
    pub(super) outside_text: OnceCell<String>,
    pub(super) outside: OnceCell<HashSet<(u64, u64)>>,
    pub(super) is_cut_off: Cell<bool>,
    /// Whose mount namespace we see it in; nothing is mounted where nobody has said.
    pub(super) mounts: Option<OwnMounts>,
    pub(super) arrangement: Arrangement,
    /// Whether we may do no more than whoever had us started: then a volume is theirs to write to.
    pub(super) has_callers_rights: bool,
    /// The mount at /dev, where the arrangement says that it is the container's own.
    pub(super) own_dev: OnceCell<Option<u64>>,
}

/// An entry that was made, to be taken away again by [`Rootfs::take_back`].
#[derive(Debug)]
pub(super) struct Made {
    pub(super) dir: Rc<OwnedFd>,
    pub(super) name: OsString,
    pub(super) is_dir: bool,
}

/// Our `fd` directory in procfs: the thread's, as is the mount namespace. Opened while the host's procfs is what `/proc` names, it serves in any
/// mount namespace that is entered later.
pub fn own_descriptors() -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // The process's first thread is the process; there the kernel has a shorter path to make up.
    let path = if gettid() == getpid() {
        "/proc/self/fd"
    } else {
        "/proc/thread-self/fd"
    };
    // By openat: musl's open sets O_CLOEXEC by a call of its own once more.
    let dir = fcntl::openat(AT_FDCWD, path, flags, Mode::empty()).ok()?;
    let kind = fstatfs(&dir).ok()?.filesystem_type();
    (kind == nix::sys::statfs::PROC_SUPER_MAGIC).then_some(dir)
}

/// For testenv/fuzz: where both ways of resolving lead; `None` where one is not there.
pub(crate) fn resolve_both(root: &Path, path: &Path) -> Option<[Option<(u64, u64)>; 2]> {
    let rootfs = Rootfs::open(root).ok()?;
    if rootfs.resolver == Resolver::Walk {
        return None;
    }
    Some([Resolver::Kernel, Resolver::Walk].map(|resolver| {
        let found = resolver.resolve(rootfs.fd.as_fd(), path, &rootfs.steps);
        let found = found.ok()?;
        fstat(&found).ok().map(|f| (f.st_dev, f.st_ino))
    }))
}

impl Rootfs {
    /// Opens the directory at `path`, a path of the runtime's, not of the image's.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, own_descriptors())
    }

    /// The same for whoever has [`own_descriptors`] from before another mount namespace was
    /// entered.
    pub fn open_with(path: &Path, own: Option<OwnedFd>) -> Result<Self, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = fcntl::openat(AT_FDCWD, path, flags, Mode::empty())
            .map_err(|e| Error::host(path)(e.into()))?;
        let resolver = Resolver::of(fd.as_fd());
        Ok(Self {
            fd,
            resolver,
            own,
            notes: RefCell::default(),
            made: RefCell::default(),
            known: RefCell::default(),
            looked_in: RefCell::default(),
            steps: Cell::new(MOST_STEPS),
            may_make: Cell::new(MOST_MADE),
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

    /// The directory itself.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// For what is to be mounted in it.
    #[must_use]
    pub fn in_namespace(mut self, mounts: OwnMounts) -> Self {
        self.mounts = Some(mounts);
        self
    }

    /// With what config.json says about its mounts.
    #[must_use]
    pub fn arranged(mut self, arrangement: Arrangement) -> Self {
        self.arrangement = arrangement;
        self
    }

    /// With the rights of whoever had us started and no others, as in a user namespace of theirs.
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

    /// What could not be done and is no reason to refuse the container, a line each.
    pub fn notes(&self) -> Vec<Message> {
        self.notes.borrow().clone()
    }

    pub(crate) fn note(&self, path: &Path, what: &str) {
        let path = Excerpt::of(path);
        let note = Message::of(format_args!("in the container: {path}: {what}"));
        self.notes.borrow_mut().push(note);
    }

    /// Takes away every entry made since the root was opened, last first; what is not empty
    /// stays.
    pub(crate) fn take_back(&self) {
        for made in self.made.borrow_mut().drain(..).rev() {
            let flag = if made.is_dir {
                UnlinkatFlags::RemoveDir
            } else {
                UnlinkatFlags::NoRemoveDir
            };
            let _ = unistd::unlinkat(made.dir.as_fd(), made.name.as_os_str(), flag);
        }
    }

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

    /// A directory, for what is to be made in it.
    pub(super) fn resolve_dir(&self, path: &Path) -> nix::Result<OwnedFd> {
        let found = self.resolve(path)?;
        if is_dir(&found)? {
            Ok(found)
        } else {
            Err(Errno::ENOTDIR)
        }
    }

    /// Opens what an `O_PATH` descriptor is of.
    pub(super) fn reopen(&self, found: &OwnedFd, flags: OFlag) -> nix::Result<File> {
        let own = self.own.as_ref().ok_or(Errno::ENOENT)?;
        let name = found.as_raw_fd().to_string();
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        fcntl::openat(own, name.as_str(), flags, Mode::empty()).map(File::from)
    }

    /// Where `/proc/self/fd` is, for system calls that take no descriptor.
    pub(crate) fn own(&self) -> Option<BorrowedFd<'_>> {
        self.own.as_ref().map(AsFd::as_fd)
    }

    /// Whether the path leads to anything.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path).is_ok()
    }

    /// After a mount on a directory: it may be over one that we know.
    pub(crate) fn forget(&self) {
        self.known.borrow_mut().clear();
        self.looked_in.borrow_mut().take();
    }
}
