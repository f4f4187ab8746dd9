//! Whose a mount namespace is. What is attached in the host's stays there when the container is
//! gone, so nothing is attached before it is known that a namespace is not the host's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{self, OFlag};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd;

use crate::error::Error;

/// Inode numbers of the namespaces that the kernel itself begins with (include/uapi/linux/nsfs.h);
/// that of the mount namespace is fixed since Linux 6.18, and nobody else's before.
const FIRST_MOUNT: u64 = 0xEFFF_FFF8;
const FIRST_USER: u64 = 0xEFFF_FFFD;
const FIRST_PID: u64 = 0xEFFF_FFFC;

/// A namespace of this thread, which can be another than that of the process's other threads: where it is in /proc of the
/// process, whose entries are those of its first thread, and where else. The kernel makes up each part of such a path
/// when it is first used, so the shorter one is taken where it will do.
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
/// Of the first process that our procfs knows: the host's, or in a container's procfs the container's.
const FIRST_PROCESS: &str = "/proc/1/ns/mnt";
/// As many processes one above the other as are looked at.
const MOST_ANCESTORS: usize = 64;

/// Which namespace a descriptor or a path is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }

    fn at(path: &str) -> io::Result<Self> {
        fs::metadata(path).map(|found| Self::of(&found))
    }
}

/// A namespace that stays the same, whatever becomes of its processes.
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

    /// Whether it is this thread's own user namespace.
    pub(crate) fn is_own_user_namespace(&self) -> Result<bool, Error> {
        let own = OWN_USER
            .id()
            .map_err(Error::host(Path::new(OWN_USER.path())))?;
        Ok(self.id == own)
    }

    /// For the mount namespace of a process that is not of ours: nothing may be attached in what the
    /// host, or whoever started us, has too.
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

    /// Where it cannot be seen, the other checks decide.
    fn is_first_process_of_the_host(&self) -> bool {
        Id::at(FIRST_PROCESS).is_ok_and(|first| first == self.id)
            && (is_procfs_of_the_host() || is_procfs_of_our_own())
    }
}

/// A mount namespace that is a container's, and the one this process is in. Made here alone, and
/// [`super::mount_api::attach`] wants it: nothing is attached without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart(());

/// What is known about the mount namespace that this process is in. Looked at before anything is
/// given up: whose namespaces other processes are in is not told to everybody.
#[derive(Debug)]
pub struct OwnMounts(Separation);

#[derive(Debug)]
enum Separation {
    Apart,
    Hosts,
    /// It could not be seen.
    Unknown(io::Error),
}

impl OwnMounts {
    /// For a createContainer hook. It runs in the container's mount namespace, says the OCI
    /// specification; a container without one (config.json has no `mount` namespace) has the
    /// runtime's.
    ///
    /// `/proc` is still the runtime's, so its first process is not the container's. Where we may not
    /// see that one's namespaces, the runtime's are compared: our parent becomes the container, and
    /// the runtime is its parent. In a user namespace we may see neither, and the kernel lets us
    /// mount only in namespaces that were made there.
    #[must_use]
    pub fn of_hook() -> Self {
        Self(match OWN_MOUNT.id() {
            Ok(own) => of_hook(own),
            Err(e) => Separation::Unknown(e),
        })
    }

    /// For a program that was started in a mount namespace made for a container, by LXC, Enroot or
    /// Apptainer. Then the first process in `/proc`, or one between that and us, is in another.
    #[must_use]
    pub fn of_caller() -> Self {
        Self(match OWN_MOUNT.id() {
            Ok(own) => of_caller(own),
            Err(e) => Separation::Unknown(e),
        })
    }

    /// Found to be a container's already, and entered.
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

/// What is asked only where nothing before it has decided: each look at a process is microseconds of a container's start.
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
        // Nothing to be seen at all: it is where the specification says.
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
        // Both namespaces were made for what we are a part of, and nothing above is seen.
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

/// Whether `/proc` is of the pid namespace that the kernel began with.
fn is_procfs_of_the_host() -> bool {
    Id::at("/proc/1/ns/pid").is_ok_and(|first| first.inode == FIRST_PID)
}

/// Whether the first process of `/proc` is that of our own pid namespace: our host's, where that is itself a container.
fn is_procfs_of_our_own() -> bool {
    let first = Id::at("/proc/1/ns/pid");
    first.is_ok_and(|first| OWN_PID.id().is_ok_and(|own| own == first))
}

pub(crate) fn has_own_user_namespace() -> bool {
    OWN_USER.id().is_ok_and(|own| own.inode != FIRST_USER)
}

/// The processes above this one by their numbers in our procfs, as far as it knows them.
fn ancestors() -> impl Iterator<Item = u32> {
    let first = own_parent();
    let above = std::iter::successors(first, |of| read_parent(&of.to_string()));
    above.take(MOST_ANCESTORS)
}

/// Of a createContainer hook: the process above the one that started it.
fn runtime() -> Option<u32> {
    // Not by `ancestors`, which looks at one more than is taken of it.
    read_parent(&own_parent()?.to_string())
}

/// The process that started this one. The kernel tells its number in our own pid namespace without more ado; a
/// procfs of another one has another number for it.
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
    // A file of procfs has no size that could be asked for: one call reads all that counts. By openat: musl's open sets
    // O_CLOEXEC by a call of its own once more.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let path = format!("/proc/{of}/stat");
    let file = fcntl::openat(fcntl::AT_FDCWD, path.as_str(), flags, Mode::empty()).ok()?;
    let mut start = [0; 256];
    let read = unistd::read(&file, &mut start).ok()?;
    parent(&String::from_utf8_lossy(&start[..read]))
}

/// `ppid` of a `/proc/PID/stat` (`proc_pid_stat(5)`): the name before it may have blanks and brackets.
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

    /// Every verdict for a hook, by what can be seen of the namespaces around it.
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

    /// A namespace on another file system with the same number is another one.
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
