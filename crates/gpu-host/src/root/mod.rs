//! One rooted handle on a file system tree.
//!
//! Every read of the host goes through a [`Root`]: `/` on a running host, a
//! directory in tests, image builds and driver containers. Links are resolved
//! within the root (`openat2(2)`, `RESOLVE_IN_ROOT`, Linux 5.6), so an absolute
//! link in a tree stays in the tree. Where the kernel has no openat2, or a
//! seccomp filter refuses it, a walk in user space gives the same answer; it is
//! not proof against a tree that changes meanwhile, hence for the host's own
//! trees alone. A container's root file system has its own, stricter handle.

mod failed_reads;
pub mod glob;

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;
use rustix::fs::RawDir;

pub use failed_reads::FailedRead;
use failed_reads::Log;

/// What [`Root::read`] reads at most; no file we read is near it.
const READ_LIMIT: u64 = 64 << 20;
/// For a file that does not say its size; a read of procfs gives a page at least.
const PROC_ROOM: u64 = 16 << 10;
/// A directory's entries are read so much at a time.
const DIR_BUFFER: usize = 4096;
/// The kernel's own limit on links in one path.
const LINK_LIMIT: usize = 40;

/// A file system tree, entered by descriptor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Root {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    failed: Arc<Log>,
}

impl Root {
    /// The running host.
    pub fn host() -> io::Result<Self> {
        Self::open(Path::new("/"))
    }

