//! Makes bind mounts of the host's files and nodes: detached from the host first, then attached in a container.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gpu_host::{Need, kernel};
use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::statvfs;

use crate::driver_params::{PARAMS, PARAMS_MASK};
use crate::edits::{Edits, MountKind};
use crate::error::Error;
use crate::linux::{is_missing, mount_api};
use crate::rootfs::{
    Elsewhere, MountPlace, MountPointKind, Rootfs, Stage, is_unwritable, remount_flags,
};

/// A host can have 2,048 IMEX channels, and a hook may lack the right to raise its limit on descriptors.
const PLACES_KEPT: usize = 512;
/// Room for two mount points.
const STAGE_SIZE: u64 = 64 << 10;

/// A mount of a host file, to be attached in a container.
pub(super) struct DetachedMount {
    source: MountSource,
    path: PathBuf,
    is_dir: bool,
    is_optional: bool,
    kind: MountKind,
}

/// The source of a mount.
enum MountSource {
    /// A detached mount, with its flags.
    Mount(OwnedFd),
    /// Without the mount API of Linux 5.2: the file itself, which is bind-mounted once we are in the container's
    /// mount namespace.
    File {
        file: OwnedFd,
        host: PathBuf,
        flags: u64,
    },
}

/// Makes detached mounts of all files in the edits, with their flags set and private propagation. Device nodes are
/// mounted only if `with_nodes`. The second list has a line for each optional file that is left out.
pub(super) fn detach_from_host(
    edits: &Edits,
    with_nodes: bool,
) -> Result<(Vec<DetachedMount>, Vec<String>), Error> {
    let mut detached = Vec::with_capacity(edits.mounts.len() + edits.devices.len() + 1);
    let mut left_out = Vec::new();
    let mut detacher = Detacher::default();
    for mount in &edits.mounts {
        let flags = match mount.kind {
            MountKind::File | MountKind::Config => {
                mount_api::RDONLY | mount_api::NOSUID | mount_api::NODEV
            }
            MountKind::Socket => mount_api::NOSUID | mount_api::NODEV | mount_api::NOEXEC,
            MountKind::Proc => {
                mount_api::RDONLY | mount_api::NOSUID | mount_api::NODEV | mount_api::NOEXEC
            }
        };
        let is_optional = mount.need != Need::Required;
        match detacher.detach(&mount.host_path, &mount.path, flags) {
            Ok(one) => detached.push(DetachedMount {
                is_optional,
                kind: mount.kind,
                ..one
            }),
            Err(e) if is_optional => left_out.push(self::left_out(&e)),
            Err(e) => return Err(e),
        }
    }
    for node in edits.devices.iter().filter(|_| with_nodes) {
        let flags = mount_api::NOSUID | mount_api::NOEXEC;
        detached.push(detacher.detach(&node.host_path, &node.path, flags)?);
    }
    if edits.forbid_device_node_creation {
        detached.extend(detacher.params_mask()?);
    }
    detacher.return_home()?;
    Ok((detached, left_out))
}

/// A line for the debug log about an optional file that is left out.
pub(super) fn left_out(why: &Error) -> String {
    format!("left out, as a container can do without: {why}")
}

/// A detached mount of the masked driver parameters, if the host has both files.
pub(super) fn params_mask() -> Result<Option<DetachedMount>, Error> {
    let mut detacher = Detacher::default();
    let mask = detacher.params_mask()?;
    detacher.return_home()?;
    Ok(mask)
}

/// Makes detached mounts. Before Linux 5.12 this needs a mount namespace of its own.
#[derive(Default)]
struct Detacher {
    /// The mount namespace to return to, if it was left.
    home: Option<fs::File>,
}

impl Detacher {
    fn detach(&mut self, host: &Path, path: &Path, flags: u64) -> Result<DetachedMount, Error> {
        let failed = |what: &str| Error::system(format!("{}: {what}", host.display()));
        let source = match mount_api::open_tree(host) {
            Ok(mount) => MountSource::Mount(self.with_flags(mount, host, flags)?),
            Err(e) if is_missing(&e) => MountSource::File {
                file: open_path(host).map_err(Error::host(host))?,
                host: host.to_owned(),
                flags,
            },
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Err(Error::host(host)(e)),
            Err(e) => return Err(failed("open_tree")(e)),
        };
        let stat = fstat(source.as_fd()).map_err(|e| failed("stat")(e.into()))?;
        Ok(DetachedMount {
            source,
            path: path.to_owned(),
            is_dir: stat.st_mode & libc::S_IFMT == libc::S_IFDIR,
            is_optional: false,
            kind: MountKind::File,
        })
    }

