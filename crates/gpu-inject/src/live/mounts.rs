//! Files and nodes of the host, taken here, placed there.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gpu_host::Need;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::driver_params::{PARAMS, PARAMS_MASK};
use crate::edits::{Edits, MountKind};
use crate::error::Error;
use crate::linux::mount_api;
use crate::rootfs::{Elsewhere, Kind, MountPlace, Rootfs, is_unwritable};

/// A detached mount on its way into a container.
pub(super) struct Taken {
    mount: OwnedFd,
    path: PathBuf,
    is_dir: bool,
    is_optional: bool,
    kind: MountKind,
}

/// Detached mounts of everything the edits name, flags set, cut off from all propagation.
/// Device nodes are left out where they are not `wanted`. The second list says which optional
/// files are left out, and why.
pub(super) fn take(edits: &Edits, nodes_wanted: bool) -> Result<(Vec<Taken>, Vec<String>), Error> {
    let mut taken = Vec::with_capacity(edits.mounts.len() + edits.devices.len() + 1);
    let mut left_out = Vec::new();
    let mut hand = Hand::default();
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
        match hand.one(&mount.host_path, &mount.path, flags) {
            Ok(one) => taken.push(Taken {
                is_optional,
                kind: mount.kind,
                ..one
            }),
            Err(e) if is_optional => left_out.push(self::left_out(&e)),
            Err(e) => return Err(e),
        }
    }
    for node in edits.devices.iter().filter(|_| nodes_wanted) {
        let flags = mount_api::NOSUID | mount_api::NOEXEC;
        taken.push(hand.one(&node.host_path, &node.path, flags)?);
    }
    if edits.forbid_device_node_creation {
        taken.extend(hand.params_mask()?);
    }
    hand.come_back()?;
    Ok((taken, left_out))
}

/// A line for the debug log.
pub(super) fn left_out(why: &Error) -> String {
    format!("left out, as a container can do without: {why}")
}

/// The mask for the driver's parameters, where the host has them and a mask.
pub(super) fn params_mask() -> Result<Option<Taken>, Error> {
    let mut hand = Hand::default();
    let mask = hand.params_mask()?;
    hand.come_back()?;
    Ok(mask)
}

/// What takes mounts, and the mount namespace it left to do so.
#[derive(Default)]
struct Hand {
    home: Option<fs::File>,
}

impl Hand {
    fn one(&mut self, host: &Path, path: &Path, flags: u64) -> Result<Taken, Error> {
        let failed = |what: &str| Error::system(format!("{}: {what}", host.display()));
        let mut mount = mount_api::open_tree(host).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOENT) => Error::host(host)(e),
            _ => failed("open_tree (Linux 5.2)")(e),
        })?;
        if let Err(e) = mount_api::set_attributes(mount.as_fd(), flags) {
            if e.raw_os_error() != Some(libc::ENOSYS) {
                return Err(failed("mount_setattr")(e));
            }
            self.go_apart()?;
            mount = by_remount(host, flags).map_err(|e| failed("mount")(e.into()))?;
        }
        let about = fstat(&mount).map_err(|e| failed("stat")(e.into()))?;
        Ok(Taken {
            mount,
            path: path.to_owned(),
            is_dir: about.st_mode & libc::S_IFMT == libc::S_IFDIR,
            is_optional: false,
            kind: MountKind::File,
        })
    }

    fn params_mask(&mut self) -> Result<Option<Taken>, Error> {
        let mask = Path::new(PARAMS_MASK);
        if !Path::new(PARAMS).exists() || !mask.exists() {
            return Ok(None);
        }
        let flags = mount_api::RDONLY | mount_api::NOSUID | mount_api::NODEV | mount_api::NOEXEC;
        self.one(mask, Path::new(PARAMS), flags).map(Some)
    }

    /// Before Linux 5.12 only a mount that is attached can be given flags. In a namespace of
    /// our own nobody sees it without them: neither the host nor the container.
    fn go_apart(&mut self) -> Result<(), Error> {
        if self.home.is_some() {
            return Ok(());
        }
        let ours = Path::new("/proc/self/ns/mnt");
        self.home = Some(fs::File::open(ours).map_err(Error::host(ours))?);
        let none = None::<&Path>;
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| {
                let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(none, Path::new("/"), none, flags, none)
            })
            .map_err(|e| Error::system("a mount namespace of our own")(e.into()))
    }

    fn come_back(self) -> Result<(), Error> {
        let Some(home) = self.home else {
            return Ok(());
        };
        setns(home, CloneFlags::CLONE_NEWNS)
            .map_err(|e| Error::system("back to the mount namespace we came from")(e.into()))
    }
}

