//! Determines whether a mount namespace belongs to the host or to a container. A mount in the host's namespace
//! outlives the container, so nothing is attached until the namespace is known not to be the host's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{self, OFlag};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd;

use crate::error::Error;

/// Inode numbers of the kernel's initial namespaces (include/uapi/linux/nsfs.h). The number of the initial mount
/// namespace is fixed since Linux 6.18; before, no namespace has this number.
const FIRST_MOUNT: u64 = 0xEFFF_FFF8;
const FIRST_USER: u64 = 0xEFFF_FFFD;
const FIRST_PID: u64 = 0xEFFF_FFFC;

/// Paths of a namespace of this thread, which can differ from that of the process's other threads. The entries in
/// /proc/self belong to the first thread, so other threads need a longer path. The kernel creates each part of such a
/// path on first use, so the shorter path is used where possible.
#[derive(Clone, Copy)]
struct Own {
    of_process: &'static str,
    of_thread: &'static str,
}

const OWN_MOUNT: Own = Own {
    of_process: "/proc/self/ns/mnt",
    of_thread: "/proc/thread-self/ns/mnt",
};
const OWN_PID: Own = Own {
    of_process: "/proc/self/ns/pid",
    of_thread: "/proc/thread-self/ns/pid",
};
const OWN_USER: Own = Own {
    of_process: "/proc/self/ns/user",
    of_thread: "/proc/thread-self/ns/user",
};

impl Own {
    fn path(self) -> &'static str {
        if unistd::gettid() == unistd::getpid() {
            self.of_process
        } else {
            self.of_thread
        }
    }

    fn id(self) -> io::Result<Id> {
        Id::at(self.path())
    }
}
/// The mount namespace of the first process that our procfs shows: the host's, or the container's in a container's
/// procfs.
const FIRST_PROCESS: &str = "/proc/1/ns/mnt";
/// Maximum number of ancestors of this process that are examined.
const MOST_ANCESTORS: usize = 64;

/// Identifies the namespace that a descriptor or a path refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    fn at(path: &str) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// A namespace held by a descriptor, so that it stays the same whatever becomes of its processes.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    id: Id,
}

impl Namespace {
    pub(crate) fn of(file: File) -> io::Result<Self> {
        let id = Id::of(&file.metadata()?);
        Ok(Self { file, id })
    }

    pub(crate) fn enter(&self, kind: CloneFlags) -> nix::Result<()> {
        setns(&self.file, kind)
    }

    /// Whether this is the current thread's own user namespace.
    pub(crate) fn is_own_user_namespace(&self) -> Result<bool, Error> {
        let own = OWN_USER
            .id()
            .map_err(Error::host(Path::new(OWN_USER.path())))?;
        Ok(self.id == own)
    }

    /// Checks the mount namespace of another process: nothing may be attached in a namespace that the host, or the
    /// process that started us, also uses.
    pub(crate) fn ensure_apart(&self, whose: &str) -> Result<Apart, Error> {
        let own = OWN_MOUNT
            .id()
            .map_err(Error::host(Path::new(OWN_MOUNT.path())))?;
        if self.id == own {
            return Err(Error::State(
                format!(
                    "{whose} is in our own mount namespace, so its mounts would be the host's; \
                 it needs one of its own (unshare --mount, or a mount namespace in config.json)"
                )
                .into(),
            ));
        }
        if self.id.inode == FIRST_MOUNT || self.is_first_process_of_the_host() {
            return Err(Error::State(
                format!(
                    "{whose} is in the host's mount namespace; a container has one of its own. \
                 Was its number taken from another pid namespace?"
                )
                .into(),
            ));
        }
        Ok(Apart(()))
    }

    /// False if the first process's namespace cannot be read. Then the other checks decide.
    fn is_first_process_of_the_host(&self) -> bool {
        Id::at(FIRST_PROCESS).is_ok_and(|first| first == self.id)
            && (is_procfs_of_the_host() || is_procfs_of_our_own())
    }
}

/// Proof that a mount namespace, and the one this process is in, is a container's. Only this module can make the
/// proof, and [`super::mount_api::attach`] requires it, so nothing is attached without the check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart(());

/// What is known about the mount namespace of this process. It is determined before any privilege is dropped, because
/// reading the namespaces of other processes needs privileges.
#[derive(Debug)]
pub struct OwnMounts(Separation);

#[derive(Debug)]
enum Separation {
    Apart,
    Hosts,
    /// The namespace could not be read.
    Unknown(io::Error),
}

