//! The container to inject into: its process, namespaces and cgroup, all held by descriptors. A
//! process number would not do, since it is valid in only one pid namespace.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::confinement::Capability;
use super::systemd_manager::SystemdManager;
use crate::error::Error;
use crate::linux::namespace::{Apart, Namespace, OwnMounts, has_own_user_namespace};
use crate::linux::process::Process;
use crate::linux::{descriptors, is_missing, privileges};
use crate::oci::Arrangement;

/// A process, held by a descriptor from `pidfd_open(2)`. It cannot be confused with a process that gets the same
/// number later, or that has this number in another PID namespace.
#[derive(Debug)]
pub struct Pidfd(Held);

#[derive(Debug)]
enum Held {
    Pidfd(OwnedFd),
    /// Without `pidfd_open(2)` of Linux 5.3: its directory in a procfs that shows our own PID namespace.
    Directory(Process),
}

impl Pidfd {
    /// Opens the process with this number in our own PID namespace, which need not be the one that `/proc` shows.
    pub fn open(pid: i32) -> Result<Self, Error> {
        if pid <= 0 {
            return Err(Error::State(
                format!("process {pid}: there is no such number").into(),
            ));
        }
        match descriptors::pidfd_open(pid) {
            Ok(pidfd) => Ok(Self(Held::Pidfd(pidfd))),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Err(Error::State(
                format!(
                    "process {pid}: no process of that number in the pid namespace of this one"
                )
                .into(),
            )),
            Err(e) if is_missing(&e) => {
                Process::of_number(pid).map(|process| Self(Held::Directory(process)))
            }
            Err(e) => Err(Error::system(format!("process {pid}"))(e)),
        }
    }

    /// Takes over a pidfd that this program inherited, by its descriptor number.
    pub fn inherited(fd: i32) -> Result<Self, Error> {
        let descriptor =
            descriptors::inherited(fd).map_err(Error::system(format!("descriptor {fd}")))?;
        Ok(Self(Held::Pidfd(descriptor)))
    }

    pub(super) fn process(&self) -> Result<Process, Error> {
        match &self.0 {
            Held::Pidfd(pidfd) => Process::of_pidfd(pidfd.as_fd()),
            Held::Directory(process) => process.try_clone(),
        }
    }
}

/// The container to inject into. A value can be made only if its mount namespace is not the host's.
#[derive(Debug)]
pub struct Target {
    process: Process,
    mounts: Mounts,
    /// Its user namespace, if that is not ours.
    user: Option<Namespace>,
    /// The path of its root file system in its mount namespace before `pivot_root`.
    pub rootfs: PathBuf,
    /// Leave the device cgroup unchanged (`no-cgroups`).
    pub no_cgroups: bool,
    /// Mount no device nodes, because the caller has made them (`--no-devbind`, as with LXC).
    pub no_devbind: bool,
    /// Facts about its mounts from config.json.
    pub arrangement: Arrangement,
    /// Its config.json, which gives its device rules if the kernel hides them.
    pub config: Option<PathBuf>,
    /// The service manager, which is told about the devices. Without it the devices are revoked at events such as
    /// `docker update`.
    pub systemd: Option<SystemdManager>,
}

/// Capabilities needed to place files, whoever owns them in the container.
const PLACING: [Capability; 3] = [
    Capability::DacOverride,
    Capability::Fowner,
    Capability::SysAdmin,
];

#[derive(Debug)]
enum Mounts {
    /// This process is in the container's mount namespace already.
    Here(Apart),
    /// The container's mount namespace, still to be entered.
    There(Namespace, Apart),
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.mounts {
            Mounts::Here(_) => write!(f, "our own namespaces"),
            Mounts::There(..) => self.process.fmt(f),
        }
    }
}

impl Target {
    /// The container that another process is in.
    pub fn of_process(pidfd: &Pidfd, rootfs: PathBuf) -> Result<Self, Error> {
        let process = pidfd.process()?;
        let namespace = process.namespace("mnt")?;
        let apart = namespace.ensure_apart(&process.to_string())?;
        let user = match process.user_namespace()? {
            Some(user) if !user.is_own_user_namespace()? => Some(user),
            _ => None,
        };
        let mounts = Mounts::There(namespace, apart);
        Ok(Self::with(process, mounts, user, rootfs))
    }

    /// The container in whose namespaces this process was started. An error if they are the host's.
    pub fn of_caller(rootfs: PathBuf) -> Result<Self, Error> {
        let apart = OwnMounts::of_caller().ensure_apart()?;
        Ok(Self::with(
            Process::current()?,
            Mounts::Here(apart),
            None,
            rootfs,
        ))
    }

    fn with(process: Process, mounts: Mounts, user: Option<Namespace>, rootfs: PathBuf) -> Self {
        Self {
            process,
            mounts,
            user,
            rootfs,
            no_cgroups: false,
            no_devbind: false,
            arrangement: Arrangement::default(),
            config: None,
            systemd: None,
        }
    }

    /// A process whose cgroup is the container's.
    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Whether its mount namespace differs from the one in which this process was started.
    pub(super) fn has_other_mounts(&self) -> bool {
        matches!(self.mounts, Mounts::There(..))
    }

    /// Whether our caller has the same privileges as we have, because both are in a user namespace that the caller
    /// made, as with Apptainer. Then the caller's mounts in the container are no security boundary, and the
    /// container's /dev may be part of a tmpfs that is also mounted elsewhere.
    pub(super) fn has_callers_rights(&self) -> bool {
        matches!(self.mounts, Mounts::Here(_)) && has_own_user_namespace()
    }

    pub(super) fn enter_mount_namespace(&self) -> Result<Apart, Error> {
        match &self.mounts {
            Mounts::Here(apart) => Ok(*apart),
            Mounts::There(namespace, apart) => {
                let entered = namespace.enter(CloneFlags::CLONE_NEWNS);
                entered
                    .map_err(io::Error::from)
                    .map_err(self.entering("mnt"))?;
                Ok(*apart)
            }
        }
    }

    /// Enters the user namespace as its root. Does nothing if the container has ours, or the kernel has none. On
    /// entry the kernel grants every capability, including those that were dropped before, so all are dropped again
    /// that we did not have before and that are not needed to place files.
    pub(super) fn enter_user_namespace(&self) -> Result<(), Error> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        let enter = || -> io::Result<()> {
            let kept = privileges::permitted_capabilities()? | Capability::mask(&PLACING);
            // This must come before the container's processes could trace us, because our descriptors refer to the
            // host's files.
            set_dumpable(false)?;
            // Drop the host's supplementary groups, which would give access to its files. If we may not drop them,
            // our caller had them already.
            let _ = setgroups(&[]);
            user.enter(CloneFlags::CLONE_NEWUSER)?;
            let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            privileges::keep_capabilities(kept)
        };
        enter().map_err(self.entering("user"))
    }

    fn entering(&self, kind: &str) -> impl FnOnce(io::Error) -> Error {
        Error::system(format!("enter {}", self.process.path_of(kind).display()))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::unshare;

    use super::*;

    /// A container's mount namespace that root has made: its mounts are still a security boundary.
    #[test]
    fn a_mount_namespace_alone_does_not_give_the_caller_our_rights() {
        if !skips::has(&[skips::Need::Root]) {
            return;
        }
        let caller = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let target = Target::of_caller(PathBuf::from("/")).unwrap();
            assert!(!target.has_callers_rights());
        };
        thread::spawn(caller).join().unwrap();
    }
}
