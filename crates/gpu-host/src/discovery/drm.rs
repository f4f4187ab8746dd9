//! The DRM nodes of a GPU, looked up by its PCI address.

use std::path::{Path, PathBuf};

use super::nodes::Dev;
use crate::inventory::{DeviceNode, Link, PciAddress};

/// The `card` and `renderD` nodes of a PCI device, and the `by-path` links to them.
pub(crate) fn of(dev: &Dev<'_>, pci: PciAddress) -> (Vec<DeviceNode>, Vec<Link>) {
    let names = dev
        .root
        .read_dir(format!("/sys/bus/pci/devices/{pci}/drm"))
        .unwrap_or_default();
    let dri = Path::new("/dev/dri");
    let nodes: Vec<DeviceNode> = names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| name.starts_with("card") || name.starts_with("renderD"))
        .filter_map(|name| dev.at(&dri.join(name)))
        .collect();
    // udev's 60-drm.rules: by-path/pci-<address>-card and -render, relative links.
    let links = ["card", "render"]
        .into_iter()
        .filter_map(|kind| {
            let path = PathBuf::from(format!("/dev/dri/by-path/pci-{pci}-{kind}"));
            let target = dev.root.read_link(dev.host_path(&path)).ok()?;
            let file = target.file_name()?;
            nodes.iter().find(|n| n.path.file_name() == Some(file))?;
            Some(Link {
                path,
                target: Path::new("..").join(file),
            })
        })
        .collect();
    (nodes, links)
}
