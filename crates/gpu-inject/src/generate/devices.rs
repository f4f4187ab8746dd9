//! Selects the devices of a CDI spec and names them.

use gpu_host::other_vendors::{OtherGpu, VendorGpus};
use gpu_host::{Gpu, ImexChannel, Inventory};

use super::options::{GenerateOptions, NameStrategy};
use crate::error::Error;
use crate::plan::{self, SelectedDevice};

/// A GPU or slice of the spec; it becomes one CDI device for each of its names.
pub(super) struct SpecDevice<'a> {
    pub(super) names: Vec<String>,
    pub(super) parts: Vec<SelectedDevice<'a>>,
    /// Whether it is a slice whose whole GPU is in the spec too, so that `all` has it already.
    pub(super) is_within_another: bool,
}

/// The GPUs and slices that the options select, in inventory order.
pub(super) fn spec_devices<'a>(
    inventory: &'a Inventory,
    options: &GenerateOptions,
) -> Result<Vec<SpecDevice<'a>>, Error> {
    let mut filter = Filter::new(options);
    let mut devices = Vec::new();
    for gpu in &inventory.gpus {
        let whole = filter.takes(&[
            Some(gpu.index.to_string()),
            gpu.uuid.clone(),
            Some(format!("gpu{}", gpu.index)),
        ]);
        if whole {
            devices.push(SpecDevice {
                names: names(options, |s| s.gpu(gpu))?,
                parts: plan::parts(gpu),
                is_within_another: false,
            });
        }
        for slice in &gpu.mig {
            let is_selected = filter.takes(&[
                NameStrategy::Index.slice(gpu, slice),
                slice.uuid.clone(),
                NameStrategy::TypeIndex.slice(gpu, slice),
            ]);
            if whole || is_selected {
                devices.push(SpecDevice {
                    names: names(options, |s| s.slice(gpu, slice))?,
                    parts: vec![SelectedDevice::Slice(gpu, slice)],
                    is_within_another: whole,
                });
            }
        }
    }
    let available = || {
        let slices = |g: &Gpu| {
            let index = |s| NameStrategy::Index.slice(g, s);
            g.mig.iter().filter_map(index).collect::<Vec<_>>()
        };
        let gpus = inventory.gpus.iter();
        gpus.flat_map(|g| std::iter::once(g.index.to_string()).chain(slices(g)))
            .collect()
    };
    filter.ensure_all_exist(available)?;
    Ok(devices)
}

pub(super) fn chosen_channels<'a>(
    inventory: &'a Inventory,
    options: &GenerateOptions,
) -> Result<Vec<&'a ImexChannel>, Error> {
    let mut filter = Filter::new(options);
    let channels = inventory.imex_channels.iter();
    let selected = channels
        .filter(|c| filter.takes(&[Some(c.id.to_string()), Some(format!("channel{}", c.id))]))
        .collect();
    let available = || {
        inventory
            .imex_channels
            .iter()
            .map(|c| c.id.to_string())
            .collect()
    };
    filter.ensure_all_exist(available)?;
    Ok(selected)
}

pub(super) fn chosen_others<'a>(
    vendor_gpus: &'a VendorGpus,
    options: &GenerateOptions,
) -> Result<Vec<&'a OtherGpu>, Error> {
    let mut filter = Filter::new(options);
    let gpus = vendor_gpus.gpus.iter();
    let selected = gpus
        .filter(|g| {
            let index = g.index.to_string();
            filter.takes(&[
                Some(format!("gpu{index}")),
                Some(index),
                g.unique_id.clone(),
            ])
        })
        .collect();
    let available = || {
        vendor_gpus
            .gpus
            .iter()
            .map(|g| g.index.to_string())
            .collect()
    };
    filter.ensure_all_exist(available)?;
    Ok(selected)
}

/// The names of a device. Having none is an error, because the device would be dropped silently.
fn names(
    options: &GenerateOptions,
    name: impl Fn(NameStrategy) -> Option<String>,
) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for strategy in &options.names {
        if let Some(name) = name(*strategy)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(Error::NameStrategy(
            name(NameStrategy::Index).unwrap_or_default(),
        ));
    }
    Ok(names)
}

/// Selects devices by `--device-id`.
struct Filter<'a> {
    /// The requested ids, each with whether a device had it. `None` selects every device.
    requested: Option<Vec<(&'a str, bool)>>,
}

impl<'a> Filter<'a> {
    fn new(options: &'a GenerateOptions) -> Self {
        let ids = options.devices.as_ref();
        let ids = ids.filter(|list| !list.iter().any(|id| id == "all"));
        Self {
            requested: ids.map(|list| list.iter().map(|id| (id.as_str(), false)).collect()),
        }
    }

    /// Whether a device with these names is selected. Records which ids matched.
    fn takes(&mut self, names: &[Option<String>]) -> bool {
        let Some(requested) = &mut self.requested else {
            return true;
        };
        let is_match = |id: &str| names.iter().flatten().any(|n| n.eq_ignore_ascii_case(id));
        let mut is_selected = false;
        for (_, exists) in requested.iter_mut().filter(|(id, _)| is_match(id)) {
            *exists = true;
            is_selected = true;
        }
        is_selected
    }

    fn ensure_all_exist(&self, available: impl Fn() -> Vec<String>) -> Result<(), Error> {
        let mut requested = self.requested.iter().flatten();
        match requested.find(|(_, exists)| !exists) {
            None => Ok(()),
            Some((id, _)) => Err(Error::NoSuchDevice {
                asked: (*id).into(),
                there: Some(available().join(", "))
                    .filter(|t| !t.is_empty())
                    .unwrap_or_else(|| "none".into()),
            }),
        }
    }
}
