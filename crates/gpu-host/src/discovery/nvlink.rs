//! `NVLink` topology, read from NVML: which GPUs are linked to which, and by how many links.
//!
//! It is not part of the inventory because no container start needs it.

use std::ffi::OsStr;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

use crate::inventory::PciAddress;

/// `NVML_NVLINK_MAX_LINKS` of nvml.h.
const MAX_LINKS: u32 = 18;

/// The links between one GPU and one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The GPU.
    pub gpu: PciAddress,
    /// The peer; `None` where NVML names no device, as for an `NVSwitch` outside this host.
    pub to: Option<PciAddress>,
    /// Number of links that are up.
    pub count: u32,
}

/// All links that are up, as the NVML library at this path says.
pub fn links(library: &OsStr) -> Result<Vec<Links>, NvmlError> {
    let nvml = Nvml::builder().lib_path(library).init()?;
    let mut links: Vec<Links> = Vec::new();
    for index in 0..nvml.device_count()? {
        let Ok(device) = nvml.device_by_index(index) else {
            continue;
        };
        let Ok(pci) = device.pci_info()?.bus_id.parse::<PciAddress>() else {
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
            match links.iter_mut().find(|l| l.gpu == pci && l.to == to) {
                Some(known) => known.count += 1,
                None => links.push(Links {
                    gpu: pci,
                    to,
                    count: 1,
                }),
            }
        }
    }
    Ok(links)
}