impl OwnMounts {
    /// For a createContainer hook. According to the OCI specification it runs in the container's mount namespace. A
    /// container whose config.json has no `mount` namespace shares the runtime's.
    ///
    /// `/proc` is still the runtime's, so its first process is not the container's. If we may not read the first
    /// process's namespace, we compare with the runtime's: our parent becomes the container, and the runtime is our
    /// parent's parent. In a user namespace we may be unable to read either, but there the kernel lets us mount only
    /// in mount namespaces that belong to that user namespace.
    #[must_use]
    pub fn of_hook() -> Self {
        Self(match OWN_MOUNT.id() {
            Ok(own) => of_hook(own),
            Err(e) => Separation::Unknown(e),
        })
    }

    /// For a program that LXC, Enroot or Apptainer has started in a mount namespace made for a container. In that
    /// case the first process in `/proc`, or a process between it and us, is in another mount namespace.
    #[must_use]
    pub fn of_caller() -> Self {
        Self(match OWN_MOUNT.id() {
            Ok(own) => of_caller(own),
            Err(e) => Separation::Unknown(e),
        })
    }

    /// For a namespace that has been found to be a container's and has been entered.
    pub(crate) fn entered(_: Apart) -> Self {
        Self(Separation::Apart)
    }

    pub(crate) fn ensure_apart(&self) -> Result<Apart, Error> {
        match &self.0 {
            Separation::Apart => Ok(Apart(())),
            Separation::Hosts => Err(Error::State(
                "this is the host's mount namespace: what is mounted for the container would stay on the \
                 host; a container needs a mount namespace of its own, and nvidia-container-cli \
                 either --pid or to be started in it"
                    .into(),
            )),
            Separation::Unknown(e) => Err(Error::State(format!(
                "whether this is the host's mount namespace cannot be seen ({} and those of \
                 the processes above: {e}); say --pid, with /proc mounted",
                OWN_MOUNT.path(),
            ).into())),
        }
    }
}

fn of_hook(own: Id) -> Separation {
    hooks_verdict(
        own,
        || Id::at(FIRST_PROCESS).ok(),
        || runtime().and_then(|pid| mounts_of(pid).ok()),
        has_own_user_namespace,
    )
}

/// Takes functions, so that each process is examined only if the checks before it have not decided: each costs
/// microseconds of a container's start.
fn hooks_verdict(
    own: Id,
    of_first: impl FnOnce() -> Option<Id>,
    of_runtime: impl FnOnce() -> Option<Id>,
    has_own_user_namespace: impl FnOnce() -> bool,
) -> Separation {
    if own.inode == FIRST_MOUNT {
        return Separation::Hosts;
    }
    match of_first() {
        Some(first) if first == own => Separation::Hosts,
        Some(_) => Separation::Apart,
        // If neither namespace can be read, we rely on the specification: the hook runs in the container's mount
        // namespace.
        None => match of_runtime() {
            Some(runtime) if runtime == own && !has_own_user_namespace() => Separation::Hosts,
            _ => Separation::Apart,
        },
    }
}

fn of_caller(own: Id) -> Separation {
    if own.inode == FIRST_MOUNT {
        return Separation::Hosts;
    }
    let unseen = match Id::at(FIRST_PROCESS) {
        Ok(first) if first != own => return Separation::Apart,
        Ok(_) if is_procfs_of_the_host() => return Separation::Hosts,
        // Both namespaces were made for a container that we are a part of, and nothing outside it is visible.
        Ok(_) => return Separation::Apart,
        Err(e) => e,
    };
    let is_elsewhere = |pid| mounts_of(pid).is_ok_and(|theirs| theirs != own);
    if has_own_user_namespace() || ancestors().any(is_elsewhere) {
        return Separation::Apart;
    }
    Separation::Unknown(unseen)
}

fn mounts_of(pid: u32) -> io::Result<Id> {
    Id::at(&format!("/proc/{pid}/ns/mnt"))
}

/// Whether `/proc` shows the kernel's initial PID namespace.
fn is_procfs_of_the_host() -> bool {
    Id::at("/proc/1/ns/pid").is_ok_and(|first| first.inode == FIRST_PID)
}

/// Whether the first process of `/proc` is in our own PID namespace. It is then the first process of our host, which
/// may itself be a container.
fn is_procfs_of_our_own() -> bool {
    let first = Id::at("/proc/1/ns/pid");
    first.is_ok_and(|first| OWN_PID.id().is_ok_and(|own| own == first))
}

pub(crate) fn has_own_user_namespace() -> bool {
    OWN_USER.id().is_ok_and(|own| own.inode != FIRST_USER)
}

/// The ancestors of this process, by their numbers in our procfs, as far as procfs shows them.
fn ancestors() -> impl Iterator<Item = u32> {
    let first = own_parent();
    let above = std::iter::successors(first, |of| read_parent(&of.to_string()));
    above.take(MOST_ANCESTORS)
}

/// For a createContainer hook: the parent of the process that started it, which is the runtime.
fn runtime() -> Option<u32> {
    // `ancestors` would read one process more than it returns, so it is not used here.
    read_parent(&own_parent()?.to_string())
}

