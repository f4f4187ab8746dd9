//! Device nodes as the host has them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};

use crate::inventory::{Capabilities, Capability, ControlNode, DeviceNode};
use crate::root::Root;

/// Major of `/dev/nvidia*` (Linux Documentation/admin-guide/devices.txt).
const NVIDIA_MAJOR: u32 = 195;

/// The node at `path` (as a container sees it), if the host has one.
pub(crate) fn at(root: &Root, dev_root: &Path, path: &Path) -> Option<DeviceNode> {
    let host_path = dev_root.join(path.strip_prefix("/").unwrap_or(path));
    let found = root.metadata(&host_path).ok()?;
    if !found.file_type().is_char_device() {
        return None;
    }
    Some(DeviceNode {
        path: path.to_owned(),
        host_path,
        major: number(major(found.rdev())),
        minor: number(minor(found.rdev())),
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
    })
}

fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// `/dev/nvidiaN`; as the driver would make it where the host has none yet.
pub(crate) fn gpu(root: &Root, dev_root: &Path, minor: u32) -> DeviceNode {
    let path = Path::new("/dev").join(format!("nvidia{minor}"));
    at(root, dev_root, &path).unwrap_or_else(|| DeviceNode {
        host_path: dev_root.join(format!("dev/nvidia{minor}")),
        path,
        major: NVIDIA_MAJOR,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

/// Nodes that belong to no single GPU, those the host has.
///
/// Which capability needs which: libnvidia-container `nvc_info.c` and
/// nvidia-container-toolkit `pkg/nvcdi` (both 1.17): modeset for graphics and
/// display, uvm for compute, nvidiactl for all.
pub(crate) fn control(root: &Root, dev_root: &Path) -> Vec<ControlNode> {
    use Capability::{Compute, Display, Graphics, Video};
    let table = [
        ("/dev/nvidiactl", Capabilities::ALL),
        (
            "/dev/nvidia-modeset",
            Capabilities::of(&[Graphics, Display]),
        ),
        (
            "/dev/nvidia-uvm",
            Capabilities::of(&[Compute, Graphics, Video]),
        ),
        ("/dev/nvidia-uvm-tools", Capabilities::of(&[Compute])),
    ];
    table
        .into_iter()
        .filter_map(|(path, capabilities)| {
            let node = at(root, dev_root, Path::new(path))?;
            Some(ControlNode { node, capabilities })
        })
        .collect()
}