/// A detached copy of a bind mount that has the flags, and those its file system has here.
fn by_remount(host: &Path, flags: u64) -> nix::Result<OwnedFd> {
    let none = None::<&Path>;
    // Not what is mounted below: a remount gives flags to one mount.
    mount(Some(host), host, none, MsFlags::MS_BIND, none)?;
    let here = statvfs(host)?.flags();
    let mut all = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    for (ours, theirs, flag) in [
        (mount_api::RDONLY, FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (mount_api::NOSUID, FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (mount_api::NODEV, FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (mount_api::NOEXEC, FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        all.set(flag, flags & ours != 0 || here.contains(theirs));
    }
    mount(none, host, none, all, none)?;
    mount_api::open_tree(host).map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// A mount that is attached, and the place it is attached at.
#[derive(Debug)]
pub struct Placed {
    mount: OwnedFd,
    _at: MountPlace,
}

/// Attaches what was taken, parents first as given; those attached are added to `placed`, so
/// that they can be undone after a failure.
pub(super) fn place(
    rootfs: &Rootfs,
    taken: Vec<Taken>,
    placed: &mut Vec<Placed>,
) -> Result<(), Error> {
    for one in taken {
        let at = |what: &str| Error::system(format!("{}: {what}", one.path.display()));
        let place = target(rootfs, &one).and_then(|found| match found {
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
            // crun has made a read-only root so before it runs hooks.
            Err(e) if one.is_optional && cannot_be_written(&e) => {
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
        mount_api::attach(apart, one.mount.as_fd(), place.as_fd()).map_err(at("move_mount"))?;
        if one.is_dir {
            rootfs.forget();
        }
        placed.push(Placed {
            mount: one.mount,
            _at: place,
        });
    }
    Ok(())
}

fn cannot_be_written(error: &Error) -> bool {
    let Error::Rootfs { source, .. } = error else {
        return false;
    };
    let errno = source.raw_os_error();
    errno.is_some_and(|e| is_unwritable(Errno::from_raw(e)))
}

/// Whether a container can use its GPUs without: volumes at /run, /tmp and /etc are common.
fn is_optional(kind: MountKind, why: Elsewhere) -> bool {
    match kind {
        MountKind::Socket => true,
        MountKind::Config => why != Elsewhere::ByLink,
        MountKind::File | MountKind::Proc => false,
    }
}

/// Where it goes; `None` where the container does well without.
fn target(rootfs: &Rootfs, one: &Taken) -> Result<Option<MountPlace>, Error> {
    if !one.path.starts_with("/proc") {
        let kind = if one.is_dir {
            Kind::Directory
        } else {
            Kind::File
        };
        return rootfs.mount_point(&one.path, kind).map(Some);
    }
    let at = |what: &str| Error::system(format!("{}: {what}", one.path.display()));
    match rootfs.proc_file(&one.path).map_err(at("mount on"))? {
        // A mask for what the container does not have would be a file in its proc.
        None if one.path != Path::new(PARAMS) => {
            let why = "is not in the container's procfs, or something is mounted there";
            Err(at(why)(Errno::ENOENT.into()))
        }
        place => Ok(place),
    }
}

/// Takes mounts off again, last first. For after a failure, whose own error is what counts.
pub(super) fn undo(rootfs: &Rootfs, placed: &[Placed]) {
    for one in placed.iter().rev() {
        let _ = rootfs.detach(one.mount.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_the_caller_has_made_are_not_taken() {
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
        assert!(take(&edits, false).unwrap().0.is_empty());
        assert!(take(&edits, true).is_err());
    }
}