/// The process that started this one. getppid(2) gives its number in our own PID namespace; if `/proc` shows another
/// PID namespace, the number has to be read there.
fn own_parent() -> Option<u32> {
    let own = fcntl::readlink("/proc/self").ok()?;
    if own.to_str() == Some(unistd::getpid().to_string().as_str()) {
        return u32::try_from(unistd::getppid().as_raw())
            .ok()
            .filter(|parent| *parent > 0);
    }
    read_parent("self")
}

fn read_parent(of: &str) -> Option<u32> {
    // The size of a procfs file is not known in advance; one read returns everything that matters. openat(2) is used
    // because musl's open() makes a second system call to set O_CLOEXEC.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let path = format!("/proc/{of}/stat");
    let file = fcntl::openat(fcntl::AT_FDCWD, path.as_str(), flags, Mode::empty()).ok()?;
    let mut start = [0; 256];
    let read = unistd::read(&file, &mut start).ok()?;
    parent(&String::from_utf8_lossy(&start[..read]))
}

/// The `ppid` field of a `/proc/PID/stat` text (`proc_pid_stat(5)`). The process name before it may contain blanks
/// and brackets.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
    (parent > 0).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("7 (sh) S 5 7 7 0 -1"), Some(5));
        assert_eq!(parent("7 (a) S 9 (b)) R 5 7"), Some(5));
        assert_eq!(parent("1 (init) S 0 1"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn the_process_that_started_us_is_above() {
        let first = ancestors().next().unwrap();
        assert_eq!(first, std::os::unix::process::parent_id());
        assert_eq!(read_parent("self"), Some(first));
        assert_eq!(ancestors().nth(1), read_parent(&first.to_string()));
        assert_eq!(ancestors().nth(1), runtime());
    }

    fn id(inode: u64) -> Id {
        Id { device: 4, inode }
    }

    /// Every verdict for a hook, depending on what can be read of the namespaces around it.
    #[test]
    fn a_hooks_verdict_is_the_same_whatever_is_looked_at_first() {
        const OWN: u64 = 7;
        let ids = [None, Some(id(OWN)), Some(id(8)), Some(id(FIRST_MOUNT))];
        for own in [id(OWN), id(FIRST_MOUNT)] {
            for first in ids {
                for runtime in ids {
                    for is_mapped in [false, true] {
                        let is_hosts = own.inode == FIRST_MOUNT
                            || first == Some(own)
                            || (first.is_none() && runtime == Some(own) && !is_mapped);
                        let separation = hooks_verdict(own, || first, || runtime, || is_mapped);
                        let case = format!("{own:?} {first:?} {runtime:?} {is_mapped}");
                        match separation {
                            Separation::Hosts => assert!(is_hosts, "{case}"),
                            Separation::Apart => assert!(!is_hosts, "{case}"),
                            Separation::Unknown(e) => panic!("{case}: {e}"),
                        }
                    }
                }
            }
        }
    }

    /// Two namespaces with the same inode number on different file systems are different namespaces.
    #[test]
    fn a_hooks_verdict_goes_by_device_and_number() {
        let elsewhere = Some(Id {
            device: 5,
            inode: 7,
        });
        let separation = hooks_verdict(id(7), || elsewhere, || unreachable!(), || unreachable!());
        assert!(matches!(separation, Separation::Apart));
        let separation = hooks_verdict(id(7), || None, || elsewhere, || unreachable!());
        assert!(matches!(separation, Separation::Apart));
    }

    #[test]
    fn nothing_is_read_beyond_what_decides() {
        let none = || -> Option<Id> { panic!("the runtime is looked at") };
        let no_user = || -> bool { panic!("the user namespace is looked at") };
        for first in [id(7), id(8)] {
            let _ = hooks_verdict(id(7), || Some(first), none, no_user);
        }
        let _ = hooks_verdict(id(7), || None, || Some(id(8)), no_user);
        let _ = hooks_verdict(id(7), || None, || None, no_user);
    }

    #[test]
    fn a_threads_namespaces_are_its_own() {
        if !skips::has(&[skips::Need::Root]) {
            return;
        }
        let apart = || {
            let of_process = || Id::at(OWN_MOUNT.of_process).unwrap();
            assert_eq!(OWN_MOUNT.id().unwrap(), of_process());
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
            assert_ne!(OWN_MOUNT.id().unwrap(), of_process());
        };
        std::thread::spawn(apart).join().unwrap();
    }

    #[test]
    fn our_own_namespace_is_not_a_containers() {
        let own = Namespace::of(File::open(OWN_MOUNT.path()).unwrap()).unwrap();
        let message = own.ensure_apart("process 7").unwrap_err().to_string();
        assert!(
            message.starts_with("process 7 is in our own mount namespace"),
            "{message}"
        );
    }
}
