//! Which devices a spec has, and their names.

use gpu_host::other_vendors::{Found, OtherGpu};
use gpu_host::{Gpu, ImexChannel, Inventory};

use super::options::{GenerateOptions, NameStrategy};
use crate::error::Error;
use crate::plan::{self, SelectedDevice};

/// A device of the spec.
pub(super) struct Chosen<'a> {
    /// Each gives a device of its own.
    pub(super) names: Vec<String>,
    pub(super) parts: Vec<SelectedDevice<'a>>,
    /// A slice of a GPU that is a device as well: `all` has it already.
    pub(super) is_within_another: bool,
}

/// GPUs and slices, in order, those that were asked for.
pub(super) fn chosen<'a>(
    inventory: &'a Inventory,
    options: &GenerateOptions,
) -> Result<Vec<Chosen<'a>>, Error> {
    let mut filter = Filter::new(options);
    let mut found = Vec::new();
    for gpu in &inventory.gpus {
        let whole = filter.takes(&[
            Some(gpu.index.to_string()),
            gpu.uuid.clone(),
            Some(format!("gpu{}", gpu.index)),
        ]);
        if whole {
            found.push(Chosen {
                names: names(options, |s| s.gpu(gpu))?,
                parts: plan::parts(gpu),
                is_within_another: false,
            });
        }
        for slice in &gpu.mig {
            let own = filter.takes(&[
                NameStrategy::Index.slice(gpu, slice),
                slice.uuid.clone(),
                NameStrategy::TypeIndex.slice(gpu, slice),
            ]);
            if whole || own {
                found.push(Chosen {
                    names: names(options, |s| s.slice(gpu, slice))?,
                    parts: vec![SelectedDevice::Slice(gpu, slice)],
                    is_within_another: whole,
                });
            }
        }
    }
    let there = || {
        let slices = |g: &Gpu| {
            let index = |s| NameStrategy::Index.slice(g, s);
            g.mig.iter().filter_map(index).collect::<Vec<_>>()
        };
        let gpus = inventory.gpus.iter();
        gpus.flat_map(|g| std::iter::once(g.index.to_string()).chain(slices(g)))
            .collect()
    };
    filter.ensure_all_exist(there)?;
    Ok(found)
}

pub(super) fn chosen_channels<'a>(
    inventory: &'a Inventory,
    options: &GenerateOptions,
) -> Result<Vec<&'a ImexChannel>, Error> {
    let mut filter = Filter::new(options);
    let channels = inventory.imex_channels.iter();
    let found = channels
        .filter(|c| filter.takes(&[Some(c.id.to_string()), Some(format!("channel{}", c.id))]))
        .collect();
    let there = || {
        inventory
            .imex_channels
            .iter()
            .map(|c| c.id.to_string())
            .collect()
    };
    filter.ensure_all_exist(there)?;
    Ok(found)
}

pub(super) fn chosen_others<'a>(
    found: &'a Found,
    options: &GenerateOptions,
) -> Result<Vec<&'a OtherGpu>, Error> {
    let mut filter = Filter::new(options);
    let gpus = found.gpus.iter();
    let chosen = gpus
        .filter(|g| {
            let index = g.index.to_string();
            filter.takes(&[
                Some(format!("gpu{index}")),
                Some(index),
                g.unique_id.clone(),
            ])
        })
        .collect();
    let there = || found.gpus.iter().map(|g| g.index.to_string()).collect();
    filter.ensure_all_exist(there)?;
    Ok(chosen)
}

/// A device without a name would be left out without a word.
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

/// The devices that were asked for by `--device-id`.
struct Filter<'a> {
    /// `None`: every device.
    asked: Option<Vec<(&'a str, bool)>>,
}

impl<'a> Filter<'a> {
    fn new(options: &'a GenerateOptions) -> Self {
        let asked = options.devices.as_ref();
        let asked = asked.filter(|list| !list.iter().any(|id| id == "all"));
        Self {
            asked: asked.map(|list| list.iter().map(|id| (id.as_str(), false)).collect()),
        }
    }

    fn takes(&mut self, names: &[Option<String>]) -> bool {
        let Some(asked) = &mut self.asked else {
            return true;
        };
        let is_it = |id: &str| names.iter().flatten().any(|n| n.eq_ignore_ascii_case(id));
        let mut is_asked = false;
        for (_, is_there) in asked.iter_mut().filter(|(id, _)| is_it(id)) {
            *is_there = true;
            is_asked = true;
        }
        is_asked
    }

    fn ensure_all_exist(&self, there: impl Fn() -> Vec<String>) -> Result<(), Error> {
        let asked = self.asked.iter().flatten();
        match asked.clone().find(|(_, is_there)| !is_there) {
            None => Ok(()),
            Some((id, _)) => Err(Error::NoSuchDevice {
                asked: (*id).into(),
                there: Some(there().join(", "))
                    .filter(|t| !t.is_empty())
                    .unwrap_or_else(|| "none".into()),
            }),
        }
    }
}
