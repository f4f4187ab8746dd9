//! A container's root file system, which is hostile.
//!
//! Every path of a container is resolved here and nowhere else, from a descriptor of the
//! root (`resolve`). A link in the image, absolute or with any number of `..`, leads to a
//! place in the image; what is used is the descriptor, never the path again. A file is
//! looked at before it is opened: an image may have a device node or a FIFO of any name.
//! Nothing is made on file systems of the kernel's own, where a new directory can be a
//! new cgroup and writing a file a command, nor in a volume (`owner`).

mod detach;
mod look;
mod make;
mod owner;
mod resolve;
mod table;
mod walk;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{self, UnlinkatFlags};

use crate::error::{Error, Excerpt, Message};
use crate::linux::namespace::{Apart, OwnMounts};
use crate::oci::Arrangement;
use make::Dir;
pub use owner::MountPlace;
pub(crate) use owner::{Elsewhere, of_io};
use resolve::Resolver;
use table::Table;
use walk::{MOST_MADE, MOST_STEPS, Trouble};

/// The kernel's own file systems, by the numbers of include/uapi/linux/magic.h.
const KERNELS: [FsType; 14] = [
    FsType(0x9fa0),      // PROC_SUPER_MAGIC
    FsType(0x6265_6572), // SYSFS_MAGIC
    FsType(0x0027_e0eb), // CGROUP_SUPER_MAGIC
    FsType(0x6367_7270), // CGROUP2_SUPER_MAGIC
    FsType(0x6462_6720), // DEBUGFS_MAGIC
    FsType(0x7472_6163), // TRACEFS_MAGIC
    FsType(0x7363_6673), // SECURITYFS_MAGIC
    FsType(0x6265_6570), // CONFIGFS_MAGIC (fs/configfs)
    FsType(0xcafe_4a11), // BPF_FS_MAGIC
    FsType(0x4249_4e4d), // BINFMTFS_MAGIC
    FsType(0x0765_5821), // RDTGROUP_SUPER_MAGIC
    FsType(0x6165_676c), // PSTOREFS_MAGIC
    FsType(0xde5e_81e4), // EFIVARFS_MAGIC
    FsType(0xf97c_ff8c), // SELINUX_MAGIC
];
/// Written at once.
const PIECE: usize = 64 << 10;
/// What is to be in a file.
pub(crate) type Content<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;
/// Directories that are kept open; a driver's files are in a dozen.
const MOST_KNOWN: usize = 32;
/// Names tried for a temporary file before an image that has them all is refused.
const TEMPORARY_NAMES: u32 = 64;

/// A root file system, entered by descriptor.
#[derive(Debug)]
pub struct Rootfs {
    fd: OwnedFd,
    resolver: Resolver,
    /// Our `fd` directory in a procfs we trust: the one way to open what a descriptor is of.
    own: Option<OwnedFd>,
    notes: RefCell<Vec<Message>>,
    made: RefCell<Vec<Made>>,
    /// Directories that something was written in, and those where nothing may be: most of what
    /// we write goes into a few. Forgotten before mounts, which may come over one.
    known: RefCell<Vec<(PathBuf, Result<Dir, Elsewhere>)>>,
    looked_in: RefCell<Option<(PathBuf, Rc<OwnedFd>)>>,
    /// What an image may still have us do.
    steps: Cell<u32>,
    may_make: Cell<usize>,
    root_mount: OnceCell<u64>,
    table: OnceCell<Table>,
    /// The mounts of the namespace that was left for the container's, and, once it matters, their file systems.
    outside_text: OnceCell<String>,
    outside: OnceCell<HashSet<(u64, u64)>>,
    is_cut_off: Cell<bool>,
    /// Whose mount namespace we see it in; nothing is mounted where nobody has said.
    mounts: Option<OwnMounts>,
    arrangement: Arrangement,
    /// Whether we may do no more than whoever had us started: then a volume is theirs to write to.
    has_callers_rights: bool,
    /// The mount at /dev, where the arrangement says that it is the container's own.
    own_dev: OnceCell<Option<u64>>,
}

/// An entry that was made, to be taken away again by [`Rootfs::take_back`].
#[derive(Debug)]
struct Made {
    dir: Rc<OwnedFd>,
    name: OsString,
    is_dir: bool,
}

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For a file, socket or device node.
    File,
    /// For a directory.
    Directory,
}

