//! Edits carried out in a container whose namespaces exist and whose process has not
//! started: `docker run --gpus`, `nvidia-container-cli configure`.

mod by_runtime;
mod cgroup_paths;
mod cgroup_v1;
mod cgroup_v2;
mod confinement;
mod mounts;
mod start;
mod systemd;
mod target;

use std::fs;
use std::path::{Path, PathBuf};

use gpu_host::Need;

use crate::edits::Edits;
use crate::error::{Error, Message};
use crate::linux::kernel_text::kernel_text;
use crate::linux::mount_api;
use crate::linux::process::Process;
use crate::rootfs::{Rootfs, own_descriptors};
use crate::rootfs_edits::prepare_rootfs;

pub use crate::linux::namespace::OwnMounts;
pub use confinement::{Capability, confine};
pub use mounts::Placed;
use mounts::Taken;
pub use start::start;
pub use target::{Pidfd, Target};

/// Gives the container its devices and files. Enters the container's mount and user
/// namespaces and stays there: for a process of one thread that has nothing else to do.
/// After an error no mount and no mount point of ours is left; a device that the cgroup was
/// told to allow stays allowed.
pub fn inject(target: &Target, edits: &Edits) -> Result<Notes, Error> {
    let own = own_descriptors();
    let path = Path::new("/proc/self/mountinfo");
    // Any user who may mount a FUSE file system chooses a mount point whose name need not be UTF-8.
    let mounts = kernel_text(fs::read(path).map_err(Error::host(path))?);
    if !target.no_cgroups {
        allow_devices(target.process(), &mounts, edits)?;
    }
    // Taken while we still see the host: the container's view could name other files.
    let (taken, left_out) = mounts::take(edits, !target.no_devbind)?;
    let apart = target.enter_mount_namespace()?;
    let rootfs = Rootfs::open_with(&target.rootfs, own)?
        .in_namespace(OwnMounts::entered(apart))
        .arranged(target.arrangement)
        .with_callers_rights(target.has_callers_rights());
    // Started in the container's namespace, that table has the container's own mounts, too.
    if target.has_other_mounts() {
        rootfs.know_outside(mounts);
    }
    // What we make from here on belongs to the container's root, and we can do no more
    // than it can: its file systems may have no name for the host's root.
    target.enter_user_namespace()?;
    place(&rootfs, taken, edits)?;
    Ok(Notes {
        warnings: rootfs.notes(),
        left_out,
    })
}

/// What was not done and is no reason to refuse the container, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What a program in it may miss.
    pub warnings: Vec<Message>,
    /// Optional files that cannot be reached from here: for the debug log.
    pub left_out: Vec<String>,
}

/// The same, but for device nodes and their cgroup, by a createContainer hook: it is in the
/// container's mount namespace and still sees the host's files (OCI runtime specification,
/// "POSIX-platform Hooks"). Returns the mounts with their descriptors, so that a process that
/// ends now need not close each, and the optional files that are left out.
pub fn mount_here(rootfs: &Rootfs, edits: &Edits) -> Result<(Vec<Placed>, Vec<String>), Error> {
    by_runtime::ensure_private(rootfs, edits)?;
    let (taken, left_out) = mounts::take(edits, false)?;
    Ok((place(rootfs, taken, edits)?, left_out))
}

/// Takes optional files that cannot be reached from here out of edits that somebody else is to
/// mount; says which, and why.
pub fn leave_out_unreachable(edits: &mut Edits) -> Vec<String> {
    let mut left_out = Vec::new();
    edits.mounts.retain(|mount| {
        // Our hook sees for itself.
        if mount.need != Need::Optional {
            return true;
        }
        let found = fs::metadata(&mount.host_path).map_err(Error::host(&mount.host_path));
        left_out.extend(found.as_ref().err().map(mounts::left_out));
        found.is_ok()
    });
    left_out
}

/// Whether this process could do what [`mount_here`] does; a kernel before Linux 5.12 cannot.
#[must_use]
pub fn can_mount_here() -> bool {
    mount_api::has_mount_api()
}

/// All of it or nothing.
fn place(rootfs: &Rootfs, taken: Vec<Taken>, edits: &Edits) -> Result<Vec<Placed>, Error> {
    let mut placed = Vec::with_capacity(taken.len());
    mounts::place(rootfs, taken, &mut placed)
        .and_then(|()| prepare_rootfs(rootfs, edits))
        .inspect_err(|_| {
            mounts::undo(rootfs, &placed);
            rootfs.take_back();
        })?;
    Ok(placed)
}

/// Gives a `/proc/driver/nvidia/params` that forbids device nodes, where the container
/// has one. For a process that is in the container's mount namespace already.
pub fn forbid_device_nodes(rootfs: &Rootfs) -> Result<(), Error> {
    let Some(mask) = mounts::params_mask()? else {
        return Ok(());
    };
    mounts::place(rootfs, vec![mask], &mut Vec::new())
}

fn allow_devices(process: &Process, mounts: &str, edits: &Edits) -> Result<(), Error> {
    let text = process.read("cgroup")?;
    // The devices controller is in one hierarchy only: v1's where that one is mounted.
    if let Some(dir) = cgroup_v1::directory(&text, mounts) {
        cgroup_v1::allow(&dir, &edits.devices)?;
        return systemd::keep_devices(&dir, &edits.devices);
    }
    match cgroup_v2::directory(&text, mounts) {
        Some(dir) => {
            cgroup_v2::allow(&dir, &edits.devices)?;
            systemd::keep_devices(&dir, &edits.devices)
        }
        None => Err(Error::State(
            format!(
                "{process} has no cgroup of its own that could grant it devices; is /sys/fs/cgroup mounted? \
                 Where something else grants devices, set no-cgroups = true in config.toml"
            )
            .into(),
        )),
    }
}

/// For testenv/fuzz: where the container's cgroup of either kind is.
pub(crate) fn cgroups(cgroup: &str, mountinfo: &str) -> [Option<PathBuf>; 2] {
    [
        cgroup_v1::directory(cgroup, mountinfo),
        cgroup_v2::directory(cgroup, mountinfo),
    ]
}
