//! Resolves a path to its real directory and name, without links, and creates and opens that
//! directory.
//!
//! Directories are opened by descriptor, through the rooted handle: if somebody replaces one with a
//! link while we work, we still stay within the root.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gpu_host::Root;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, Mode};
use nix::unistd::{self, UnlinkatFlags};

use crate::host::Host;

/// The number of links that the kernel follows in one path.
const LINKS: usize = 40;

/// A directory and a name in it, both with links resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPath {
    /// The directory within the root. Links are resolved as far as the path exists.
    pub dir: PathBuf,
    /// The name in that directory.
    pub name: OsString,
}

impl ResolvedPath {
    /// Resolves a path, following links, even if the file does not exist yet.
    pub fn of(host: &Host, path: &Path) -> io::Result<Self> {
        Self::split(&real(host.root(), path, 0)?)
    }

    /// Resolves the directory of a link, but not the link itself.
    pub fn of_link(host: &Host, path: &Path) -> io::Result<Self> {
        let Self { dir, name } = Self::split(path)?;
        let dir = real(host.root(), &dir, 0)?;
        Ok(Self { dir, name })
    }

    fn split(path: &Path) -> io::Result<Self> {
        match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) => Ok(Self {
                dir: dir.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} names no file", path.display()),
            )),
        }
    }

    /// The name of the temporary beside it. It is the same in every run, so that a temporary that a
    /// killed run left can be found.
    pub fn temporary(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".gpusetup");
        name
    }

    /// Opens its directory; `None` if that does not exist.
    pub fn open(&self, host: &Host) -> io::Result<Option<File>> {
        match host.root().open_dir(&self.dir) {
            Ok(dir) => Ok(Some(dir.into())),
            Err(e) if is_nothing(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The directories on its path that do not exist, outermost first.
    pub fn missing_dirs(&self, root: &Root) -> io::Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for dir in self.dir.ancestors() {
            match root.metadata(dir) {
                Ok(_) => break,
                Err(e) if is_nothing(&e) => missing.push(dir.to_owned()),
                Err(e) => return Err(e),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    /// Opens the directory, after creating it if it is missing. Also returns which directories were
    /// created.
    pub fn make(&self, host: &Host) -> io::Result<(File, Vec<PathBuf>)> {
        let mut made = Vec::new();
        match self.make_missing(host.root(), &mut made) {
            Ok(dir) => Ok((dir, made)),
            Err(e) => {
                let _ = remove_dirs(host.root(), &made);
                Err(e)
            }
        }
    }

    fn make_missing(&self, root: &Root, made: &mut Vec<PathBuf>) -> io::Result<File> {
        for dir in self.missing_dirs(root)? {
            make_dir(root, &dir, made)?;
        }
        Ok(root.open_dir(&self.dir)?.into())
    }
}

/// Whether an error means that the path does not exist, or that a part of it is no directory.
pub fn is_nothing(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The path with links resolved, even where a link's target does not exist.
fn real(root: &Root, path: &Path, links: usize) -> io::Result<PathBuf> {
    match root.canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path.to_owned());
    };
    let parent = real(root, parent, links)?;
    match root.read_link(parent.join(name)) {
        Ok(target) if links < LINKS => real(root, &parent.join(target), links + 1),
        Ok(_) => Err(Errno::ELOOP.into()),
        // Not a link.
        Err(e) if is_nothing(&e) || e.kind() == io::ErrorKind::InvalidInput => {
            Ok(parent.join(name))
        }
        Err(e) => Err(e),
    }
}

/// Creates a directory that everybody may read, whatever the umask: containers' users read what is
/// in it.
fn make_dir(root: &Root, dir: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let ResolvedPath { dir: parent, name } = ResolvedPath::split(dir)?;
    let parent = root.open_dir(&parent)?;
    match stat::mkdirat(&parent, name.as_os_str(), Mode::from_bits_truncate(0o755)) {
        Ok(()) => made.push(dir.to_owned()),
        // Another gpusetup has created it meanwhile, so it is not ours to remove.
        Err(Errno::EEXIST) if root.open_dir(dir).is_ok() => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = fcntl::openat(&parent, name.as_os_str(), flags, Mode::empty())?;
    File::from(made).set_permissions(Permissions::from_mode(0o755))?;
    // Without this, a crash can lose the directory with everything that was synced in it.
    sync(&parent.into())
}

/// Removes directories, innermost first, except those that are not empty or no longer directories.
pub fn remove_dirs(root: &Root, dirs: &[PathBuf]) -> io::Result<()> {
    for dir in dirs.iter().rev() {
        let ResolvedPath { dir: parent, name } = ResolvedPath::split(dir)?;
        let parent = match root.open_dir(&parent) {
            Ok(parent) => parent,
            Err(e) if is_nothing(&e) => continue,
            Err(e) => return Err(e),
        };
        match unistd::unlinkat(&parent, name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) => sync(&parent.into())?,
            Err(
                Errno::ENOENT | Errno::ENOTDIR | Errno::ENOTEMPTY | Errno::EEXIST | Errno::EBUSY,
            ) => {}
            Err(_) if is_absent(&parent, &name) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Whether there is nothing of that name: on a read-only file system, removing a file fails with
/// EROFS even if the file does not exist.
pub fn is_absent(dir: impl AsFd, name: &OsStr) -> bool {
    stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT)
}

/// Syncs a directory, so that changes in it survive a crash.
pub fn sync(dir: &File) -> io::Result<()> {
    match dir.sync_all() {
        // Some file systems cannot sync a directory (fsync(2), EINVAL).
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// As when two playbooks run at once on a host where gpusetup has created nothing yet.
    #[test]
    fn a_directory_that_another_run_creates_concurrently_is_no_failure() {
        for round in 0..50 {
            let tree = tempfile::tempdir().unwrap();
            let make = || {
                let host = Host::open(tree.path(), Path::new("/")).unwrap();
                let place = ResolvedPath::of_link(&host, Path::new("/run/a/b/lock")).unwrap();
                place.make(&host).map(|(_, made)| made)
            };
            let made: io::Result<Vec<_>> = thread::scope(|scope| {
                let runs: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
                runs.into_iter().map(|run| run.join().unwrap()).collect()
            });
            let made = made.unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert_eq!(made.concat().len(), 3, "round {round}: {made:?}");
        }
    }

    #[test]
    fn a_file_where_a_directory_should_be_is_a_failure() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("run"), "").unwrap();
        let host = Host::open(tree.path(), Path::new("/")).unwrap();
        let mut made = Vec::new();
        assert!(make_dir(host.root(), Path::new("/run"), &mut made).is_err());
        assert!(made.is_empty());
        assert!(tree.path().join("run").is_file());
    }
}