/// What became of a wanted link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It is there now, or was already.
    Yes,
    /// The image has a file or directory of that name, which stays.
    Occupied,
    /// Nothing can be made there; a note says why.
    Unwritable,
}

/// Our `fd` directory in procfs: the thread's, as is the mount namespace. Opened while the host's procfs is what `/proc` names, it serves in any
/// mount namespace that is entered later.
pub fn own_descriptors() -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // By openat: musl's open sets O_CLOEXEC by a call of its own once more.
    let dir = fcntl::openat(AT_FDCWD, "/proc/thread-self/fd", flags, Mode::empty()).ok()?;
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

    fn remember(&self, dir: Rc<OwnedFd>, name: &OsStr, is_dir: bool) {
        self.made.borrow_mut().push(Made {
            dir,
            name: name.to_owned(),
            is_dir,
        });
    }

    fn resolve(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.resolver.resolve(self.fd.as_fd(), path, &self.steps)
    }

    /// A directory, for what is to be made in it.
    fn resolve_dir(&self, path: &Path) -> nix::Result<OwnedFd> {
        let found = self.resolve(path)?;
        if is_dir(&found)? {
            Ok(found)
        } else {
            Err(Errno::ENOTDIR)
        }
    }

    /// Opens what an `O_PATH` descriptor is of.
    fn reopen(&self, found: &OwnedFd, flags: OFlag) -> nix::Result<File> {
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

    /// Makes the link `path -> target`. A link that is there is replaced, and so is an
    /// empty file (what a committed container keeps of a mount point); anything else stays.
    pub fn symlink(&self, path: &Path, target: &Path) -> Result<Linked, Error> {
        let made = self.symlink_within(path, target);
        let why = match made {
            Err(Trouble::System(e)) if is_unwritable(e) => e.desc().to_owned(),
            Err(Trouble::Elsewhere(why)) => match self.is_linked(path, target) {
                Some(linked) => return Ok(linked),
                None if why == Elsewhere::Volume => why.to_string(),
                None => return made.map_err(failed(path, "link")),
            },
            other => return other.map_err(failed(path, "link")),
        };
        self.note(path, &format!("the link is not made: {why}"));
        Ok(Linked::Unwritable)
    }

    fn symlink_within(&self, path: &Path, target: &Path) -> Result<Linked, Trouble> {
        let (dir, name) = self.place(path)?;
        match unistd::symlinkat(target, dir.as_fd(), name) {
            Err(Errno::EEXIST) => {}
            other => return Ok(other.map(|()| Linked::Yes)?),
        }
        if let Ok(found) = open_no_follow(dir.as_fd(), name) {
            let about = fstat(&found)?;
            let is_link = about.st_mode & libc::S_IFMT == libc::S_IFLNK;
            let is_leftover = about.st_mode & libc::S_IFMT == libc::S_IFREG && about.st_size == 0;
            if !(is_link || is_leftover) {
                return Ok(Linked::Occupied);
            }
            if is_link && fcntl::readlinkat(&found, "").is_ok_and(|t| t == target.as_os_str()) {
                return Ok(Linked::Yes);
            }
        }
        let (temporary, ()) = with_temporary(name, |temporary| {
            unistd::symlinkat(target, dir.as_fd(), temporary)
        })?;
        match replace(dir.as_fd(), &temporary, name) {
            // Something is mounted there, hence wanted there.
            Err(Errno::EBUSY) => Ok(Linked::Occupied),
            other => Ok(other.map(|()| Linked::Yes)?),
        }
    }

    /// What is where a link should be and cannot be made.
    fn is_linked(&self, path: &Path, target: &Path) -> Option<Linked> {
        let dir = self.resolve_dir(path.parent()?).ok()?;
        let found = open_no_follow(dir.as_fd(), path.file_name()?).ok()?;
        let is_it = fcntl::readlinkat(&found, "").is_ok_and(|t| t == target.as_os_str());
        Some(if is_it { Linked::Yes } else { Linked::Occupied })
    }

    /// Replaces the file at `path`, or makes it. A link of that name is replaced, not
    /// followed.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
        self.write_by(path, &|to| to.write_all(content), mode)
    }

    /// The same with a content that is written piece by piece.
    pub(crate) fn write_by(
        &self,
        path: &Path,
        content: Content<'_>,
        mode: u32,
    ) -> Result<(), Error> {
        let (dir, name) = self.place(path).map_err(failed(path, "create"))?;
        let (temporary, fd) =
            with_temporary(name, |temporary| create(dir.as_fd(), temporary, mode))
                .map_err(failed(path, "create"))?;
        let file = File::from(fd);
        // By descriptor: the name may lead elsewhere by now. The umask of whoever started us
        // must not make the loader's cache unreadable.
        let mut pieces = BufWriter::with_capacity(PIECE, &file);
        let done = content(&mut pieces)
            .and_then(|()| pieces.flush())
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| {
                Ok(fcntl::renameat(
                    dir.as_fd(),
                    temporary.as_os_str(),
                    dir.as_fd(),
                    name,
                )?)
            })
            .map_err(io_failed(path, "write"));
        if done.is_err() {
            remove(dir.as_fd(), &temporary);
        }
        done
    }

    /// The regular file at `path`, `None` where there is none. At most `max` bytes: an
    /// image cannot make us read for ever, nor wait on a FIFO, nor open a device. Nor is it read
    /// where a link of the image leads into a volume: the container may not be allowed to, and
    /// what we read we write down for it.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = match self.resolve_not_away(path) {
            Ok(found) => found,
            Err(Trouble::System(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(None),
            Err(e) => return Err(failed(path, "open")(e)),
        };
        let about = fstat(&found).map_err(failed(path, "stat"))?;
        if SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Ok(None);
        }
        let file = self
            .reopen(&found, OFlag::O_RDONLY)
            .map_err(failed(path, "open"))?;
        // One byte more than there is: the read that finds it full is the last.
        let size = u64::try_from(about.st_size).unwrap_or_default().min(max);
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(io_failed(path, "read"))?;
        if content.len() as u64 > max {
            return Err(failed(path, "read")(Errno::EFBIG));
        }
        Ok(Some(content))
    }
}

