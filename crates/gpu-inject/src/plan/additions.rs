//! Adds files, nodes and devices to a container's edits.

use std::collections::HashSet;

use gpu_host::{Capabilities, Capability, DeviceNode, DriverFile, FileKind};

use super::selected_device::SelectedDevice;
use crate::edits::{BindMount, Edits, Library, MountKind};

pub(super) fn add_file(edits: &mut Edits, file: &DriverFile) {
    edits.mounts.push(BindMount {
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

/// Whether the edits have the node. Numbers are compared first, because comparing paths is slow
/// and a host can have a thousand nodes. The search starts at the end, where the nodes of the same
/// GPU are.
fn has_node(edits: &Edits, node: &DeviceNode) -> bool {
    let is_same = |d: &DeviceNode| (d.minor, d.major) == (node.minor, node.major) && d == node;
    edits.devices.iter().rev().any(is_same)
}

/// Adds many nodes without duplicates. A device number that no node had before shows without a search that a node is new.
pub(crate) struct NodeSet<'e> {
    edits: &'e mut Edits,
    numbers: HashSet<(u32, u32)>,
}

impl<'e> NodeSet<'e> {
    pub(crate) fn of(edits: &'e mut Edits) -> Self {
        let numbers = edits.devices.iter().map(|d| (d.major, d.minor)).collect();
        Self { edits, numbers }
    }

    /// Adds a node. False if the edits had it already.
    fn add(&mut self, node: &DeviceNode) -> bool {
        let is_new = self.numbers.insert((node.major, node.minor)) || !has_node(self.edits, node);
        if is_new {
            self.edits.devices.push(node.clone());
        }
        is_new
    }
}

/// Adds the nodes and links of a selected device.
pub(crate) fn device(
    nodes: &mut NodeSet<'_>,
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
    // If the GPU is not new, another slice of it has added these already.
    if is_new && needs_drm(capabilities) {
        for node in &gpu.drm {
            nodes.add(node);
        }
        nodes.edits.links.extend(gpu.drm_links.iter().cloned());
    }
}

/// Whether these capabilities need the GPU's DRM nodes.
pub(super) fn needs_drm(capabilities: Capabilities) -> bool {
    capabilities.intersects(Capabilities::of(&[
        Capability::Graphics,
        Capability::Display,
    ]))
}
