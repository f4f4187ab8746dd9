//! Files and nodes of the host, taken here, placed there.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::sys;
use crate::edits::{Edits, MountKind};
use crate::error::Error;
use crate::rootfs::{Kind, Rootfs};

/// The driver's parameters; a container that reads `ModifyDeviceFiles: 1` there makes
/// device nodes on its own (driver README, "Registry keys").
pub const PARAMS: &str = "/proc/driver/nvidia/params";
/// Our copy that says 0, written by `gpusetup install` and `gpusetup cdi refresh`. The
/// hook may run as a user who cannot write on the host.
pub const PARAMS_MASK: &str = "/run/gpusetup/params";

/// A detached mount on its way into a container.
pub(super) struct Taken {
    mount: OwnedFd,
    path: PathBuf,
    is_dir: bool,
}

/// Detached mounts of everything the edits name, flags set.
pub(super) fn take(edits: &Edits) -> Result<Vec<Taken>, Error> {
    let mut taken = Vec::with_capacity(edits.mounts.len() + edits.devices.len() + 1);
    for mount in &edits.mounts {
        let flags = match mount.kind {
            MountKind::File => sys::RDONLY | sys::NOSUID | sys::NODEV,
            MountKind::Socket => sys::NOSUID | sys::NODEV | sys::NOEXEC,
            MountKind::Proc => sys::RDONLY | sys::NOSUID | sys::NODEV | sys::NOEXEC,
        };
        taken.push(one(&mount.host_path, &mount.path, flags)?);
    }
    for node in &edits.devices {
        taken.push(one(&node.host_path, &node.path, sys::NOSUID | sys::NOEXEC)?);
    }
    if edits.forbid_device_node_creation {
        taken.extend(params_mask()?);
    }
    Ok(taken)
}

fn one(host: &Path, path: &Path, flags: u64) -> Result<Taken, Error> {
    let is_dir = fs::metadata(host).map_err(Error::host(host))?.is_dir();
    let mount = sys::open_tree(host).map_err(Error::system(format!(
        "{}: open_tree (Linux 5.2)",
        host.display()
    )))?;
    sys::set_attributes(mount.as_fd(), flags).map_err(Error::system(format!(
        "{}: mount_setattr (Linux 5.12)",
        host.display()
    )))?;
    Ok(Taken {
        mount,
        path: path.to_owned(),
        is_dir,
    })
}

/// The mask for the driver's parameters, where the host has them and a mask.
pub(super) fn params_mask() -> Result<Option<Taken>, Error> {
    let mask = Path::new(PARAMS_MASK);
    if !Path::new(PARAMS).exists() || !mask.exists() {
        return Ok(None);
    }
    one(
        mask,
        Path::new(PARAMS),
        sys::RDONLY | sys::NOSUID | sys::NODEV | sys::NOEXEC,
    )
    .map(Some)
}

/// What the mask says, for parameters of this text.
pub fn masked_params(params: &str) -> String {
    params
        .lines()
        .map(|line| match line.split_once(':') {
            Some(("ModifyDeviceFiles", _)) => "ModifyDeviceFiles: 0\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect()
}

/// Attaches what was taken, parents first as given.
pub(super) fn place(rootfs: &Rootfs, taken: Vec<Taken>) -> Result<(), Error> {
    for one in taken {
        let kind = if one.is_dir {
            Kind::Directory
        } else {
            Kind::File
        };
        // A mask for what the container does not have would be a file in its proc.
        if one.path == Path::new(PARAMS) && !rootfs.exists(&one.path) {
            continue;
        }
        let target = rootfs.mount_point(&one.path, kind)?;
        sys::attach(one.mount.as_fd(), target.as_fd())
            .map_err(Error::system(format!("{}: move_mount", one.path.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_parameter_changes() {
        let text = "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\n";
        assert_eq!(masked_params(text), text.replace("Files: 1", "Files: 0"));
    }
}
