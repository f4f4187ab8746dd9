//! From a request to the edits of one container.

mod additions;
mod extras;
pub mod requirements;
mod select;
mod selected_device;

use std::collections::BTreeSet;

use gpu_host::{
    Capabilities, Capability, DeviceNode, DriverFile, FileKind, Gpu, Inventory, Source,
};

use crate::edits::{CudaCompat, Edits};
use crate::error::Error;
use crate::policy::Policy;
use crate::request::Request;
pub(crate) use additions::{Nodes, device};
use additions::{add_file, draws};
use select::Selection;
pub(crate) use selected_device::{SelectedDevice, parts};

/// The edits that give a container what it asks for and nothing else. No edits for a
/// container that asks for nothing.
pub fn plan(inventory: &Inventory, request: &Request, policy: &Policy) -> Result<Edits, Error> {
    if !request.is_some() {
        return Ok(Edits::default());
    }
    if inventory.driver.is_none() {
        return Err(Error::NoDriver);
    }
    let selection = Selection::of(inventory, &request.visible)?;
    let gpus = selection.gpus();
    requirements::ensure_met(&request.requirements, inventory, &gpus)?;
    let capabilities = request.capabilities.and(policy.supported);
    let mut edits = shared(inventory, capabilities);
    let mut nodes = Nodes::of(&mut edits);
    for one in &selection.selected {
        device(&mut nodes, *one, capabilities);
    }
    if request.all_lists {
        for file in &inventory.tegra_more {
            add_file(&mut edits, file);
        }
    }
    extras::mig_control(&mut edits, inventory, request, &selection)?;
    let features: BTreeSet<_> = request
        .features
        .iter()
        .chain(&selection.features)
        .copied()
        .collect();
    extras::features(&mut edits, inventory, features)?;
    extras::channels(&mut edits, inventory, &request.imex)?;
    if !policy.ignore_imex {
        extras::channels(&mut edits, inventory, &selection.channels)?;
    }
    if policy.additional_gids {
        edits.additional_gids = gids(&edits.devices);
    }
    edits.forbid_device_node_creation = policy.forbid_device_nodes;
    if !policy.cuda_compat {
        edits.cuda_compat = None;
    } else if let Some(compat) = &mut edits.cuda_compat
        && inventory.source == Source::Tegra
    {
        compat.root.clone_from(&policy.csv_compat_root);
    }
    edits.egl_devices_by_nodes = false;
    if policy.application_profile && draws(capabilities) {
        edits.egl_devices = egl_mask(&gpus);
    }
    // A hook or a CDI-aware engine further down must not do it again.
    edits
        .env
        .push(("NVIDIA_VISIBLE_DEVICES".into(), "void".into()));
    Ok(edits)
}

/// What every GPU container gets: files and control nodes of these capabilities.
pub(crate) fn shared(inventory: &Inventory, capabilities: Capabilities) -> Edits {
    let mut edits = Edits {
        forbid_device_node_creation: true,
        cuda_compat: cuda_compat(inventory, capabilities),
        egl_devices_by_nodes: draws(capabilities),
        ..Edits::default()
    };
    for control in &inventory.control_nodes {
        if control.capabilities == Capabilities::ALL
            || control.capabilities.intersects(capabilities)
        {
            edits.devices.push(control.node.clone());
        }
    }
    let files = inventory.driver.iter().flat_map(|d| &d.files);
    for file in files.filter(|f| is_given(f, capabilities)) {
        add_file(&mut edits, file);
    }
    edits
}

/// An image's compatibility libraries are CUDA's, and none is made for a Windows driver.
fn cuda_compat(inventory: &Inventory, capabilities: Capabilities) -> Option<CudaCompat> {
    let driver = inventory.driver.as_ref()?;
    let can = capabilities.has(Capability::Compute)
        && inventory.source != Source::Wsl
        && !driver.version.is_empty();
    can.then(|| CudaCompat {
        driver: driver.version.clone(),
        cuda: driver.cuda,
        root: None,
    })
}

/// The driver knows 64 bits; a GPU beyond has none (libnvidia-container `nvc_mount.c`).
fn egl_mask(gpus: &[&Gpu]) -> Option<u64> {
    let bits = gpus.iter().filter_map(|g| 1u64.checked_shl(g.minor));
    bits.reduce(|a, b| a | b)
}

/// Whether a container with these capabilities gets the file. Some bring others along
/// (libnvidia-container `src/options.h`): `video` the libraries of `compute`, on which its
/// own are built, `display` all of `graphics`. A 32-bit library needs `compat32` besides
/// what it is for.
fn is_given(file: &DriverFile, capabilities: Capabilities) -> bool {
    let is_library = matches!(file.kind, FileKind::Library | FileKind::Library32);
    let mut wanted = capabilities;
    if wanted.has(Capability::Video) && is_library {
        wanted = wanted.with(Capability::Compute);
    }
    if wanted.has(Capability::Display) {
        wanted = wanted.with(Capability::Graphics);
    }
    file.capabilities.intersects(wanted)
        && (file.kind != FileKind::Library32 || capabilities.has(Capability::Compat32))
}

/// Groups of nodes that others may not open.
pub(crate) fn gids(nodes: &[DeviceNode]) -> Vec<u32> {
    nodes
        .iter()
        .filter(|n| n.gid != 0 && n.mode & 0o006 != 0o006)
        .map(|n| n.gid)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests;
