//! `NVLink`, as NVML tells it: which GPUs have links to which others, and how many.
//!
//! Of no use for a container's start, so no part of the inventory.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::nvml::library;
use crate::inventory::{Inventory, PciAddress};

/// `NVML_NVLINK_MAX_LINKS` of nvml.h.
const MAX_LINKS: u32 = 18;

/// Links of one GPU to one other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// The GPU.
    pub gpu: PciAddress,
    /// The other end; `None` where NVML does not name a device: an `NVSwitch` that is not this
    /// host's own.
    pub to: Option<PciAddress>,
    /// How many of them are up.
    pub count: u32,
}

/// All links that are up. None where NVML cannot be asked, or knows of none.
pub fn links(inventory: &Inventory) -> Vec<Links> {
    asked(inventory).unwrap_or_default()
}

fn asked(inventory: &Inventory) -> Result<Vec<Links>, NvmlError> {
    let driver = inventory.driver.as_ref().ok_or(NvmlError::NotFound)?;
    let nvml = Nvml::builder().lib_path(library(driver)?).init()?;
    let mut found: Vec<Links> = Vec::new();
    for gpu in &inventory.gpus {
        let Ok(device) = nvml.device_by_index(gpu.index) else {
            continue;
        };
        for n in 0..MAX_LINKS {
            let link = device.link_wrapper_for(n);
            // A GPU without links says so to the first question.
            if !link.is_active().unwrap_or(false) {
                continue;
            }
            let to = link
                .remote_pci_info()
                .ok()
                .and_then(|p| p.bus_id.parse().ok());
            let to = to.filter(|to| *to != PciAddress::default());
            match found.iter_mut().find(|l| l.gpu == gpu.pci && l.to == to) {
                Some(links) => links.count += 1,
                None => found.push(Links {
                    gpu: gpu.pci,
                    to,
                    count: 1,
                }),
            }
        }
    }
    Ok(found)
}
