//! A handle for reading a file system tree without leaving it.
//!
//! Every read of the host goes through a [`Root`]: `/` on a running host, a directory in tests,
//! image builds and driver containers. Links are resolved within the root (`openat2(2)`,
//! `RESOLVE_IN_ROOT`, Linux 5.6), so an absolute link in a tree stays in the tree. Where the
//! kernel has no openat2 or a seccomp filter refuses it, a walk in user space gives the same
//! answer. That walk is not safe if the tree changes meanwhile, so a `Root` is only for the
//! host's own trees. For a container's root file system use gpu-inject's `rootfs`.

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
use failed_reads::ReadFailures;

/// Maximum bytes of a file that [`Root::read`] reads. No file we read comes near it.
const READ_LIMIT: u64 = 64 << 20;
/// Buffer for a file of unknown size, in bytes: several pages, since a read of procfs gives at least one.
const PROC_ROOM: u64 = 16 << 10;
/// Buffer for reading the entries of a directory, in bytes.
const DIR_BUFFER: usize = 4096;
/// The kernel's own limit on symbolic links in one path (MAXSYMLINKS).
const LINK_LIMIT: usize = 40;

/// A file system tree, held by a descriptor of its root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Root {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    failed: Arc<ReadFailures>,
}

impl Root {
    /// The running host.
    pub fn host() -> io::Result<Self> {
        Self::open(Path::new("/"))
    }

