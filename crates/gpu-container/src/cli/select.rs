//! Selects devices by the option `--device`.
//!
//! Its value is a comma-separated list of `all`, an index, a GPU's or slice's UUID, `GPU:SLICE`
//! indices, or a PCI address, in upper or lower case (libnvidia-container `src/cli/common.c`). A
//! UUID may be abbreviated to a prefix that only one device has, as in `NVIDIA_VISIBLE_DEVICES`.

use gpu_host::{Gpu, Inventory, MigDevice, PciAddress};
use gpu_inject::Excerpt;
use gpu_inject::request::{AllowedName, Visible};

use super::failure::{Failure, Phase};

/// The selected devices, without duplicates, in the order of the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen<'a> {
    pub(super) gpus: Vec<&'a Gpu>,
    pub(super) slices: Vec<(&'a Gpu, &'a MigDevice)>,
    /// Whether the list has `all`.
    pub(super) all: bool,
    /// Whether the list has single slices.
    names_slices: bool,
    names: Vec<String>,
}

impl<'a> Chosen<'a> {
    /// Adds a GPU; for a partitioned one also its slices.
    fn add_gpu(&mut self, gpu: &'a Gpu) {
        self.names.push(gpu.index.to_string());
        self.see_gpu(gpu);
        if gpu.mig_enabled {
            gpu.mig.iter().for_each(|slice| self.see_slice(gpu, slice));
        }
    }

    fn add_slice(&mut self, gpu: &'a Gpu, slice: &'a MigDevice) {
        self.names.push(format!("{}:{}", gpu.index, slice.index));
        self.names_slices = true;
        self.see_gpu(gpu);
        self.see_slice(gpu, slice);
    }

    fn see_gpu(&mut self, gpu: &'a Gpu) {
        if !self.gpus.contains(&gpu) {
            self.gpus.push(gpu);
        }
    }

    fn see_slice(&mut self, gpu: &'a Gpu, slice: &'a MigDevice) {
        if !self.slices.contains(&(gpu, slice)) {
            self.slices.push((gpu, slice));
        }
    }

    /// The selection as a request for the planner.
    pub(super) fn visible(&self) -> Visible {
        if self.all {
            Visible::All
        } else if self.names.is_empty() {
            Visible::DriverOnly
        } else {
            let names = self.names.iter().cloned();
            Visible::Listed(names.map(AllowedName::by_caller).collect())
        }
    }

    /// Whether `--mig-config` or `--mig-monitor` with this value requests MIG control.
    pub(super) fn mig_control(&self, list: &str, phase: Phase) -> Result<bool, Failure> {
        let mut is_requested = false;
        for item in items(list) {
            let excerpt = Excerpt::of(item);
            if !item.eq_ignore_ascii_case("all") {
                let why = format!("{excerpt}: only 'all' devices are currently supported");
                return Err(phase.failure(why));
            }
            if !self.all && self.names_slices {
                let why =
                    format!("{excerpt}: cannot enable {phase} with specific MIG devices selected");
                return Err(phase.failure(why));
            }
            is_requested = true;
        }
        Ok(is_requested)
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|item| !item.is_empty())
}

/// Selects the devices of `list` on this host.
pub(super) fn select<'a>(inventory: &'a Inventory, list: &str) -> Result<Chosen<'a>, Failure> {
    let mut chosen = Chosen::default();
    for item in items(list) {
        if item.eq_ignore_ascii_case("all") {
            inventory.gpus.iter().for_each(|gpu| chosen.add_gpu(gpu));
            chosen.all = true;
            break;
        }
        match find(&inventory.gpus, item)? {
            (gpu, None) => chosen.add_gpu(gpu),
            (gpu, Some(slice)) => chosen.add_slice(gpu, slice),
        }
    }
    Ok(chosen)
}

type GpuOrSlice<'a> = (&'a Gpu, Option<&'a MigDevice>);

fn find<'a>(gpus: &'a [Gpu], item: &str) -> Result<GpuOrSlice<'a>, Failure> {
    let by_index = |text: &str| {
        let index: u32 = text.parse().ok()?;
        gpus.iter().find(|g| g.index == index)
    };
    if let Some(gpu) = by_index(item) {
        return Ok((gpu, None));
    }
    if let Some((gpu, slice)) = item.split_once(':')
        && let (Some(gpu), Ok(index)) = (by_index(gpu), slice.parse::<u32>())
        && let Some(slice) = gpu.mig.iter().find(|s| s.index == index)
    {
        return Ok((gpu, Some(slice)));
    }
    if item.matches(':').count() == 2
        && let Ok(address) = item.parse::<PciAddress>()
        && let Some(gpu) = gpus.iter().find(|g| g.pci == address)
    {
        return Ok((gpu, None));
    }
    by_uuid(gpus, item)
}

