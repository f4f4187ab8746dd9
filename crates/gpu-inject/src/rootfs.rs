//! A container's root file system, which is hostile.
//!
//! Every path of a container is resolved here and nowhere else, from a descriptor of the
//! root (`resolve`). A link in the image, absolute or with any number of `..`, leads to a
//! place in the image; what is used is the descriptor, never the path again. A file is
//! looked at before it is opened: an image may have a device node or a FIFO of any name.
//! Nothing is made on file systems of the kernel's own, where a new directory can be a
//! new cgroup and writing a file a command.

mod look;
mod mount_point;
mod resolve;

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{self, UnlinkatFlags};

use crate::error::{Error, Excerpt, Message};
use crate::live::{Apart, OwnMounts};
use resolve::{MAX_LINKS, Resolver};

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
    /// `/proc/self/fd` of a procfs we trust: the one way to open what a descriptor is of.
    own: Option<OwnedFd>,
    notes: RefCell<Vec<Message>>,
    made: RefCell<Vec<Made>>,
    /// Directories that something was written in: most of what we write goes into a few.
    /// Forgotten before mounts, which may come over one.
    known: RefCell<Vec<(PathBuf, Rc<OwnedFd>)>>,
    /// Whose mount namespace we see it in; nothing is mounted where nobody has said.
    mounts: Option<OwnMounts>,
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

