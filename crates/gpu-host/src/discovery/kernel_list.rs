//! Reads GPUs from the driver's procfs tree, which needs no library.

use std::io;
use std::path::Path;

use super::mig::{self, Caps};
use super::nodes::Dev;
use crate::inventory::{Gpu, PciAddress};
use crate::root::Root;

/// The directory with one directory for each GPU, named by its PCI address.
pub const GPUS: &str = "/proc/driver/nvidia/gpus";

/// A GPU in the driver's list, whatever the list says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGpu {
    /// Its PCI address.
    pub pci: PciAddress,
    /// Unknown while the driver attaches it.
    pub minor: Option<u32>,
    /// `None` for "GPU-????????-…", which the driver says until it has used the GPU (open-gpu-kernel-modules,
    /// `nv-procfs.c`).
    pub uuid: Option<String>,
    /// Product name.
    pub model: Option<String>,
    /// `NVreg_ExcludedGpus`: no process can use it, and NVML does not count it.
    pub is_excluded: bool,
}

/// The driver's list in PCI order, which is NVML's index order.
pub fn listed(root: &Root) -> io::Result<Vec<ListedGpu>> {
    let names = match root.read_dir(GPUS) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut gpus = Vec::new();
    for name in names {
        let Some(pci) = name.to_str().and_then(|n| n.parse::<PciAddress>().ok()) else {
            continue;
        };
        let text = root.read_to_string(Path::new(GPUS).join(&name).join("information"))?;
        let information = Information(text);
        gpus.push(ListedGpu {
            pci,
            minor: information.get("Device Minor").and_then(|m| m.parse().ok()),
            uuid: information
                .get("GPU UUID")
                .filter(|u| !u.contains('?'))
                .map(str::to_owned),
            model: information.get("Model").map(str::to_owned),
            is_excluded: information.get("GPU Excluded") == Some("Yes"),
        });
    }
    gpus.sort_by_key(|gpu| gpu.pci);
    Ok(gpus)
}

/// The GPUs in that list that processes can use, with an index each. One without a minor has an index, too: NVML counts
/// it as soon as it has one.
pub fn usable(listed: &[ListedGpu]) -> impl Iterator<Item = (u32, &ListedGpu)> {
    (0..).zip(listed.iter().filter(|gpu| !gpu.is_excluded))
}

impl ListedGpu {
    /// The GPU as it is in the inventory, as far as /proc knows it.
    pub(super) fn described(&self, dev: &Dev<'_>, index: u32, minor: u32) -> Gpu {
        let caps = Caps::new(dev);
        let slices = mig::instances(dev.root, minor);
        Gpu {
            index,
            minor,
            uuid: self.uuid.clone(),
            name: self.model.clone(),
            brand: None,
            compute_capability: None,
            pci: self.pci,
            node: dev.gpu(minor),
            drm: Vec::new(),
            drm_links: Vec::new(),
            mig_enabled: !slices.is_empty(),
            mig: slices
                .into_iter()
                .zip(0..)
                .map(|(ids, n)| caps.device(minor, n, ids))
                .collect(),
        }
    }
}

/// `Key: <tab> value` lines.
struct Information(String);

impl Information {
    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(k, _)| k.trim() == key)
            .map(|(_, value)| value.trim())
    }
}
