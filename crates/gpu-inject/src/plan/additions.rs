//! What a file, a node or a device adds to a container's edits.

use std::collections::HashSet;

use gpu_host::{Capabilities, Capability, DeviceNode, DriverFile, FileKind};

use super::selected_device::SelectedDevice;
use crate::edits::{Edits, Library, Mount, MountKind};

pub(super) fn add_file(edits: &mut Edits, file: &DriverFile) {
    edits.mounts.push(Mount {
        kind: match file.kind {
            FileKind::Socket => MountKind::Socket,
            FileKind::Config => MountKind::Config,
            _ => MountKind::File,
        },
        host_path: file.host_path.clone(),
        path: file.path.clone(),
        need: file.need,
    });
    edits.links.extend(file.links.iter().cloned());
    if matches!(file.kind, FileKind::Library | FileKind::Library32) {
        let name = || {
            file.path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
        };
        if let Some(soname) = file.soname.clone().or_else(name) {
            edits.libraries.push(Library {
                path: file.path.clone(),
                soname,
                compat32: file.kind == FileKind::Library32,
            });
        }
    }
}

pub(super) fn add_node(edits: &mut Edits, node: &DeviceNode) {
    if !has_node(edits, node) {
        edits.devices.push(node.clone());
    }
}

/// By number first: paths take long to compare, and a host can have a thousand nodes. From the
/// end, where those of the same GPU are.
fn has_node(edits: &Edits, node: &DeviceNode) -> bool {
    let is_it = |d: &DeviceNode| (d.minor, d.major) == (node.minor, node.major) && d == node;
    edits.devices.iter().rev().any(is_it)
}

/// The same for many: a number that no node has had is enough to tell a new one.
pub(crate) struct Nodes<'e> {
    edits: &'e mut Edits,
    numbers: HashSet<(u32, u32)>,
}

impl<'e> Nodes<'e> {
    pub(crate) fn of(edits: &'e mut Edits) -> Self {
        let numbers = edits.devices.iter().map(|d| (d.major, d.minor)).collect();
        Self { edits, numbers }
    }

    /// False where it was there already.
    fn add(&mut self, node: &DeviceNode) -> bool {
        let is_new = self.numbers.insert((node.major, node.minor)) || !has_node(self.edits, node);
        if is_new {
            self.edits.devices.push(node.clone());
        }
        is_new
    }
}

/// What this device adds.
pub(crate) fn device(
    nodes: &mut Nodes<'_>,
    selected: SelectedDevice<'_>,
    capabilities: Capabilities,
) {
    let gpu = selected.gpu();
    let is_new = nodes.add(&gpu.node);
    if let SelectedDevice::Slice(_, slice) = selected {
        for node in &slice.nodes {
            nodes.add(node);
        }
    }
    // Another slice of the same GPU has brought them along.
    if is_new && draws(capabilities) {
        for node in &gpu.drm {
            nodes.add(node);
        }
        nodes.edits.links.extend(gpu.drm_links.iter().cloned());
    }
}

/// Whether they need more than the GPU's own node.
pub(super) fn draws(capabilities: Capabilities) -> bool {
    capabilities.intersects(Capabilities::of(&[
        Capability::Graphics,
        Capability::Display,
    ]))
}
