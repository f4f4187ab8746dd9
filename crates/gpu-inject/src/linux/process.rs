//! A process of the container, held by a descriptor: its cgroup and its namespaces.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gpu_host::kernel;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd;

use super::kernel_text::kernel_text;
use super::namespace::Namespace;
use crate::error::Error;

/// A process, held by an open descriptor of its directory in /proc. Once the process is gone,
/// reads fail, even if another process gets its number.
#[derive(Debug)]
pub(crate) struct Process {
    dir: OwnedFd,
    path: PathBuf,
}

impl Display for Process {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the process of {}", self.path.display())
    }
}

impl Process {
    /// The current process.
    pub(crate) fn current() -> Result<Self, Error> {
        Self::at("/proc/self".into())
    }

    /// The process of a descriptor that `pidfd_open(2)` made.
    pub(crate) fn of_pidfd(pidfd: BorrowedFd<'_>) -> Result<Self, Error> {
        let process = Self::at(format!("/proc/{}", number(pidfd)?).into())?;
        // The number is unchanged, so the process has not been reaped and `process` is the right one.
        number(pidfd)?;
        Ok(process)
    }

    /// The process with this number in our own PID namespace. Fails unless `/proc` shows that namespace, because in
    /// another one the number belongs to a different process.
    pub(crate) fn of_number(pid: i32) -> Result<Self, Error> {
        let link = Path::new("/proc/self");
        let own = fs::read_link(link).map_err(Error::host(link))?;
        if own.as_os_str() != unistd::getpid().to_string().as_str() {
            return Err(Error::State(
                format!(
                    "process {pid}: /proc is of another pid namespace than ours, and without {} the process cannot \
                     be found there",
                    kernel::with_version("pidfd_open")
                )
                .into(),
            ));
        }
        Self::at(format!("/proc/{pid}").into())
    }

    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let dir = self.dir.try_clone().map_err(Error::host(&self.path))?;
        Ok(Self {
            dir,
            path: self.path.clone(),
        })
    }

    fn at(path: PathBuf) -> Result<Self, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir =
            fcntl::open(&path, flags, Mode::empty()).map_err(|e| Error::host(&path)(e.into()))?;
        Ok(Self { dir, path })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(fcntl::openat(self.dir.as_fd(), name, flags, Mode::empty())?.into())
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, Error> {
        let mut text = Vec::new();
        self.file(name)
            .and_then(|mut f| f.read_to_end(&mut text))
            .map_err(Error::host(&self.path.join(name)))?;
        Ok(kernel_text(text))
    }

    /// Its namespace of this kind; `kind` is a name in `/proc/PID/ns`.
    pub(crate) fn namespace(&self, kind: &str) -> Result<Namespace, Error> {
        self.open_namespace(kind)
            .map_err(Error::host(&self.path_of(kind)))
    }

    /// Its user namespace; `None` if the kernel has no user namespaces.
    pub(crate) fn user_namespace(&self) -> Result<Option<Namespace>, Error> {
        match self.open_namespace("user") {
            Ok(namespace) => Ok(Some(namespace)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::host(&self.path_of("user"))(e)),
        }
    }

    fn open_namespace(&self, kind: &str) -> io::Result<Namespace> {
        self.file(&format!("ns/{kind}")).and_then(Namespace::of)
    }

    pub(crate) fn path_of(&self, kind: &str) -> PathBuf {
        self.path.join("ns").join(kind)
    }
}

/// Reads the `Pid:` line of a pidfd's fdinfo (`proc_pid_fdinfo(5)`): the number of the process in the PID namespace
/// of the procfs mounted at `/proc`, which need not be ours. The number is 0 if the process is not visible there, and
/// -1 once it is gone.
fn number(pidfd: BorrowedFd<'_>) -> Result<i32, Error> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    let text = fs::read_to_string(&path).map_err(Error::host(&path))?;
    let number = text
        .lines()
        .find_map(|l| l.strip_prefix("Pid:")?.trim().parse().ok());
    let why = match number {
        Some(number) if number > 0 => return Ok(number),
        Some(0) => "the container's process is not in the pid namespace that /proc is of",
        Some(_) => "the container's process is gone",
        None => "the descriptor of the container's process is no pidfd",
    };
    Err(Error::State(why.into()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_pidfd_never_leads_to_another_process() {
        let own_pid = i32::try_from(std::process::id()).unwrap();
        if let Err(error) = super::super::descriptors::pidfd_open(own_pid) {
            skips::skip(skips::Need::Pidfd, &error.to_string());
            return;
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = super::super::descriptors::pidfd_open(pid).unwrap();
        let process = Process::of_pidfd(pidfd.as_fd()).unwrap();
        // spawn() may return shortly before exec sets the process's name.
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
