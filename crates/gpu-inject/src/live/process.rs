//! The container's first process, and the namespaces it is in.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use crate::error::Error;

/// A process by its directory in /proc, which stays its own: once it is gone, reading
/// there fails, whoever gets its number.
pub(super) struct Process {
    dir: OwnedFd,
    path: PathBuf,
}

impl Display for Process {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the process of {}", self.path.display())
    }
}

impl Process {
    pub(super) fn open(pid: i32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/{pid}"));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir =
            fcntl::open(&path, flags, Mode::empty()).map_err(|e| Error::host(&path)(e.into()))?;
        Ok(Self { dir, path })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(fcntl::openat(self.dir.as_fd(), name, flags, Mode::empty())?.into())
    }

    pub(super) fn read(&self, name: &str) -> Result<String, Error> {
        let mut text = String::new();
        self.file(name)
            .and_then(|mut f| f.read_to_string(&mut text))
            .map_err(Error::host(&self.path.join(name)))?;
        Ok(text)
    }

    pub(super) fn enter_mount_namespace(&self) -> Result<(), Error> {
        let path = self.path.join("ns/mnt");
        let namespace = self.file("ns/mnt").map_err(Error::host(&path))?;
        setns(namespace, CloneFlags::CLONE_NEWNS).map_err(entering(&path))
    }

    /// Enters the user namespace, as its root. Nothing to do where the container has the
    /// host's, or the kernel has none.
    pub(super) fn enter_user_namespace(&self) -> Result<(), Error> {
        let path = self.path.join("ns/user");
        let (Ok(theirs), Ok(ours)) = (self.file("ns/user"), fs::metadata("/proc/self/ns/user"))
        else {
            return Ok(());
        };
        let found = theirs.metadata().map_err(Error::host(&path))?;
        if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) {
            return Ok(());
        }
        setns(theirs, CloneFlags::CLONE_NEWUSER)
            .and_then(|()| {
                let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
                setresgid(gid, gid, gid)?;
                setresuid(uid, uid, uid)
            })
            .map_err(entering(&path))
    }
}

fn entering(path: &Path) -> impl FnOnce(Errno) -> Error {
    let what = format!("enter {}", path.display());
    move |errno| Error::system(what)(errno.into())
}