    /// The tree below `dir`.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.canonicalize().map_err(|e| with_path(&e, dir))?;
        let fd = fcntl::open(
            &path,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| with_path(&e.into(), dir))?;
        Ok(Self {
            fd: Arc::new(fd),
            path,
            failed: Arc::default(),
        })
    }

    /// The tree that a process of the running host has as its root, with the mounts of the process's own namespace.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        // Not made canonical: the link's text is a path in the process's namespace, and following it leads there.
        let path = PathBuf::from(format!("/proc/{pid}/root"));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = fcntl::open(&path, flags, Mode::empty()).map_err(io::Error::from)?;
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

    /// The first read that failed although the file exists, for example because of a bad disk or a missing right of
    /// root's. Callers that treat unreadable files as missing, as most should, check this before they act on the
    /// result. Errors of sysfs for a device that is switched off do not count, and neither do files that only root
    /// may read if the user is not root.
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

    /// The failed reads after the first `count`, through this handle or a clone of it. Only files that exist are
    /// included.
    pub fn failed_reads_since(&self, count: usize) -> Vec<FailedRead> {
        self.failed.since(count)
    }

    fn note(&self, errno: Errno, path: &Path) -> io::Error {
        let error = with_path(&errno.into(), path);
        let is_ordinary = matches!(
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
        if !is_ordinary && !path.starts_with("/sys") {
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

    /// The path on the running host of `path` in this tree, for messages and bind mounts. Links in
    /// it are not resolved.
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative(path.as_ref()))
    }

    /// Reads the whole file; an error if it is longer than 64 MiB.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        self.read_limited(path, READ_LIMIT)
    }

    /// Reads the whole file; an error if it is longer than `max` bytes or not a regular file
    /// (files of procfs and sysfs are regular).
    pub fn read_limited(&self, path: impl AsRef<Path>, max: u64) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let (file, metadata) = self.open_regular(path)?;
        // Files of procfs report size 0 and fill whatever buffer a read offers. One byte more than
        // the size is reserved, so that the final read, which returns 0, does not grow the buffer.
        let size = match metadata.len() {
            0 => PROC_ROOM,
            size => size,
        }
        .min(max);
        let size = usize::try_from(size).unwrap_or_default() + 1;
        let mut content = Vec::new();
        // Under a memory limit this is an error of this file instead of an abort.
        content
            .try_reserve_exact(size)
            .map_err(|e| with_path(&e.into(), path))?;
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|e| self.note_io(&e, path))?;
        if content.len() as u64 > max {
            let why = format!("{}: longer than {max} bytes", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(content)
    }

    /// Reads the whole file as text; an error if it is not UTF-8 or longer than 64 MiB.
    pub fn read_to_string(&self, path: impl AsRef<Path>) -> io::Result<String> {
        self.read_text_limited(path, READ_LIMIT)
    }

    /// Reads the whole file as text; an error if it is not UTF-8 or longer than `max` bytes.
    pub fn read_text_limited(&self, path: impl AsRef<Path>, max: u64) -> io::Result<String> {
        let path = path.as_ref();
        String::from_utf8(self.read_limited(path, max)?).map_err(|_| {
            let why = format!("{}: not UTF-8 text", path.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }

    /// The names in a directory, sorted, without `.` and `..`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let path = path.as_ref();
        self.entries(&self.open_dir(path)?, path)
    }

    /// The names in an open directory, sorted, without `.` and `..`. `path` is for errors.
    pub(crate) fn entries(&self, dir: &OwnedFd, path: &Path) -> io::Result<Vec<OsString>> {
        // On a host with many slices every container start reads hundreds of directories, and
        // opendir(3) would double the system calls for each.
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

    /// Metadata of what the path leads to; links are followed.
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH)?;
        let metadata = File::from(fd).metadata();
        metadata.map_err(|e| self.note_io(&e, path))
    }

    /// Metadata of the path itself; a link at its end is not followed.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let metadata = File::from(fd).metadata();
        metadata.map_err(|e| self.note_io(&e, path))
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        fcntl::readlinkat(&fd, "")
            .map(PathBuf::from)
            .map_err(|e| match e {
                // readlinkat(2) fails so for an empty path if the descriptor is not a link.
                Errno::ENOENT => with_path(&Errno::EINVAL.into(), path),
                e => self.note(e, path),
            })
    }

    /// The path with every link resolved, absolute within this tree.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let fd = self.resolve(path, OFlag::O_PATH)?;
        // The kernel has resolved every link; procfs has the resulting path.
        let name = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        if let Ok(real) = std::fs::read_link(name)
            && let Ok(inner) = real.strip_prefix(&self.path)
            && !inner.as_os_str().as_bytes().ends_with(b" (deleted)")
        {
            return Ok(Path::new("/").join(inner));
        }
        let (real, _) = self.walk(path, true)?;
        Ok(real)
    }

    /// Whether the path leads to anything; links are followed.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.metadata(path).is_ok()
    }

    /// Opens a regular file for reading. Never blocks on a FIFO.
    pub fn open_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_regular(path.as_ref()).map(|(file, _)| file)
    }

    fn open_regular(&self, path: &Path) -> io::Result<(File, Metadata)> {
        let file = File::from(self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let metadata = file.metadata().map_err(|e| self.note_io(&e, path))?;
        if metadata.is_file() {
            return Ok((file, metadata));
        }
        let why = format!("{}: not a regular file", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Opens a directory for reading.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.resolve(path.as_ref(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// Opens a directory by its name in an open parent, which takes half the time for a path of
    /// many parts. A link is not followed.
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
        // EAGAIN: the kernel could not rule out that a concurrent rename led out (openat2(2)).
        for _ in 0..16 {
            if !matches!(opened, Err(Errno::EAGAIN | Errno::EINTR)) {
                break;
            }
            opened = fcntl::openat2(self.fd.as_fd(), inner, how);
        }
        match opened {
            // EPERM: the answer of seccomp filters that are older than openat2.
            Err(Errno::ENOSYS | Errno::EPERM) => {
                let follow = !flags.contains(OFlag::O_NOFOLLOW);
                let (real, _) = self.walk(path, follow)?;
                fcntl::openat(
                    self.fd.as_fd(),
                    relative(&real),
                    flags | OFlag::O_NOFOLLOW,
                    Mode::empty(),
                )
            }
            other => other,
        }
        .map_err(|e| self.note(e, path))
    }

    /// Resolves links one component at a time; a component that does not exist is kept. Returns the path and the number of links.
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
                        return Err(with_path(&Errno::ELOOP.into(), path));
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

fn with_path(error: &io::Error, path: &Path) -> io::Error {
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
    fn the_walk_in_user_space_agrees_with_the_kernel() {
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