    /// Sets these flags on a detached mount of `host`.
    fn with_flags(&mut self, mount: OwnedFd, host: &Path, flags: u64) -> Result<OwnedFd, Error> {
        let failed = |what: &str| Error::system(format!("{}: {what}", host.display()));
        match mount_api::set_attributes(mount.as_fd(), flags) {
            Ok(()) => Ok(mount),
            Err(e) if is_missing(&e) => {
                self.unshare_mounts()?;
                by_remount(host, flags).map_err(|e| failed("mount")(e.into()))
            }
            Err(e) => Err(failed("mount_setattr")(e)),
        }
    }

    fn params_mask(&mut self) -> Result<Option<DetachedMount>, Error> {
        let mask = Path::new(PARAMS_MASK);
        if !Path::new(PARAMS).exists() || !mask.exists() {
            return Ok(None);
        }
        let flags = mount_api::RDONLY | mount_api::NOSUID | mount_api::NODEV | mount_api::NOEXEC;
        self.detach(mask, Path::new(PARAMS), flags).map(Some)
    }

    /// Enters a new mount namespace with private propagation. Before Linux 5.12 flags can be set only on an attached
    /// mount. A mount attached in this namespace is never visible without its flags, neither to the host nor to the
    /// container.
    fn unshare_mounts(&mut self) -> Result<(), Error> {
        if self.home.is_some() {
            return Ok(());
        }
        let path = Path::new("/proc/self/ns/mnt");
        self.home = Some(fs::File::open(path).map_err(Error::host(path))?);
        let none = None::<&Path>;
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| {
                let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(none, Path::new("/"), none, flags, none)
            })
            .map_err(|e| Error::system("a mount namespace of our own")(e.into()))
    }

    fn return_home(self) -> Result<(), Error> {
        let Some(home) = self.home else {
            return Ok(());
        };
        setns(home, CloneFlags::CLONE_NEWNS)
            .map_err(|e| Error::system("back to the mount namespace we came from")(e.into()))
    }
}

/// Makes a detached mount with these flags and the flags of its file system, by means of a remount.
fn by_remount(host: &Path, flags: u64) -> nix::Result<OwnedFd> {
    let none = None::<&Path>;
    // Without MS_REC, because a remount sets the flags of one mount only.
    mount(Some(host), host, none, MsFlags::MS_BIND, none)?;
    let all = remount_flags(flags, statvfs(host)?.flags());
    mount(none, host, none, all, none)?;
    mount_api::open_tree(host).map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    Ok(fcntl::openat(fcntl::AT_FDCWD, path, flags, Mode::empty())?)
}

/// Opens the host's file again after another mount namespace was entered, because mount(2) mounts only files of the
/// current one. A container that has not started yet still has the host's files at the same paths; comparing the
/// file's identity ensures that it is the same file.
pub(super) fn find_again(detached: &mut [DetachedMount]) -> Result<(), Error> {
    for one in detached {
        let MountSource::File { file, host, .. } = &mut one.source else {
            continue;
        };
        let current = open_path(host).map_err(Error::host(host))?;
        let id = |fd: &OwnedFd| fstat(fd).map(|f| (f.st_dev, f.st_ino));
        if id(&current).is_ok_and(|current_id| id(file) == Ok(current_id)) {
            *file = current;
            continue;
        }
        return Err(Error::State(
            format!(
                "{} is not the host's file in the container's mount namespace, and without {} it cannot be \
                 brought there",
                host.display(),
                kernel::with_version("open_tree")
            )
            .into(),
        ));
    }
    Ok(())
}

impl AsFd for MountSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Mount(fd) | Self::File { file: fd, .. } => fd.as_fd(),
        }
    }
}

/// An attached mount and its mount point.
#[derive(Debug)]
pub struct Placed {
    mount: OwnedFd,
    /// Kept open, because closing takes time and the process ends soon; closed early if there are many.
    _at: Option<MountPlace>,
}

