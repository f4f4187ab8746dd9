//! Plans what a container gets besides GPUs and the driver's files: MIG control, features, IMEX channels.

use gpu_host::{DeviceNode, Feature, Gpu, Inventory};

use super::additions::{add_file, add_node};
use super::select::Selection;
use super::selected_device::SelectedDevice;
use crate::edits::Edits;
use crate::error::{Error, MigControlFault};
use crate::request::{Imex, Request};

/// Adds the nodes for partitioning the visible GPUs or for monitoring all their slices: the global
/// node, and for each GPU its own node and those of all its slices
/// (libnvidia-container `src/nvc_mount.c`, `nvc_mig_config_global_caps_mount`).
pub(super) fn mig_control(
    edits: &mut Edits,
    inventory: &Inventory,
    request: &Request,
    selection: &Selection<'_>,
) -> Result<(), Error> {
    let control = &inventory.mig_control;
    let requests = [
        (
            "NVIDIA_MIG_CONFIG_DEVICES",
            request.mig_config,
            &control.config,
        ),
        (
            "NVIDIA_MIG_MONITOR_DEVICES",
            request.mig_monitor,
            &control.monitor,
        ),
    ];
    for (name, _, node) in requests.into_iter().filter(|(_, is_asked, _)| *is_asked) {
        let failed = |fault| Error::MigControl { name, fault };
        let Some(node) = node else {
            return Err(failed(MigControlFault::NoNode));
        };
        let is_of_whole = |gpu: &Gpu| selection.whole.iter().any(|w| w.index == gpu.index);
        let is_single = |p: &SelectedDevice<'_>| matches!(p, SelectedDevice::Slice(gpu, _) if !is_of_whole(gpu));
        if selection.selected.iter().any(is_single) {
            return Err(failed(MigControlFault::SingleSlices));
        }
        add_node(edits, node);
        for gpu in &selection.whole {
            add_node(edits, &gpu.node);
            for node in gpu.mig.iter().flat_map(|s| &s.nodes) {
                add_node(edits, node);
            }
        }
    }
    Ok(())
}

/// Adds GDS and other features. A feature that the host does not have is an error, since the
/// container relies on it.
pub(super) fn features(
    edits: &mut Edits,
    inventory: &Inventory,
    requested: impl IntoIterator<Item = Feature>,
) -> Result<(), Error> {
    for feature in requested {
        let here = inventory.features.iter().find(|f| f.feature == feature);
        let Some(here) = here.filter(|f| !f.nodes.is_empty()) else {
            let available = inventory.features.iter().filter(|f| !f.nodes.is_empty());
            return Err(Error::NoSuchFeature {
                asked: feature.word(),
                there: list(available.map(|f| f.feature.word().to_owned())),
            });
        };
        for node in &here.nodes {
            add_node(edits, node);
        }
        for file in &here.files {
            if edits.mounts.iter().all(|m| m.path != file.path) {
                add_file(edits, file);
            }
        }
    }
    Ok(())
}

/// Adds IMEX channels. `all` means all that the host has, which may be none.
pub(super) fn channels(
    edits: &mut Edits,
    inventory: &Inventory,
    asked: &Imex,
) -> Result<(), Error> {
    let here = &inventory.imex_channels;
    match asked {
        Imex::None => {}
        Imex::All => {
            for channel in here {
                add_node(edits, &channel.node);
            }
        }
        Imex::Listed(ids) => {
            for id in ids {
                let node: &DeviceNode = here
                    .iter()
                    .find(|c| c.id == *id)
                    .map(|c| &c.node)
                    .ok_or_else(|| Error::NoSuchChannel {
                        id: *id,
                        there: list(here.iter().map(|c| c.id.to_string())),
                    })?;
                add_node(edits, node);
            }
        }
    }
    Ok(())
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}
