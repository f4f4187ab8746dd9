//! Plans the edits of one container from its request, the inventory and the policy.

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
use crate::error::{Error, Message};
use crate::policy::Policy;
use crate::request::{Request, Visible};
pub(crate) use additions::{NodeSet, device};
use additions::{add_file, needs_drm};
use select::Selection;
pub(crate) use selected_device::{SelectedDevice, parts};

/// The edits that give a container exactly what it requests. Empty for a container that requests
/// nothing.
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
    let mut nodes = NodeSet::of(&mut edits);
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
    if policy.application_profile && needs_drm(capabilities) {
        edits.egl_devices = egl_mask(&gpus);
    }
    // Keeps a hook or a CDI-aware engine further down from injecting GPUs a second time.
    edits
        .env
        .push(("NVIDIA_VISIBLE_DEVICES".into(), "void".into()));
    Ok(edits)
}

/// What a container that asks for all GPUs does not get, one text for each.
pub fn left_out(inventory: &Inventory, request: &Request) -> Vec<Message> {
    if request.visible != Visible::All {
        return Vec::new();
    }
    let texts = inventory.disputed.iter().map(|gpu| {
        Message::of(format_args!(
            "GPU {} ({}) is left out of all: {}",
            gpu.index, gpu.pci, gpu.why
        ))
    });
    texts.collect()
}

/// The edits that every GPU container gets: the files and control nodes for these capabilities.
pub(crate) fn shared(inventory: &Inventory, capabilities: Capabilities) -> Edits {
    let mut edits = Edits {
        forbid_device_node_creation: true,
        cuda_compat: cuda_compat(inventory, capabilities),
        egl_devices_by_nodes: needs_drm(capabilities),
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

/// The comparison with the image's CUDA compatibility libraries. `None` without `compute`, and on WSL, because no such library works with a Windows driver.
fn cuda_compat(inventory: &Inventory, capabilities: Capabilities) -> Option<CudaCompat> {
    let driver = inventory.driver.as_ref()?;
    let is_possible = capabilities.has(Capability::Compute)
        && inventory.source != Source::Wsl
        && !driver.version.is_empty();
    is_possible.then(|| CudaCompat {
        driver: driver.version.clone(),
        cuda: driver.cuda,
        root: None,
    })
}

/// A mask with the bits of the GPUs' minors. The driver's mask has 64 bits; a GPU with a higher minor has none (libnvidia-container `nvc_mount.c`).
fn egl_mask(gpus: &[&Gpu]) -> Option<u64> {
    let bits = gpus.iter().filter_map(|g| 1u64.checked_shl(g.minor));
    bits.reduce(|a, b| a | b)
}

/// Whether a container with these capabilities gets the file.
///
/// Some capabilities imply others (libnvidia-container `src/options.h`): `video` implies the
/// libraries of `compute`, which its own libraries need, and `display` implies `graphics`. A
/// 32-bit library needs `compat32` in addition to the capability it is for.
fn is_given(file: &DriverFile, capabilities: Capabilities) -> bool {
    let is_library = matches!(file.kind, FileKind::Library | FileKind::Library32);
    let mut effective = capabilities;
    if effective.has(Capability::Video) && is_library {
        effective = effective.with(Capability::Compute);
    }
    if effective.has(Capability::Display) {
        effective = effective.with(Capability::Graphics);
    }
    file.capabilities.intersects(effective)
        && (file.kind != FileKind::Library32 || capabilities.has(Capability::Compat32))
}

/// The groups of nodes that other users may not open, sorted. Root's group is left out.
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
