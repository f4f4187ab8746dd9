//! Plans the links `/dev/char/MAJOR:MINOR`, by which runc names a container's devices to systemd.
//!
//! udev makes these links for the devices that it knows, which NVIDIA's are not. If a link is
//! missing, runc up to 1.1 leaves the device out of the scope's `DeviceAllow`, and the next
//! `systemctl daemon-reload` takes the GPU away from the running container (nvidia-docker #1730,
//! toolkit #48, runc libcontainer/cgroups/devices/systemd.go).

use gpu_host::Inventory;
use gpu_inject::generate::host_files::{char_link, nodes};

use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::transaction::change_io;

/// A link for each device node that containers get.
pub fn links(host: &Host, inventory: &Inventory) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for node in nodes(inventory) {
        let (path, target) = char_link(node);
        if !host.root().exists(&node.host_path) {
            continue;
        }
        let mut change = Change {
            path,
            before: None,
            after: Some(target),
            mode: 0o777,
            why: "so that a systemctl daemon-reload takes no GPU from a container".into(),
            kind: MergeKind::Link,
        };
        // Another tool's link to the same device is just as good.
        if host.root().exists(&change.path) {
            continue;
        }
        change.before = change_io::current(host, &change)?;
        changes.push(change);
    }
    Ok(changes)
}