/// Attaches the mounts in the given order, parents first. Each attached mount is added to `placed`, so that it can be
/// undone after a failure.
pub(super) fn place(
    rootfs: &Rootfs,
    detached: Vec<DetachedMount>,
    placed: &mut Vec<Placed>,
) -> Result<(), Error> {
    let mut stage = None;
    for one in detached {
        let path = one.path.display();
        let at = |what: &str| Error::system(format!("{path}: {what}"));
        let place = target(rootfs, &one).and_then(|place| match place {
            None => Ok(None),
            Some(place) => {
                let private = rootfs.ensure_private(&place);
                private.map_err(at("mount in the container"))?;
                Ok(Some(place))
            }
        });
        let place = match place {
            Ok(Some(place)) => place,
            Ok(None) => continue,
            // crun makes a read-only root read-only before it runs hooks.
            Err(e) if one.is_optional && is_read_only(&e) => {
                rootfs.note(&one.path, &format!("not mounted: {e}"));
                continue;
            }
            Err(e) => match e.elsewhere().filter(|why| is_optional(one.kind, *why)) {
                None => return Err(e),
                Some(why) => {
                    rootfs.note(&one.path, &format!("left out: {why}"));
                    continue;
                }
            },
        };
        let apart = rootfs.ensure_apart()?;
        let mount = match one.source {
            MountSource::Mount(mount) => {
                mount_api::attach(apart, mount.as_fd(), place.as_fd()).map_err(at("move_mount"))?;
                mount
            }
            MountSource::File { file, flags, .. } => {
                let stage = if let Some(stage) = &stage {
                    stage
                } else {
                    let made = Stage::new(apart, rootfs, STAGE_SIZE);
                    stage.insert(made.map_err(at("mount a tmpfs"))?)
                };
                let mounted = stage.mount(file.as_fd(), flags, place.as_fd());
                mounted.map_err(at("mount"))?
            }
        };
        if one.is_dir {
            rootfs.clear_caches();
        }
        let is_kept = placed.len() < PLACES_KEPT;
        placed.push(Placed {
            mount,
            _at: is_kept.then_some(place),
        });
    }
    Ok(())
}

fn is_read_only(error: &Error) -> bool {
    let Error::Rootfs { source, .. } = error else {
        return false;
    };
    let errno = source.raw_os_error();
    errno.is_some_and(|e| is_unwritable(Errno::from_raw(e)))
}

/// Whether a container can use its GPUs without this file if its mount point is in a volume. Volumes at /run, /tmp
/// and /etc are common.
fn is_optional(kind: MountKind, why: Elsewhere) -> bool {
    match kind {
        MountKind::Socket => true,
        MountKind::Config => why != Elsewhere::ByLink,
        MountKind::File | MountKind::Proc => false,
    }
}

/// Finds or makes the mount point; `None` if the container does not need the mount.
fn target(rootfs: &Rootfs, one: &DetachedMount) -> Result<Option<MountPlace>, Error> {
    if !one.path.starts_with("/proc") {
        let kind = if one.is_dir {
            MountPointKind::Directory
        } else {
            MountPointKind::File
        };
        return rootfs.mount_point(&one.path, kind).map(Some);
    }
    let at = |what: &str| Error::system(format!("{}: {what}", one.path.display()));
    match rootfs.proc_file(&one.path).map_err(at("mount on"))? {
        // A container without the driver's parameters needs no mask for them.
        None if one.path != Path::new(PARAMS) => {
            let why = "is not in the container's procfs, or something is mounted there";
            Err(at(why)(Errno::ENOENT.into()))
        }
        place => Ok(place),
    }
}

/// Detaches mounts after a failure, last first. Errors are ignored, because the first failure is the one that is
/// reported.
pub(super) fn undo(rootfs: &Rootfs, placed: &[Placed]) {
    for one in placed.iter().rev() {
        let _ = rootfs.detach(one.mount.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_the_caller_has_made_are_not_mounted() {
        let node = gpu_host::DeviceNode {
            path: "/dev/nvidia0".into(),
            host_path: "/not/there".into(),
            major: 195,
            minor: 0,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        let edits = Edits {
            devices: vec![node],
            ..Edits::default()
        };
        assert!(detach_from_host(&edits, false).unwrap().0.is_empty());
        assert!(detach_from_host(&edits, true).is_err());
    }
}
