//! `/dev/char/MAJOR:MINOR`, by which runc names a container's devices to systemd.
//!
//! udev makes these links for devices that it knows; NVIDIA's it does not. Where one is missing,
//! runc up to 1.1 leaves the device out of the scope's `DeviceAllow`, and the next `systemctl
//! daemon-reload` takes the GPU away from the running container (nvidia-docker #1730, toolkit #48,
//! runc libcontainer/cgroups/devices/systemd.go).

use std::path::Path;

use gpu_host::{DeviceNode, Inventory};

use crate::change::{Change, FileKind};
use crate::error::Error;
use crate::host::Host;
use crate::write;

/// A link for each device node that containers get.
pub fn links(host: &Host, inventory: &Inventory) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for node in nodes(inventory) {
        let path = Path::new("/dev/char").join(format!("{}:{}", node.major, node.minor));
        if !host.root().exists(&node.host_path) {
            continue;
        }
        let mut change = Change {
            path,
            before: None,
            after: Some(target(node)),
            mode: 0o777,
            why: "so that a systemctl daemon-reload takes no GPU from a container".into(),
            kind: FileKind::Link,
        };
        // Another tool's link to the same device is as good.
        if host.root().exists(&change.path) {
            continue;
        }
        change.before = write::current(host, &change)?;
        changes.push(change);
    }
    Ok(changes)
}

/// Each node once.
pub fn nodes(inventory: &Inventory) -> impl Iterator<Item = &DeviceNode> {
    let mig = &inventory.mig_control;
    let control = inventory
        .control_nodes
        .iter()
        .map(|c| &c.node)
        .chain(mig.config.iter().chain(&mig.monitor))
        .chain(inventory.features.iter().flat_map(|f| &f.nodes))
        .chain(inventory.imex_channels.iter().map(|c| &c.node));
    let gpus = inventory.gpus.iter().flat_map(|gpu| {
        let slices = gpu.mig.iter().flat_map(|m| &m.nodes);
        std::iter::once(&gpu.node).chain(slices)
    });
    let mut seen = std::collections::HashSet::new();
    control
        .chain(gpus)
        .filter(move |n| seen.insert((n.major, n.minor)))
}

/// Relative to `/dev/char`, as udev's own are.
fn target(node: &DeviceNode) -> String {
    match node.host_path.strip_prefix("/dev") {
        Ok(rest) => format!("../{}", rest.display()),
        // A driver root of its own: the node is not below /dev.
        Err(_) => node.host_path.display().to_string(),
    }
}
