//! MIG instances and the capability nodes that open them.

use std::path::{Path, PathBuf};

use crate::inventory::{DeviceNode, MigDevice};
use crate::nodes;
use crate::root::Root;

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";

/// (GPU instance, compute instance) pairs of the GPU with that minor, in order.
/// The tree is documented in NVIDIA's MIG User Guide, "Device Nodes and Capabilities".
pub(crate) fn instances(root: &Root, gpu_minor: u32) -> Vec<(u32, u32)> {
    let mig = PathBuf::from(format!("{CAPABILITIES}/gpu{gpu_minor}/mig"));
    let mut found = Vec::new();
    for gi in numbered(root, &mig, "gi") {
        for ci in numbered(root, &mig.join(format!("gi{gi}")), "ci") {
            found.push((gi, ci));
        }
    }
    found
}

fn numbered(root: &Root, dir: &Path, prefix: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = root
        .read_dir(dir)
        .unwrap_or_default()
        .iter()
        .filter_map(|n| n.to_str()?.strip_prefix(prefix)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The slice with its two access files and their nodes; UUID and profile are NVML's to tell.
pub(crate) fn device(
    root: &Root,
    dev_root: &Path,
    gpu_minor: u32,
    index: u32,
    (gi, ci): (u32, u32),
) -> MigDevice {
    let gpu_instance = format!("{CAPABILITIES}/gpu{gpu_minor}/mig/gi{gi}");
    let access_files = vec![
        PathBuf::from(format!("{gpu_instance}/access")),
        PathBuf::from(format!("{gpu_instance}/ci{ci}/access")),
    ];
    let nodes = access_files
        .iter()
        .filter_map(|file| node(root, dev_root, file))
        .collect();
    MigDevice {
        index,
        uuid: None,
        gpu_instance: gi,
        compute_instance: ci,
        profile: None,
        nodes,
        access_files,
    }
}

/// The node an access file stands for: its line `DeviceFileMinor: N`.
fn node(root: &Root, dev_root: &Path, access: &Path) -> Option<DeviceNode> {
    let text = root.read_to_string(access).ok()?;
    let minor: u32 = text
        .lines()
        .find_map(|l| l.strip_prefix("DeviceFileMinor:"))?
        .trim()
        .parse()
        .ok()?;
    nodes::at(
        root,
        dev_root,
        Path::new(&format!("/dev/nvidia-caps/nvidia-cap{minor}")),
    )
}
