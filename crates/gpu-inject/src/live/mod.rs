//! Applies edits to a container whose namespaces exist and whose process has not started yet, as
//! for `docker run --gpus` and `nvidia-container-cli configure`.

mod by_runtime;
mod cgroup_paths;
mod cgroup_v1;
mod cgroup_v2;
mod confinement;
mod dbus;
mod device_program;
mod device_rules;
mod devices;
mod mounts;
mod open_check;
mod own_cgroups;
mod same_gpus;
mod start;
mod systemd;
mod systemd_manager;
mod target;

use std::fs;
use std::path::{Path, PathBuf};

use gpu_host::Need;

use crate::edits::Edits;
use crate::error::{Error, Message};
use crate::linux::kernel_text::kernel_text;
use crate::linux::mount_api;
use crate::rootfs::{Rootfs, own_descriptors};
use crate::rootfs_edits::prepare_rootfs;

pub use crate::linux::namespace::OwnMounts;
pub use confinement::{Capability, confine};
use devices::ContainerRules;
pub use devices::{RunningContainer, lost_devices, restore_devices};
use mounts::DetachedMount;
pub use mounts::Placed;
pub use start::start;
pub use systemd_manager::SystemdManager;
pub use target::{Pidfd, Target};

/// Gives the container its devices and files.
///
/// The calling process must have one thread. It enters the container's mount and user namespaces and stays there.
/// After an error all our mounts and mount points are removed, but a device that was allowed in the cgroup stays
/// allowed.
pub fn inject(target: &Target, edits: &Edits) -> Result<Notes, Error> {
    let descriptors = own_descriptors();
    let path = Path::new("/proc/self/mountinfo");
    // A user who may mount FUSE file systems can choose a mount point whose name is not UTF-8.
    let mounts = kernel_text(fs::read(path).map_err(Error::host(path))?);
    let mut warnings = Vec::new();
    if !target.no_cgroups {
        let rules = ContainerRules {
            process: target.process(),
            mounts: &mounts,
            config: target.config.as_deref(),
            manager: target.systemd.as_ref(),
            unit: None,
        };
        warnings = rules.allow(&edits.devices)?;
    }
    // The host's files are opened before we enter the container's mount namespace, where the same
    // paths could lead to other files.
    let (mut detached, left_out) = mounts::detach_from_host(edits, !target.no_devbind)?;
    let apart = target.enter_mount_namespace()?;
    if target.has_other_mounts() {
        mounts::find_again(&mut detached)?;
    }
    let rootfs = Rootfs::open_with(&target.rootfs, descriptors)?
        .in_namespace(OwnMounts::entered(apart))
        .arranged(target.arrangement)
        .with_callers_rights(target.has_callers_rights());
    // If we were started in the container's namespace, the table also has the container's own mounts, which must not
    // be taken for the host's.
    if target.has_other_mounts() {
        rootfs.know_outside(mounts);
    }
    // From here on we act as the container's root: files that we make belong to it, and we have no more privileges
    // than it has. Its file systems may be unable to store the host's root as an owner.
    target.enter_user_namespace()?;
    place_all(&rootfs, detached, edits)?;
    warnings.extend(rootfs.notes());
    Ok(Notes { warnings, left_out })
}

/// What was left out while the container still starts, one line for each item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Warnings about things that a program in the container may miss.
    pub warnings: Vec<Message>,
    /// Optional files that cannot be reached, for the debug log.
    pub left_out: Vec<String>,
}

/// Gives the container its files, but no device nodes and no device rules. For a createContainer hook, which runs in
/// the container's mount namespace and still sees the host's files (OCI runtime specification, "POSIX-platform
/// Hooks").
///
/// Returns the mounts and the optional files that were left out. The mounts are returned so that a process about to
/// end need not spend time closing their descriptors.
pub fn mount_here(rootfs: &Rootfs, edits: &Edits) -> Result<(Vec<Placed>, Vec<String>), Error> {
    same_gpus::ensure(rootfs, edits)?;
    by_runtime::ensure_private(rootfs, edits)?;
    let (detached, left_out) = mounts::detach_from_host(edits, false)?;
    Ok((place_all(rootfs, detached, edits)?, left_out))
}

/// Removes optional files that cannot be reached from edits that the runtime will mount. Returns a line with the
/// reason for each file.
pub fn leave_out_unreachable(edits: &mut Edits) -> Vec<String> {
    let mut left_out = Vec::new();
    edits.mounts.retain(|mount| {
        // Our hook mounts the other optional files and checks them itself.
        if mount.need != Need::Optional {
            return true;
        }
        let metadata = fs::metadata(&mount.host_path).map_err(Error::host(&mount.host_path));
        left_out.extend(metadata.as_ref().err().map(mounts::left_out));
        metadata.is_ok()
    });
    left_out
}

/// Whether the kernel has what [`mount_here`] needs (Linux 5.12).
#[must_use]
pub fn can_mount_here() -> bool {
    mount_api::has_mount_api()
}

/// Attaches the mounts and edits the root file system. After an error both are rolled back.
fn place_all(
    rootfs: &Rootfs,
    detached: Vec<DetachedMount>,
    edits: &Edits,
) -> Result<Vec<Placed>, Error> {
    let mut placed = Vec::with_capacity(detached.len());
    mounts::place(rootfs, detached, &mut placed)
        .and_then(|()| prepare_rootfs(rootfs, edits))
        .inspect_err(|_| {
            mounts::undo(rootfs, &placed);
            rootfs.roll_back();
        })?;
    Ok(placed)
}

/// Masks `/proc/driver/nvidia/params`, if the container has it, so that the driver's user space
/// makes no device nodes. The process must be in the container's mount namespace already.
pub fn forbid_device_nodes(rootfs: &Rootfs) -> Result<(), Error> {
    let Some(mask) = mounts::params_mask()? else {
        return Ok(());
    };
    mounts::place(rootfs, vec![mask], &mut Vec::new())
}

/// For testenv/fuzz: the directories of the container's cgroup in v1 and in v2.
pub(crate) fn cgroups(cgroup: &str, mountinfo: &str) -> [Option<PathBuf>; 2] {
    [
        cgroup_v1::directory(cgroup, mountinfo),
        cgroup_v2::directory(cgroup, mountinfo),
    ]
}
