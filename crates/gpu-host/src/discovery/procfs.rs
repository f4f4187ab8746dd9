//! Reads GPUs from the driver's procfs tree, which needs no library.

use std::io;
use std::path::Path;

use super::mig::{self, Caps};
use super::nodes::Dev;
use crate::inventory::{Gpu, PciAddress};

const GPUS: &str = "/proc/driver/nvidia/gpus";

/// GPUs, and the highest CUDA version (major, minor) where the source knows it.
pub(crate) type Gpus = (Vec<Gpu>, Option<(u32, u32)>);

/// GPUs in PCI order, which is NVML's index order.
pub(crate) fn gpus(dev: &Dev<'_>) -> io::Result<Vec<Gpu>> {
    let root = dev.root;
    let caps = Caps::new(dev);
    let names = match root.read_dir(GPUS) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut entries = Vec::new();
    for name in names {
        let Some(pci) = name.to_str().and_then(|n| n.parse::<PciAddress>().ok()) else {
            continue;
        };
        let text = root.read_to_string(Path::new(GPUS).join(&name).join("information"))?;
        let information = Information(text);
        // An excluded GPU (NVreg_ExcludedGpus) is listed, but no process can use it.
        if information.get("GPU Excluded") == Some("Yes") {
            continue;
        }
        let Some(minor) = information.get("Device Minor").and_then(|m| m.parse().ok()) else {
            continue;
        };
        entries.push((pci, minor, information));
    }
    entries.sort_by_key(|(pci, ..)| *pci);
    let indexed = entries.into_iter().zip(0..);
    Ok(indexed
        .map(|((pci, minor, information), index)| {
            let slices = mig::instances(root, minor);
            Gpu {
                index,
                minor,
                // "GPU-????????-…" for a reader without privileges, or while the driver starts.
                uuid: information
                    .get("GPU UUID")
                    .filter(|u| !u.contains('?'))
                    .map(str::to_owned),
                name: information.get("Model").map(str::to_owned),
                brand: None,
                compute_capability: None,
                pci,
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
        })
        .collect())
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
