//! Discovers AMD and Intel GPUs from sysfs.
//!
//! Their user space comes with the image, so a container needs only the nodes and the groups
//! that may open them. Sources: Linux Documentation/gpu/drm-uapi.rst, "Render
//! nodes"; `ROCm` documentation, "Running `ROCm` Docker containers"; Intel, "GPU device plugin".

use std::path::{Path, PathBuf};

use super::drm;
use super::nodes::Dev;
use super::options::Options;
use crate::inventory::{DeviceNode, Link, PciAddress};
use crate::root::Root;

const PCI: &str = "/sys/bus/pci/devices";
/// PCI class of display controllers, and of processing accelerators (PCI Code and ID
/// Assignment, 1.15).
const CLASSES: [&str; 2] = ["0x03", "0x12"];

/// A GPU vendor other than NVIDIA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// PCI vendor 0x1002, driver amdgpu.
    Amd,
    /// PCI vendor 0x8086, drivers i915 and xe.
    Intel,
}

impl Vendor {
    fn pci_id(self) -> &'static str {
        match self {
            Self::Amd => "0x1002",
            Self::Intel => "0x8086",
        }
    }

    fn drivers(self) -> &'static [&'static str] {
        match self {
            Self::Amd => &["amdgpu"],
            Self::Intel => &["i915", "xe"],
        }
    }

    /// Nodes that belong to no single GPU: AMD's compute interface.
    fn shared(self) -> &'static [&'static str] {
        match self {
            Self::Amd => &["/dev/kfd"],
            Self::Intel => &[],
        }
    }
}

/// The GPUs of a vendor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VendorGpus {
    /// Nodes that each container needs.
    pub shared: Vec<DeviceNode>,
    /// In PCI order.
    pub gpus: Vec<OtherGpu>,
}

/// A GPU of another vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherGpu {
    /// Position in PCI order, from 0.
    pub index: u32,
    /// Its PCI address.
    pub pci: PciAddress,
    /// AMD only: `0x` and the up to 16 hex digits of sysfs' `unique_id`, as `ROCm` names the GPU.
    pub unique_id: Option<String>,
    /// `/dev/dri/cardN` and `renderDN`.
    pub nodes: Vec<DeviceNode>,
    /// `/dev/dri/by-path` links to those.
    pub links: Vec<Link>,
}

/// The GPUs that are bound to the vendor's kernel driver. One without a driver, or bound to
/// vfio-pci for a virtual machine, cannot be given to containers.
pub fn find(options: &Options, vendor: Vendor) -> VendorGpus {
    let root = &options.root;
    // The kernel makes these nodes in the host's /dev; a driver container never has its own.
    let dev_root = options.dev_root.clone().unwrap_or_else(|| "/".into());
    let dev = Dev::new(root, &dev_root);
    let names = root.read_dir(PCI).unwrap_or_default();
    let mut addresses: Vec<PciAddress> = names
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .filter(|pci| is_of(root, *pci, vendor))
        .collect();
    addresses.sort_unstable();
    let gpus: Vec<OtherGpu> = addresses
        .into_iter()
        .map(|pci| (pci, drm::of(&dev, pci)))
        .filter(|(_, (nodes, _))| !nodes.is_empty())
        .zip(0..)
        .map(|((pci, (nodes, links)), index)| OtherGpu {
            index,
            pci,
            unique_id: unique_id(root, pci),
            nodes,
            links,
        })
        .collect();
    let shared = vendor.shared().iter();
    VendorGpus {
        shared: shared
            .filter(|_| !gpus.is_empty())
            .filter_map(|path| dev.at(Path::new(path)))
            .collect(),
        gpus,
    }
}

fn device(pci: PciAddress) -> PathBuf {
    Path::new(PCI).join(pci.to_string())
}

fn is_of(root: &Root, pci: PciAddress, vendor: Vendor) -> bool {
    let dir = device(pci);
    let text = |name: &str| root.read_to_string(dir.join(name)).unwrap_or_default();
    if text("vendor").trim() != vendor.pci_id() {
        return false;
    }
    let class = text("class");
    let driver = root.read_link(dir.join("driver")).unwrap_or_default();
    CLASSES.iter().any(|c| class.starts_with(c))
        && vendor
            .drivers()
            .iter()
            .any(|d| driver.file_name().is_some_and(|name| name == *d))
}

fn unique_id(root: &Root, pci: PciAddress) -> Option<String> {
    let text = root.read_to_string(device(pci).join("unique_id")).ok()?;
    let id = text.trim().trim_start_matches("0x");
    let is_id = !id.is_empty() && id.len() <= 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    // An APU has the id 0, which identifies nothing.
    (is_id && id.bytes().any(|b| b != b'0')).then(|| format!("0x{}", id.to_ascii_lowercase()))
}
