//! MIG instances and the capability nodes that give access to them.
//!
//! Layout of the tree and of the nodes: NVIDIA's MIG User Guide, "Device Nodes and
//! Capabilities".

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::nodes::Dev;
use crate::inventory::{DeviceNode, MigControl, MigDevice};
use crate::root::Root;

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
const MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";

/// The (GPU instance, compute instance) pairs of the GPU with this minor, in ascending order.
pub(crate) fn instances(root: &Root, gpu_minor: u32) -> Vec<(u32, u32)> {
    let mig = PathBuf::from(format!("{CAPABILITIES}/gpu{gpu_minor}/mig"));
    let mut pairs = Vec::new();
    for gi in numbered(root, &mig, "gi") {
        for ci in numbered(root, &mig.join(format!("gi{gi}")), "ci") {
            pairs.push((gi, ci));
        }
    }
    pairs
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

/// Maps the driver's capability files to the device nodes that they stand for.
pub(crate) struct Caps<'a> {
    dev: &'a Dev<'a>,
    /// `gpu0/gi1/access` → minor, for capability files that do not contain their minor. Read on
    /// first use: the list is 109 kB long, and driver 580 has the minor in each capability file.
    minors: OnceCell<HashMap<String, u32>>,
}

impl<'a> Caps<'a> {
    pub(crate) fn new(dev: &'a Dev<'a>) -> Self {
        Self {
            dev,
            minors: OnceCell::new(),
        }
    }

    fn minors(&self) -> &HashMap<String, u32> {
        self.minors.get_or_init(|| {
            let text = self.dev.root.read_to_string(MINORS).unwrap_or_default();
            text.lines()
                .filter_map(|l| l.trim().rsplit_once(' '))
                .filter_map(|(name, minor)| Some((name.trim().to_owned(), minor.parse().ok()?)))
                .collect()
        })
    }

    /// The nodes for partitioning GPUs and for monitoring all slices.
    pub(crate) fn control(&self) -> MigControl {
        let node = |name: &str| self.node(&format!("{CAPABILITIES}/mig/{name}"), name);
        MigControl {
            config: node("config"),
            monitor: node("monitor"),
        }
    }

    /// A slice with its two access files and their nodes. UUID and profile stay empty because
    /// only NVML knows them.
    pub(crate) fn device(&self, gpu_minor: u32, index: u32, (gi, ci): (u32, u32)) -> MigDevice {
        let dir = format!("{CAPABILITIES}/gpu{gpu_minor}/mig/gi{gi}");
        let name = format!("gpu{gpu_minor}/gi{gi}");
        let files = [
            (format!("{dir}/access"), format!("{name}/access")),
            (
                format!("{dir}/ci{ci}/access"),
                format!("{name}/ci{ci}/access"),
            ),
        ];
        MigDevice {
            index,
            uuid: None,
            gpu_instance: gi,
            compute_instance: ci,
            profile: None,
            nodes: files
                .iter()
                .filter_map(|(file, name)| self.node(file, name))
                .collect(),
            access_files: files.into_iter().map(|(file, _)| file.into()).collect(),
        }
    }

    /// The node of a capability file. Its minor is in the file's line `DeviceFileMinor: N`, else
    /// in the driver's list of all minors.
    fn node(&self, file: &str, name: &str) -> Option<DeviceNode> {
        let text = self.dev.root.read_to_string(file).unwrap_or_default();
        let value = |key: &str| -> Option<u32> {
            text.lines()
                .filter_map(|l| l.split_once(':'))
                .find(|(k, _)| k.trim() == key)?
                .1
                .trim()
                .parse()
                .ok()
        };
        let minor = value("DeviceFileMinor").or_else(|| self.minors().get(name).copied())?;
        let mode = value("DeviceFileMode").map(|m| m & 0o777);
        self.dev.capability(minor, mode)
    }
}
