//! Generates the CDI specs for AMD and Intel GPUs.
//!
//! The kinds are the ones that the vendors' own tools use: `amd.com/gpu` (AMD Container
//! Toolkit) and `intel.com/gpu` (Intel resource drivers for Kubernetes).

use cdi::{Device, Spec};
use gpu_host::other_vendors::{OtherGpu, Vendor, VendorGpus};

use super::devices::chosen_others;
use super::options::{GenerateOptions, NameStrategy};
use super::{finished, nothing};
use crate::edits::Edits;
use crate::error::Error;
use crate::oci::{NodeForm, to_cdi};
use crate::plan;

/// Makes a spec with each GPU by index, AMD's also by unique id, and `all`. The devices include
/// the groups of the nodes, because distributions let only `video` and `render` open them.
pub fn other_vendor_spec(
    vendor_gpus: &VendorGpus,
    vendor: Vendor,
    options: &GenerateOptions,
) -> Result<Spec, Error> {
    let (name, word) = match vendor {
        Vendor::Amd => ("amd.com", "amd"),
        Vendor::Intel => ("intel.com", "intel"),
    };
    if vendor_gpus.gpus.is_empty() {
        return Err(nothing(word));
    }
    let selected = chosen_others(vendor_gpus, options)?;
    let mut devices = Vec::new();
    for gpu in &selected {
        let strategies = options.names.iter();
        let names: Vec<String> = strategies.filter_map(|s| device_name(*s, gpu)).collect();
        if names.is_empty() {
            return Err(Error::NameStrategy(gpu.index.to_string()));
        }
        devices.extend(
            names
                .into_iter()
                .map(|n| device(&n, vendor_gpus, &[*gpu], options)),
        );
    }
    if options.all {
        devices.push(device("all", vendor_gpus, &selected, options));
    }
    let links = selected.iter().flat_map(|gpu| &gpu.links).cloned();
    let shared = Edits {
        links_by_nodes: links.collect(),
        ..Edits::default()
    };
    let shared = to_cdi(&shared, &options.hook_path, NodeForm::ByPath);
    finished(options.kind((name, "gpu")), devices, shared)
}

fn device_name(strategy: NameStrategy, gpu: &OtherGpu) -> Option<String> {
    match strategy {
        NameStrategy::Index => Some(gpu.index.to_string()),
        NameStrategy::Uuid => gpu.unique_id.clone(),
        NameStrategy::TypeIndex => Some(format!("gpu{}", gpu.index)),
    }
}

fn device(
    name: &str,
    vendor_gpus: &VendorGpus,
    gpus: &[&OtherGpu],
    options: &GenerateOptions,
) -> Device {
    let mut edits = Edits {
        devices: vendor_gpus.shared.clone(),
        ..Edits::default()
    };
    for gpu in gpus {
        edits.devices.extend(gpu.nodes.iter().cloned());
    }
    edits.additional_gids = plan::gids(&edits.devices);
    Device {
        name: name.to_owned(),
        container_edits: to_cdi(&edits, &options.hook_path, NodeForm::ByPath),
        ..Device::default()
    }
}