/// Whether the error says that nothing can be made there, by us or by anybody: a read-only or
/// full file system, an immutable file, one whose owner has no name in our user namespace, or
/// one that something is mounted on.
pub(crate) fn is_unwritable(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EROFS
            | Errno::EPERM
            | Errno::EACCES
            | Errno::EOVERFLOW
            | Errno::ENOSPC
            | Errno::EDQUOT
            // A file that our own limit, or the file system, lets get no longer.
            | Errno::EFBIG
            | Errno::EBUSY
    )
}

fn kind(fd: &OwnedFd) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT)
}

fn is_dir(fd: &OwnedFd) -> nix::Result<bool> {
    Ok(kind(fd)? == SFlag::S_IFDIR)
}

fn open_no_follow(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::empty())
}

fn create(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> nix::Result<OwnedFd> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::from_bits_truncate(mode))
}

fn replace(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> nix::Result<()> {
    fcntl::renameat(dir, from, dir, to).inspect_err(|_| remove(dir, from))
}

fn remove(dir: BorrowedFd<'_>, name: &OsStr) {
    let _ = unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir);
}

/// Makes something under a name that nothing has yet. An image can have the first ones.
fn with_temporary<T>(
    name: &OsStr,
    make: impl Fn(&OsStr) -> nix::Result<T>,
) -> nix::Result<(OsString, T)> {
    // Asked once: the number only keeps two hooks in one root file system from the same names.
    static OWN: OnceLock<u32> = OnceLock::new();
    let own = OWN.get_or_init(std::process::id);
    for n in 0..TEMPORARY_NAMES {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{own}.{n}"));
        match make(&temporary) {
            Err(Errno::EEXIST) => {}
            other => return other.map(|made| (temporary, made)),
        }
    }
    Err(Errno::EEXIST)
}

fn failed<T: Into<Trouble>>(path: &Path, what: &'static str) -> impl FnOnce(T) -> Error {
    let path = path.to_owned();
    move |trouble| Error::Rootfs {
        path,
        what,
        source: match trouble.into() {
            Trouble::System(errno) => errno.into(),
            Trouble::Elsewhere(why) => io::Error::other(why),
            Trouble::TooMuch(bound) => io::Error::other(bound),
        },
    }
}

fn io_failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Rootfs { path, what, source }
}

#[cfg(test)]
mod bound_tests;
#[cfg(test)]
mod mounted_tests;
#[cfg(test)]
mod tests;