/// `/proc/self/fd`. Opened while the host's procfs is what `/proc` names, it serves in any
/// mount namespace that is entered later.
pub fn own_descriptors() -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = fcntl::open("/proc/self/fd", flags, Mode::empty()).ok()?;
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
        let found = resolver.resolve(rootfs.fd.as_fd(), path).ok()?;
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
        let fd =
            fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::host(path)(e.into()))?;
        let resolver = Resolver::of(fd.as_fd());
        Ok(Self {
            fd,
            resolver,
            own,
            notes: RefCell::default(),
            made: RefCell::default(),
            known: RefCell::default(),
            mounts: None,
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
        self.resolver.resolve(self.fd.as_fd(), path)
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

    /// What is at `path` and the directory it was reached in, links followed.
    pub(crate) fn find(&self, path: &Path) -> nix::Result<(OwnedFd, OwnedFd)> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.resolve(path)?, self.resolve_dir(parent)?))
    }

    /// Whether the path leads to anything.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path).is_ok()
    }

    /// The directory at `path`, made with its parents where missing. A link of the image
    /// that leads nowhere is followed: what it names, in the image, is made.
    pub fn make_dir(&self, path: &Path) -> Result<OwnedFd, Error> {
        self.make_dir_within(path, MAX_LINKS)
            .map_err(failed(path, "make directory"))
    }

    fn make_dir_within(&self, path: &Path, links: u8) -> nix::Result<OwnedFd> {
        // Mostly all of it is there.
        match self.resolve_dir(path) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let parent = path.parent().ok_or(Errno::ENOENT)?;
        let dir = self.make_dir_within(parent, links)?;
        let Some(name) = path.file_name() else {
            // `..` of a link's target. All before it is there now, so the resolver can say where
            // it leads; above the root there is only the root.
            return self.resolve_dir(path);
        };
        may_make_in(dir.as_fd())?;
        match mkdirat(dir.as_fd(), name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => self.remember(Rc::new(dir), name, true),
            Err(Errno::EEXIST) => {
                // It was there, and only the way to it was not: a missing directory and `..`.
                match self.resolve_dir(path) {
                    Err(Errno::ENOENT) => {}
                    other => return other,
                }
                let links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
                let target = fcntl::readlinkat(dir.as_fd(), name)?;
                self.make_dir_within(&parent.join(target), links)?;
            }
            Err(e) => return Err(e),
        }
        self.resolve_dir(path)
    }

    /// The directory a path's last name is in, made where missing, and that name.
    fn parent<'a>(&self, path: &'a Path, links: u8) -> nix::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let dir = self.make_dir_within(parent, links)?;
        Ok((dir, name))
    }

    /// The same for a link or a file of ours, where things may be made.
    fn place<'a>(&self, path: &'a Path) -> nix::Result<(Rc<OwnedFd>, &'a OsStr)> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let known = self.known.borrow().iter().find_map(|(path, dir)| {
            let is_it = path.as_os_str() == parent.as_os_str();
            is_it.then(|| Rc::clone(dir))
        });
        if let (Some(dir), Some(name)) = (known, path.file_name()) {
            return Ok((dir, name));
        }
        let (dir, name) = self.parent(path, MAX_LINKS)?;
        may_make_in(dir.as_fd())?;
        let dir = Rc::new(dir);
        let mut known = self.known.borrow_mut();
        if known.len() < MOST_KNOWN {
            known.push((parent.to_owned(), Rc::clone(&dir)));
        }
        Ok((dir, name))
    }

    /// After a mount on a directory: it may be over one that we know.
    pub(crate) fn forget(&self) {
        self.known.borrow_mut().clear();
    }

    /// Makes the link `path -> target`. A link that is there is replaced, and so is an
    /// empty file (what a committed container keeps of a mount point); anything else stays.
    pub fn symlink(&self, path: &Path, target: &Path) -> Result<Linked, Error> {
        match self.symlink_within(path, target) {
            Err(e) if is_unwritable(e) => {
                self.note(path, &format!("the link is not made: {}", e.desc()));
                Ok(Linked::Unwritable)
            }
            other => other.map_err(failed(path, "link")),
        }
    }

    fn symlink_within(&self, path: &Path, target: &Path) -> nix::Result<Linked> {
        let (dir, name) = self.place(path)?;
        match unistd::symlinkat(target, dir.as_fd(), name) {
            Err(Errno::EEXIST) => {}
            other => return other.map(|()| Linked::Yes),
        }
        if let Ok(found) = open_no_follow(dir.as_fd(), name) {
            let is_link = kind(&found)? == SFlag::S_IFLNK;
            let found = fstat(&found)?;
            let is_leftover = found.st_mode & libc::S_IFMT == libc::S_IFREG && found.st_size == 0;
            // Of another device: something is mounted there, hence wanted there.
            if found.st_dev != fstat(dir.as_fd())?.st_dev || !(is_link || is_leftover) {
                return Ok(Linked::Occupied);
            }
            if is_link
                && fcntl::readlinkat(dir.as_fd(), name).is_ok_and(|t| t == target.as_os_str())
            {
                return Ok(Linked::Yes);
            }
        }
        let (temporary, ()) = with_temporary(name, |temporary| {
            unistd::symlinkat(target, dir.as_fd(), temporary)
        })?;
        replace(dir.as_fd(), &temporary, name)?;
        Ok(Linked::Yes)
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
    /// image cannot make us read for ever, nor wait on a FIFO, nor open a device.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = match self.resolve(path) {
            Ok(found) => found,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
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
/// full file system, an immutable file, one whose owner has no name in our user namespace.
pub(crate) fn is_unwritable(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EROFS
            | Errno::EPERM
            | Errno::EACCES
            | Errno::EOVERFLOW
            | Errno::ENOSPC
            | Errno::EDQUOT
    )
}

fn kind(fd: &OwnedFd) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT)
}

fn is_dir(fd: &OwnedFd) -> nix::Result<bool> {
    Ok(kind(fd)? == SFlag::S_IFDIR)
}

/// `EROFS` on a file system of the kernel's own: for us it is read-only.
fn may_make_in(dir: BorrowedFd<'_>) -> nix::Result<()> {
    if KERNELS.contains(&fstatfs(dir)?.filesystem_type()) {
        return Err(Errno::EROFS);
    }
    Ok(())
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
    for n in 0..TEMPORARY_NAMES {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.{n}", std::process::id()));
        match make(&temporary) {
            Err(Errno::EEXIST) => {}
            other => return other.map(|made| (temporary, made)),
        }
    }
    Err(Errno::EEXIST)
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Rootfs {
        path,
        what,
        source: errno.into(),
    }
}

fn io_failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Rootfs { path, what, source }
}

#[cfg(test)]
mod tests;
