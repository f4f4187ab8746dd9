//! Compares the kernel's list of GPUs with NVML's, GPU by GPU, so that no name ever means another GPU.
//!
//! NVML's index counts the GPUs that NVML could open. If it cannot open one, for want of its node or because the GPU is lost,
//! the indices of all that follow are those of their neighbours. So an index counts the GPUs that either source has, and a
//! GPU of which the sources do not say the same keeps its index and is given to nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::kernel_list::{ListedGpu, usable};
use super::mig::Caps;
use super::nodes::Dev;
use super::nvml_reading::{NvmlGpu, NvmlReading};
use crate::inventory::{DisputedGpu, Gpu, PciAddress};

/// The GPUs of a host, after all sources were asked.
#[derive(Debug, Default)]
pub(super) struct HostGpus {
    pub(super) gpus: Vec<Gpu>,
    pub(super) disputed: Vec<DisputedGpu>,
    /// Why NVML, which was asked, said nothing.
    pub(super) unanswered: Option<String>,
    /// The highest CUDA version (major, minor), where a source knows it.
    pub(super) cuda: Option<(u32, u32)>,
}

/// The GPUs by the kernel's list alone.
pub(super) fn by_kernel(dev: &Dev<'_>, listed: &[ListedGpu]) -> HostGpus {
    let mut found = HostGpus::default();
    for (index, gpu) in usable(listed) {
        match gpu.minor {
            Some(minor) => found.gpus.push(gpu.described(dev, index, minor)),
            None => found.disputed.push(DisputedGpu {
                index,
                pci: gpu.pci,
                uuid: gpu.uuid.clone(),
                why: "the driver lists it without a device minor".into(),
            }),
        }
    }
    found
}

/// The GPUs of which both say the same.
///
/// In a container the driver's list has all GPUs of the machine, unless it is masked, and NVML those that the container was
/// given. That looks the same as a host whose nodes are missing, so there, too, an index is the one of the machine.
pub(super) fn by_both(dev: &Dev<'_>, listed: &[ListedGpu], reading: &NvmlReading) -> HostGpus {
    let answered: BTreeMap<PciAddress, &NvmlGpu> =
        reading.gpus.iter().map(|gpu| (gpu.pci, gpu)).collect();
    let kernel: BTreeMap<PciAddress, &ListedGpu> =
        usable(listed).map(|(_, gpu)| (gpu.pci, gpu)).collect();
    // A sandbox that hides the driver's list leaves only NVML to ask.
    let has_list = !kernel.is_empty();
    let everywhere: BTreeSet<PciAddress> = kernel.keys().chain(answered.keys()).copied().collect();
    let mut found = HostGpus {
        cuda: reading.cuda,
        ..HostGpus::default()
    };
    for (index, pci) in (0..).zip(everywhere) {
        let (listed, answered) = (kernel.get(&pci), answered.get(&pci));
        let agreed = match (listed, answered) {
            (Some(listed), Some(answered)) => match difference(listed, answered) {
                None => Ok(*answered),
                Some(why) => Err(why),
            },
            (None, Some(answered)) if !has_list => Ok(*answered),
            (None, _) => Err("NVML has it, and the driver's list in /proc does not".into()),
            (Some(_), None) => Err(unanswered(reading)),
        };
        match agreed {
            Ok(answered) => found.gpus.push(described(dev, answered, index)),
            Err(why) => found.disputed.push(DisputedGpu {
                index,
                pci,
                uuid: listed
                    .and_then(|gpu| gpu.uuid.clone())
                    .or_else(|| answered.map(|gpu| gpu.uuid.clone())),
                why,
            }),
        }
    }
    found
}

fn unanswered(reading: &NvmlReading) -> String {
    let faults = &reading.faults;
    if faults.is_empty() {
        return "the driver lists it in /proc, and NVML does not have it".into();
    }
    format!(
        "the driver lists it in /proc, and NVML cannot describe it ({})",
        faults.join("; ")
    )
}

/// In what the two differ.
fn difference(listed: &ListedGpu, answered: &NvmlGpu) -> Option<String> {
    if let Some(uuid) = listed.uuid.as_ref().filter(|uuid| **uuid != answered.uuid) {
        return Some(format!(
            "its UUID is {uuid} in /proc and {} in NVML",
            answered.uuid
        ));
    }
    match listed.minor {
        None => Some("the driver lists it without a device minor".into()),
        Some(minor) if minor != answered.minor => Some(format!(
            "its device minor is {minor} in /proc and {} in NVML",
            answered.minor
        )),
        Some(_) => None,
    }
}

/// The GPU as it is in the inventory. Slices that only one source has are left out: they are being made or removed.
fn described(dev: &Dev<'_>, answered: &NvmlGpu, index: u32) -> Gpu {
    let caps = Caps::new(dev);
    let minor = answered.minor;
    let in_kernel = super::mig::instances(dev.root, minor);
    let is_in_kernel = |ids| in_kernel.is_empty() || in_kernel.contains(&ids);
    let slices = answered.slices.iter().filter_map(|slice| {
        let ids = (slice.gpu_instance, slice.compute_instance);
        let mut device = is_in_kernel(ids).then(|| caps.device(minor, slice.index, ids))?;
        device.uuid = Some(slice.uuid.clone());
        device.profile.clone_from(&slice.profile);
        Some(device)
    });
    Gpu {
        index,
        minor,
        uuid: Some(answered.uuid.clone()),
        name: answered.name.clone(),
        brand: answered.brand.clone(),
        compute_capability: answered.compute_capability,
        pci: answered.pci,
        node: dev.gpu(minor),
        drm: Vec::new(),
        drm_links: Vec::new(),
        mig_enabled: answered.mig_enabled,
        mig: slices.collect(),
    }
}
