//! `NVLink` topology, read from NVML: which GPUs are linked to which, and by how many links.
//!
//! It is not part of the inventory because no container start needs it.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::nvml::library;
use crate::inventory::{Inventory, PciAddress};

/// `NVML_NVLINK_MAX_LINKS` of nvml.h.
const MAX_LINKS: u32 = 18;

/// The links between one GPU and one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// The GPU.
    pub gpu: PciAddress,
    /// The peer; `None` where NVML names no device, as for an `NVSwitch` outside this host.
    pub to: Option<PciAddress>,
    /// Number of links that are up.
    pub count: u32,
}

/// All links that are up. Empty where NVML does not answer or knows of none.
pub fn links(inventory: &Inventory) -> Vec<Links> {
    query(inventory).unwrap_or_default()
}

fn query(inventory: &Inventory) -> Result<Vec<Links>, NvmlError> {
    let driver = inventory.driver.as_ref().ok_or(NvmlError::NotFound)?;
    let library = library(driver).ok_or(NvmlError::NotFound)?;
    let nvml = Nvml::builder().lib_path(library).init()?;
    let mut links: Vec<Links> = Vec::new();
    for gpu in &inventory.gpus {
        // NVML's index may be another GPU's by now.
        let Ok(device) = nvml.device_by_pci_bus_id(gpu.pci.to_string()) else {
            continue;
        };
        for n in 0..MAX_LINKS {
            let link = device.link_wrapper_for(n);
            // Also the case for a GPU without NVLink, where the call fails.
            if !link.is_active().unwrap_or(false) {
                continue;
            }
            let to = link
                .remote_pci_info()
                .ok()
                .and_then(|p| p.bus_id.parse().ok());
            let to = to.filter(|to| *to != PciAddress::default());
            match links.iter_mut().find(|l| l.gpu == gpu.pci && l.to == to) {
                Some(known) => known.count += 1,
                None => links.push(Links {
                    gpu: gpu.pci,
                    to,
                    count: 1,
                }),
            }
        }
    }
    Ok(links)
}
