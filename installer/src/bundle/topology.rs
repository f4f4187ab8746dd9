//! Finds how GPUs, switches and network cards are connected: PCI and NUMA from sysfs, `NVLink`
//! from NVML.

use std::path::{Component, Path};

use gpu_host::{Inventory, Root};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::setup::driver_answer;

const DEVICES: &str = "/sys/bus/pci/devices";

/// The devices, ordered by their position in the PCI tree, and the links between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// GPUs, `NVSwitch`es and network cards; empty on a host with network cards only.
    pub devices: Vec<PciDevice>,
    /// `NVLink`s.
    pub links: Vec<DeviceLink>,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A GPU.
    Gpu,
    /// An `NVSwitch`.
    Switch,
    /// A network card.
    Network,
}

/// A device on PCI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciDevice {
    /// `0000:3b:00.0`
    pub address: String,
    /// What it is.
    pub kind: DeviceKind,
    /// NVML's index, for a GPU that is bound to the driver.
    pub index: Option<u32>,
    /// Product name, if it is known.
    pub name: Option<String>,
    /// NUMA node; `None` if the host has only one or does not say.
    pub numa: Option<u32>,
    /// The path from the host bridge down to the port above the device: `pci0000:3a`,
    /// `0000:3a:00.0`.
    pub above: Vec<String>,
    /// The kernel driver.
    pub driver: Option<String>,
    /// Speed and width of the PCI link, `32.0 GT/s × 16`, and its maximum if it runs below that.
    pub speed: Option<String>,
}

/// The links between two devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLink {
    /// Address of a GPU.
    pub from: String,
    /// Address of the other end; `None` for a switch that this host cannot see.
    pub to: Option<String>,
    /// The number of links.
    pub count: u32,
}

/// The topology according to sysfs.
pub fn find(root: &Root, inventory: Option<&Inventory>) -> Topology {
    let mut devices: Vec<PciDevice> = root
        .read_dir(DEVICES)
        .unwrap_or_default()
        .iter()
        .filter_map(|name| device(root, name.to_str()?, inventory))
        .collect();
    if devices.iter().all(|d| d.kind == DeviceKind::Network) {
        devices.clear();
    }
    // The tree is drawn in one pass, so devices below the same port must be next to each other.
    devices.sort_by(|a, b| (a.numa, &a.above, &a.address).cmp(&(b.numa, &b.above, &b.address)));
    Topology {
        devices,
        links: Vec::new(),
    }
}

/// The topology according to sysfs, with the links that NVML reports on this running host.
pub fn find_live(host: &Host, inventory: Option<&Inventory>) -> Topology {
    let mut topology = find(host.root(), inventory);
    if let Some(inventory) = inventory {
        let links = driver_answer::links(host, inventory).into_iter();
        topology.links = links
            .map(|l| DeviceLink {
                from: l.gpu.to_string(),
                to: l.to.map(|to| to.to_string()),
                count: l.count,
            })
            .collect();
    }
    topology
}

fn device(root: &Root, address: &str, inventory: Option<&Inventory>) -> Option<PciDevice> {
    let dir = Path::new(DEVICES).join(address);
    let text = |name: &str| {
        let text = root.read_to_string(dir.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let is_nvidia = text("vendor")? == "0x10de";
    let class = text("class")?;
    let gpu = inventory.and_then(|i| i.gpus.iter().find(|g| g.pci.to_string() == address));
    let kind = match class.get(..4)? {
        "0x03" if is_nvidia => DeviceKind::Gpu,
        // PCI class 0x0680: a bridge of no other kind.
        "0x06" if is_nvidia && class.starts_with("0x0680") => DeviceKind::Switch,
        "0x02" => DeviceKind::Network,
        _ => return None,
    };
    let driver = root.read_link(dir.join("driver")).ok();
    let driver = driver.and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
    Some(PciDevice {
        address: address.to_owned(),
        kind,
        index: gpu.map(|g| g.index),
        name: gpu.and_then(|g| g.name.clone()),
        numa: text("numa_node").and_then(|n| n.parse().ok()),
        above: above(root, &dir),
        driver,
        speed: speed(&text),
    })
}

/// The bridges above a device: the components of its real path in sysfs.
fn above(root: &Root, dir: &Path) -> Vec<String> {
    let Ok(real) = root.canonicalize(dir) else {
        return Vec::new();
    };
    let mut parts: Vec<String> = real
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => name.to_str().map(str::to_owned),
            _ => None,
        })
        .skip_while(|name| !name.starts_with("pci"))
        .collect();
    parts.pop();
    parts
}

fn speed(text: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let width = text("current_link_width").filter(|w| w != "0")?;
    let plain = |speed: String| speed.trim_end_matches(" PCIe").to_owned();
    let now = format!("{} × {width}", plain(text("current_link_speed")?));
    let max = text("max_link_speed").zip(text("max_link_width"));
    let max = max.map(|(speed, width)| format!("{} × {width}", plain(speed)));
    Some(match max {
        Some(max) if max != now => format!("{now} of {max}"),
        _ => now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn add(root: &Path, place: &str, files: &[(&str, &str)]) {
        let dir = root.join("sys/devices").join(place);
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), format!("{text}\n")).unwrap();
        }
        let list = root.join("sys/bus/pci/devices");
        fs::create_dir_all(&list).unwrap();
        let name = place.rsplit('/').next().unwrap();
        symlink(format!("../../../devices/{place}"), list.join(name)).unwrap();
    }

    #[test]
    fn bridges_and_speeds_are_read_from_sysfs() {
        let dir = tempfile::tempdir().unwrap();
        let gpu = [
            ("vendor", "0x10de"),
            ("class", "0x030200"),
            ("numa_node", "1"),
        ];
        let slow = [
            ("current_link_speed", "8.0 GT/s PCIe"),
            ("current_link_width", "8"),
            ("max_link_speed", "32.0 GT/s PCIe"),
            ("max_link_width", "16"),
        ];
        let gpu: Vec<_> = gpu.iter().chain(&slow).copied().collect();
        add(dir.path(), "pci0000:80/0000:80:01.0/0000:81:00.0", &gpu);
        add(
            dir.path(),
            "pci0000:00/0000:00:1f.0",
            &[("vendor", "0x8086"), ("class", "0x060100")],
        );
        let network = [
            ("vendor", "0x15b3"),
            ("class", "0x020700"),
            ("numa_node", "-1"),
        ];
        add(dir.path(), "pci0000:00/0000:01:00.0", &network);
        let topology = find(&Root::open(dir.path()).unwrap(), None);
        let kinds: Vec<_> = topology.devices.iter().map(|d| (d.kind, d.numa)).collect();
        assert_eq!(
            kinds,
            [(DeviceKind::Network, None), (DeviceKind::Gpu, Some(1))]
        );
        let gpu = &topology.devices[1];
        assert_eq!(gpu.above, ["pci0000:80", "0000:80:01.0"]);
        assert_eq!(gpu.speed.as_deref(), Some("8.0 GT/s × 8 of 32.0 GT/s × 16"));
    }

    #[test]
    fn a_host_with_only_network_cards_has_no_topology() {
        let dir = tempfile::tempdir().unwrap();
        let network = [("vendor", "0x8086"), ("class", "0x020000")];
        add(dir.path(), "pci0000:00/0000:00:03.0", &network);
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(find(&root, None), Topology::default());
    }
}