    /// The tree below `dir`.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.canonicalize().map_err(|e| named(&e, dir))?;
        let fd = fcntl::open(
            &path,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| named(&e.into(), dir))?;
        Ok(Self {
            fd: Arc::new(fd),
            path,
            failed: Arc::default(),
        })
    }

    /// Where the tree is on the running host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the running host itself.
    pub fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    /// The first thing that is there and could not be read: a bad disk, a missing right of
    /// root's. Whoever takes "cannot be read" for "is not there" along the way, as most
    /// should, asks this before acting on what was seen. What sysfs answers for a device
    /// that is switched off does not count, nor what only root may read, for other users.
    pub fn trouble(&self) -> Option<String> {
        let all = self.failed.since(0);
        all.into_iter()
            .find(|read| !read.is_denied)
            .map(|read| read.error)
    }

    /// How many reads have failed so far, for [`Root::failed_reads_since`].
    pub fn failed_read_count(&self) -> usize {
        self.failed.count()
    }

    /// The reads that failed after the first `count`, through this handle or a clone of it: of what is there and
    /// cannot be read. A file that does not exist is not among them.
    pub fn failed_reads_since(&self, count: usize) -> Vec<FailedRead> {
        self.failed.since(count)
    }

    fn note(&self, errno: Errno, path: &Path) -> io::Error {
        let error = named(&errno.into(), path);
        let is_plain = matches!(
            errno,
            Errno::ENOENT
                | Errno::ENOTDIR
                | Errno::EISDIR
                | Errno::ELOOP
                | Errno::EINVAL
                | Errno::ENXIO
                | Errno::ENODEV
                | Errno::ENAMETOOLONG
        );
        if !is_plain && !path.starts_with("/sys") {
            let is_denied = matches!(errno, Errno::EACCES | Errno::EPERM);
            self.failed.add(FailedRead {
                error: error.to_string(),
                is_denied: is_denied && !nix::unistd::geteuid().is_root(),
            });
        }
        error
    }

    fn note_io(&self, error: &io::Error, path: &Path) -> io::Error {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        self.note(errno, path)
    }

    /// Where the running host has `path` of this tree. For messages and bind
    /// mounts; links in it are not resolved.
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative(path.as_ref()))
    }

    /// The whole file, up to 64 MiB.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.read_limited(path, READ_LIMIT)
    }

    /// The whole file; an error if it is longer than `max` bytes or no regular file
    /// (files of procfs and sysfs are regular).
    pub fn read_limited(&self, path: impl AsRef<Path>, max: u64) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open_file(path)?;
        // Files of procfs say they are empty, and give as much a read as there is room for. One byte more than there
        // is: the read that finds nothing left needs room too.
        let size = match file.metadata().map_or(0, |m| m.len()) {
            0 => PROC_ROOM,
            size => size,
        }
        .min(max);
        let size = usize::try_from(size).unwrap_or_default() + 1;
        let mut content = Vec::new();
        // An error of this file, where a limit leaves no memory for it, and not our end.
        content
            .try_reserve_exact(size)
            .map_err(|e| named(&e.into(), path))?;
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|e| self.note_io(&e, path))?;
        if content.len() as u64 > max {
            let why = format!("{}: longer than {max} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(content)
    }

    /// The whole file as text; what is no UTF-8 is an error.
    pub fn read_to_string(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let path = path.as_ref();
        String::from_utf8(self.read(path)?).map_err(|_| {
            let why = format!("{}: not UTF-8 text", path.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }

    /// Names in a directory, sorted, without `.` and `..`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let path = path.as_ref();
        self.entries(&self.open_dir(path)?, path)
    }

    /// The same of an open directory, which is at `path`.
    pub(crate) fn entries(&self, dir: &OwnedFd, path: &Path) -> io::Result<Vec<OsString>> {
        // A host with many slices has hundreds of directories that each container's start reads,
        // and opendir(3) asks the kernel as much again for each.
        let mut buffer = [const { MaybeUninit::uninit() }; DIR_BUFFER];
        let mut entries = RawDir::new(dir, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|e| self.note(Errno::from_raw(e.raw_os_error()), path))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Metadata, links followed.
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH)?;
        let found = File::from(fd).metadata();
        found.map_err(|e| self.note_io(&e, path))
    }

    /// Metadata, a link at the end not followed.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let found = File::from(fd).metadata();
        found.map_err(|e| self.note_io(&e, path))
    }

    /// What a symbolic link says.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        fcntl::readlinkat(&fd, "")
            .map(PathBuf::from)
            .map_err(|e| match e {
                // readlinkat(2): an empty path on what is no link.
                Errno::ENOENT => named(&Errno::EINVAL.into(), path),
                e => self.note(e, path),
            })
    }

    /// The path with every link resolved, absolute within this tree.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH)?;
        // The kernel has resolved every link by now, and procfs says where that has led.
        let name = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        if let Ok(real) = std::fs::read_link(name)
            && let Ok(inner) = real.strip_prefix(&self.path)
            && !inner.as_os_str().as_bytes().ends_with(b" (deleted)")
        {
            return Ok(Path::new("/").join(inner));
        }
        let (found, _) = self.walk(path, true)?;
        Ok(found)
    }

    /// Whether the path leads to anything.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.metadata(path).is_ok()
    }

    /// Opens a regular file for reading. Never blocks on a FIFO.
    pub fn open_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let file = File::from(self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let found = file.metadata();
        if found.map_err(|e| self.note_io(&e, path))?.is_file() {
            return Ok(file);
        }
        let why = format!("{}: not a regular file", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Opens a directory for reading.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.resolve(path.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// The same of one whose parent is open: half the time for a path of many parts. A link is
    /// not followed.
    pub(crate) fn open_dir_in(&self, parent: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let name = path.file_name().unwrap_or(OsStr::new("."));
        fcntl::openat(parent, name, flags, Mode::empty()).map_err(|e| self.note(e, path))
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC;
        let inner = relative(path);
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut opened = fcntl::openat2(self.fd.as_fd(), inner, how);
        // EAGAIN: a rename went on elsewhere and the kernel could not be sure (openat2(2)).
        for _ in 0..16 {
            if !matches!(opened, Err(Errno::EAGAIN | Errno::EINTR)) {
                break;
            }
            opened = fcntl::openat2(self.fd.as_fd(), inner, how);
        }
        match opened {
            // EPERM: seccomp filters older than openat2 answer with it.
            Err(Errno::ENOSYS | Errno::EPERM) => {
                let follow = !flags.contains(OFlag::O_NOFOLLOW);
                let (found, _) = self.walk(path, follow)?;
                fcntl::openat(
                    self.fd.as_fd(),
                    relative(&found),
                    flags | OFlag::O_NOFOLLOW,
                    Mode::empty(),
                )
            }
            other => other,
        }
        .map_err(|e| self.note(e, path))
    }

    /// Resolves links one component at a time; what does not exist stays as written.
    fn walk(&self, path: &Path, follow_last: bool) -> io::Result<(PathBuf, usize)> {
        let mut todo: Vec<OsString> = parts(path).rev().collect();
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            done.push(&part);
            if todo.is_empty() && !follow_last {
                break;
            }
            match fcntl::readlinkat(self.fd.as_fd(), &done) {
                Ok(target) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(named(&Errno::ELOOP.into(), path));
                    }
                    done.pop();
                    let target = PathBuf::from(target);
                    if target.is_absolute() {
                        done.clear();
                    }
                    todo.extend(parts(&target).rev());
                }
                Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(e) => return Err(self.note(e, path)),
            }
        }
        Ok((Path::new("/").join(done), links))
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// `path` without its leading slashes; `.` for the root.
fn relative(path: &Path) -> &Path {
    let inner = path.strip_prefix("/").unwrap_or(path);
    if inner.as_os_str().is_empty() {
        Path::new(".")
    } else {
        inner
    }
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::write(dir.path().join("usr/lib/a.so.1"), "a").unwrap();
        symlink("a.so.1", dir.path().join("usr/lib/a.so")).unwrap();
        symlink("/usr/lib", dir.path().join("lib")).unwrap();
        symlink("../../../../../usr", dir.path().join("up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn links_stay_in_the_tree() {
        let (_dir, root) = tree();
        assert_eq!(root.read("/lib/a.so").unwrap(), b"a");
        assert_eq!(root.read("/up/lib/a.so").unwrap(), b"a");
        assert_eq!(
            root.canonicalize("/lib/a.so").unwrap(),
            Path::new("/usr/lib/a.so.1")
        );
        assert_eq!(
            root.canonicalize("/../../up/lib").unwrap(),
            Path::new("/usr/lib")
        );
        assert_eq!(root.read_link("/lib").unwrap(), Path::new("/usr/lib"));
        assert!(root.symlink_metadata("/lib").unwrap().is_symlink());
        assert!(root.metadata("/lib").unwrap().is_dir());
    }

    #[test]
    fn errors_name_the_path() {
        let (_dir, root) = tree();
        let gone = root.read("/nothing/here").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(gone.to_string().contains("/nothing/here"));
        assert!(root.read("/loop").is_err());
        assert!(root.canonicalize("/loop").is_err());
        assert!(root.canonicalize("/nothing").is_err());
        assert!(root.read_link("/usr").is_err());
        assert!(root.read("/usr").is_err());
    }

    #[test]
    fn long_files_are_refused() {
        let (_dir, root) = tree();
        assert_eq!(root.read_limited("/lib/a.so", 1).unwrap(), b"a");
        assert!(root.read_limited("/lib/a.so", 0).is_err());
    }

    #[test]
    fn the_walk_agrees_with_the_kernel() {
        let (_dir, root) = tree();
        for path in [
            "/lib/a.so",
            "/up/lib/a.so",
            "/usr/../lib/a.so",
            "/lib/../../up",
        ] {
            let (walked, _) = root.walk(Path::new(path), true).unwrap();
            let kernel = root.metadata(path).unwrap();
            let plain = fs::symlink_metadata(root.host_path(&walked)).unwrap();
            assert_eq!(
                std::os::unix::fs::MetadataExt::ino(&kernel),
                std::os::unix::fs::MetadataExt::ino(&plain),
                "{path}"
            );
        }
    }

    #[test]
    fn directories_are_listed_in_order() {
        let (_dir, root) = tree();
        assert_eq!(root.read_dir("/lib").unwrap(), ["a.so", "a.so.1"]);
    }
}
