//! CDI specs for GPUs of AMD and Intel.
//!
//! Their kinds are those that the vendors' own tools use: `amd.com/gpu` (AMD Container
//! Toolkit) and `intel.com/gpu` (Intel resource drivers for Kubernetes).

use cdi::{Device, Spec};
use gpu_host::other_vendors::{Found, OtherGpu, Vendor};

use super::devices::chosen_others;
use super::options::{GenerateOptions, NameStrategy};
use super::{finished, nothing};
use crate::edits::Edits;
use crate::error::Error;
use crate::oci::{Nodes, to_cdi};
use crate::plan;

/// Each GPU by index, AMD's by unique id too, and `all`; with the groups that may open the
/// nodes, which distributions give to `video` and `render` alone.
pub fn other_vendor_spec(
    found: &Found,
    vendor: Vendor,
    options: &GenerateOptions,
) -> Result<Spec, Error> {
    let (name, word) = match vendor {
        Vendor::Amd => ("amd.com", "amd"),
        Vendor::Intel => ("intel.com", "intel"),
    };
    if found.gpus.is_empty() {
        return Err(nothing(word));
    }
    let chosen = chosen_others(found, options)?;
    let mut devices = Vec::new();
    for gpu in &chosen {
        let strategies = options.names.iter();
        let names: Vec<String> = strategies.filter_map(|s| device_name(*s, gpu)).collect();
        if names.is_empty() {
            return Err(Error::NameStrategy(gpu.index.to_string()));
        }
        devices.extend(
            names
                .into_iter()
                .map(|n| device(&n, found, &[*gpu], options)),
        );
    }
    if options.all {
        devices.push(device("all", found, &chosen, options));
    }
    let links = chosen.iter().flat_map(|gpu| &gpu.links).cloned();
    let shared = Edits {
        links_by_nodes: links.collect(),
        ..Edits::default()
    };
    let shared = to_cdi(&shared, &options.hook_path, Nodes::ByPath);
    finished(options.kind((name, "gpu")), devices, shared)
}

fn device_name(strategy: NameStrategy, gpu: &OtherGpu) -> Option<String> {
    match strategy {
        NameStrategy::Index => Some(gpu.index.to_string()),
        NameStrategy::Uuid => gpu.unique_id.clone(),
        NameStrategy::TypeIndex => Some(format!("gpu{}", gpu.index)),
    }
}

fn device(name: &str, found: &Found, gpus: &[&OtherGpu], options: &GenerateOptions) -> Device {
    let mut edits = Edits {
        devices: found.shared.clone(),
        ..Edits::default()
    };
    for gpu in gpus {
        edits.devices.extend(gpu.nodes.iter().cloned());
    }
    edits.additional_gids = plan::gids(&edits.devices);
    Device {
        name: name.to_owned(),
        container_edits: to_cdi(&edits, &options.hook_path, Nodes::ByPath),
        ..Device::default()
    }
}
