//! Edits carried out in a container whose namespaces exist and whose process has not
//! started: `docker run --gpus`, `nvidia-container-cli configure`.

mod cgroup_v1;
mod cgroup_v2;
mod mounts;
mod sys;

use std::fs;
use std::path::{Path, PathBuf};

use crate::edits::Edits;
use crate::error::Error;
use crate::prepare::prepare_rootfs;
use crate::rootfs::Rootfs;

/// The container.
#[derive(Clone, Debug)]
pub struct Target {
    /// A process in its namespaces, as seen from ours.
    pub pid: i32,
    /// Its root file system, as its mount namespace names it before `pivot_root`.
    pub rootfs: PathBuf,
    /// Leave the device cgroup alone (`no-cgroups`).
    pub no_cgroups: bool,
}

/// Gives the container its devices and files. Enters the container's mount namespace
/// and stays there: for a process of one thread that has nothing else to do.
pub fn inject(target: &Target, edits: &Edits) -> Result<(), Error> {
    if !target.no_cgroups {
        allow_devices(target.pid, edits)?;
    }
    // Taken while we still see the host: the container's view could name other files.
    let taken = mounts::take(edits)?;
    mounts::enter(target.pid)?;
    let rootfs = Rootfs::open(&target.rootfs)?;
    mounts::place(&rootfs, taken)?;
    prepare_rootfs(&rootfs, &edits.libraries, &edits.links)
}

/// Gives a `/proc/driver/nvidia/params` that forbids device nodes, where the container
/// has one. For a process that is in the container's mount namespace already.
pub fn forbid_device_nodes(rootfs: &Rootfs) -> Result<(), Error> {
    let Some(mask) = mounts::params_mask()? else {
        return Ok(());
    };
    mounts::place(rootfs, vec![mask])
}

fn allow_devices(pid: i32, edits: &Edits) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(Error::host(&path))?;
    let mountinfo = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(mountinfo).map_err(Error::host(mountinfo))?;
    // The devices controller is in one hierarchy only: v1's where that one is mounted.
    if let Some(dir) = cgroup_v1::directory(&text, &mounts) {
        return cgroup_v1::allow(&dir, &edits.devices);
    }
    match cgroup_v2::directory(&text, &mounts) {
        Some(dir) => cgroup_v2::allow(&dir, &edits.devices),
        None => Err(Error::State(format!(
            "process {pid} is in no cgroup that grants devices; is /sys/fs/cgroup mounted?"
        ))),
    }
}

/// Mount points of a mountinfo(5) text: (root within the file system, mount point, type, options).
fn cgroup_mounts(mountinfo: &str) -> impl Iterator<Item = (&str, &str, &str, &str)> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
        Some((root, point, kind, options))
    })
}

/// Where below a cgroup mount the cgroup of that path is.
fn below(root: &str, point: &str, cgroup: &str) -> Option<PathBuf> {
    let inner = if root == "/" {
        cgroup
    } else {
        cgroup.strip_prefix(root)?
    };
    Some(Path::new(point).join(inner.trim_start_matches('/')))
}