fn by_uuid<'a>(gpus: &'a [Gpu], item: &str) -> Result<GpuOrSlice<'a>, Failure> {
    let prefix = item.to_ascii_lowercase();
    let is_uuid = ["gpu-", "mig-"]
        .iter()
        .any(|tag| prefix.len() > tag.len() && prefix.starts_with(tag));
    let mut matches: Vec<(&str, GpuOrSlice<'a>)> = Vec::new();
    for gpu in gpus.iter().filter(|_| is_uuid) {
        let slices = gpu.mig.iter().map(|s| (&s.uuid, Some(s)));
        for (uuid, slice) in [(&gpu.uuid, None)].into_iter().chain(slices) {
            if let Some(uuid) = uuid.as_deref()
                && uuid.to_ascii_lowercase().starts_with(&prefix)
            {
                matches.push((uuid, (gpu, slice)));
            }
        }
    }
    if let Some((_, exact)) = matches.iter().find(|(u, _)| u.len() == prefix.len()) {
        return Ok(*exact);
    }
    match matches[..] {
        [(_, one)] => Ok(one),
        [] => Err(Phase::Device.failure(format!(
            "{}: unknown device; there are {}",
            Excerpt::of(item),
            available(gpus)
        ))),
        _ => {
            let matches: Vec<&str> = matches.iter().map(|(uuid, _)| *uuid).collect();
            let (excerpt, matches) = (Excerpt::of(item), matches.join(", "));
            let why = format!("{excerpt}: fits several devices: {matches}");
            Err(Phase::Device.failure(why))
        }
    }
}

fn available(gpus: &[Gpu]) -> String {
    let names = gpus.iter().map(|gpu| match &gpu.uuid {
        Some(uuid) => format!("{} ({uuid})", gpu.index),
        None => gpu.index.to_string(),
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return "none".into();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::testing;

    /// Indices of GPUs, and of slices on their GPUs.
    type Indices = (Vec<u32>, Vec<(u32, u32)>);

    fn selected(list: &str) -> Result<Indices, String> {
        let host = testing::host();
        let chosen = select(&host, list).map_err(|f| f.to_string())?;
        Ok((
            chosen.gpus.iter().map(|g| g.index).collect(),
            chosen
                .slices
                .iter()
                .map(|(g, s)| (g.index, s.index))
                .collect(),
        ))
    }

    #[test]
    fn every_selector_of_libnvidia_container_works() {
        for (list, gpus, slices) in [
            ("", vec![], vec![]),
            ("0", vec![0], vec![]),
            (",0,,0,", vec![0], vec![]),
            ("ALL", vec![0, 1], vec![(1, 0), (1, 1)]),
            ("gpu-0000AAAA", vec![0], vec![]),
            ("GPU-0", vec![0], vec![]),
            ("00000000:3B:00.0", vec![0], vec![]),
            ("0:3b:00.0", vec![0], vec![]),
            ("1", vec![1], vec![(1, 0), (1, 1)]),
            ("1:1", vec![1], vec![(1, 1)]),
            ("MIG-11,1:0", vec![1], vec![(1, 1), (1, 0)]),
        ] {
            assert_eq!(selected(list), Ok((gpus, slices)), "{list:?}");
        }
    }

    #[test]
    fn a_device_that_does_not_exist_is_unknown() {
        for list in [
            "7", "none", "GPU-", "GPU-ffff", "1:7", "0:1", "3b:00.0", "-1",
        ] {
            let message = selected(list).unwrap_err();
            let expected = format!("device error: {list}: unknown device");
            assert!(message.starts_with(&expected), "{message}");
        }
        assert!(selected("MIG-1").unwrap_err().contains("fits several"));
    }

    #[test]
    fn mig_control_is_all_or_nothing() {
        let host = testing::host();
        let mig_control = |devices, list| {
            let chosen = select(&host, devices).unwrap();
            chosen
                .mig_control(list, Phase::MigConfig)
                .map_err(|f| f.to_string())
        };
        assert_eq!(mig_control("all", "all"), Ok(true));
        assert_eq!(mig_control("1", "all"), Ok(true));
        assert_eq!(mig_control("all", ""), Ok(false));
        assert_eq!(
            mig_control("all", "0").unwrap_err(),
            "mig-config error: 0: only 'all' devices are currently supported"
        );
        assert!(
            mig_control("1:0", "all")
                .unwrap_err()
                .contains("specific MIG devices")
        );
    }

    proptest! {
        #[test]
        fn no_list_panics(list: String) {
            let _ = selected(&list);
        }
    }
}
