//! The container's first process, and the namespaces it is in.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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

    /// The process of a descriptor that `pidfd_open(2)` made.
    pub(super) fn of_pidfd(pidfd: BorrowedFd<'_>) -> Result<Self, Error> {
        let process = Self::open(pid_of(pidfd)?)?;
        // Not collected by its parent until now, so the number was its own all the while.
        pid_of(pidfd)?;
        Ok(process)
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

/// The `Pid:` line of a pidfd's fdinfo (`proc_pid_fdinfo(5)`); -1 once the process is gone.
fn pid_of(pidfd: BorrowedFd<'_>) -> Result<i32, Error> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    let text = fs::read_to_string(&path).map_err(Error::host(&path))?;
    text.lines()
        .find_map(|l| l.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or_else(|| Error::State("the container's process is gone, or this is no pidfd".into()))
}

fn entering(path: &Path) -> impl FnOnce(Errno) -> Error {
    let what = format!("enter {}", path.display());
    move |errno| Error::system(what)(errno.into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_pidfd_is_its_process_and_nobody_elses() {
        let ours = i32::try_from(std::process::id()).unwrap();
        if let Err(error) = super::super::sys::pidfd_open(ours) {
            skips::skip(skips::Need::Pidfd, &error.to_string());
            return;
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = super::super::sys::pidfd_open(pid).unwrap();
        let process = Process::of_pidfd(pidfd.as_fd()).unwrap();
        // spawn() comes back a moment before the kernel gives the program its name.
        let is_named = (0..5000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            process.read("comm").unwrap() == "sleep\n"
        });
        assert!(is_named);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Process::of_pidfd(pidfd.as_fd()).is_err());
        assert!(process.read("comm").is_err());
        let other = fs::File::open("/").unwrap();
        assert!(Process::of_pidfd(other.as_fd()).is_err());
    }
}
