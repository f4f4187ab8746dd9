//! Resolves the device names in a container's request to devices of the host.

use std::collections::HashSet;

use gpu_host::{DisputedGpu, Feature, Gpu, Inventory, PciAddress};

use super::selected_device::{SelectedDevice, parts};
use crate::error::Error;
use crate::request::{Imex, Visible};

/// CDI kinds that stand for our GPUs: that of our CDI spec, and that of the spec which
/// nvidia-container-runtime generates.
const GPU_KINDS: [&str; 2] = ["nvidia.com/gpu", "runtime.nvidia.com/gpu"];
const CHANNEL_KIND: &str = "nvidia.com/imex-channel";
const VENDOR: &str = "nvidia.com/";

/// The devices of the host that a request selects.
#[derive(Debug, Default)]
pub(super) struct Selection<'a> {
    /// GPUs and slices in the order of the request, without duplicates.
    pub(super) selected: Vec<SelectedDevice<'a>>,
    seen: HashSet<(u32, Option<u32>)>,
    /// GPUs that were requested as a whole, including partitioned ones without slices.
    pub(super) whole: Vec<&'a Gpu>,
    /// Features requested by CDI name, such as `nvidia.com/gds=all`.
    pub(super) features: Vec<Feature>,
    /// Channels requested by CDI name, `nvidia.com/imex-channel=N`.
    pub(super) channels: Imex,
}

impl<'a> Selection<'a> {
    pub(super) fn of(inventory: &'a Inventory, visible: &Visible) -> Result<Self, Error> {
        let mut selection = Self::default();
        match visible {
            Visible::None | Visible::DriverOnly => {}
            Visible::All => selection.add_all(inventory),
            Visible::Listed(list) => {
                for name in list {
                    selection.add(inventory, name.text())?;
                }
            }
        }
        Ok(selection)
    }

    /// Every GPU of which the container gets something, without duplicates.
    pub(super) fn gpus(&self) -> Vec<&'a Gpu> {
        let mut indices = HashSet::new();
        let all = self.selected.iter().map(|p| p.gpu());
        all.chain(self.whole.iter().copied())
            .filter(|gpu| indices.insert(gpu.index))
            .collect()
    }

    fn add_all(&mut self, inventory: &'a Inventory) {
        for gpu in &inventory.gpus {
            self.add_gpu(gpu);
        }
    }

    fn add_gpu(&mut self, gpu: &'a Gpu) {
        self.whole.push(gpu);
        for part in parts(gpu) {
            self.add_part(part);
        }
    }

    fn add_part(&mut self, part: SelectedDevice<'a>) {
        if self.seen.insert(part.number()) {
            self.selected.push(part);
        }
    }

    fn add(&mut self, inventory: &'a Inventory, requested: &str) -> Result<(), Error> {
        let no_such = || Error::NoSuchDevice {
            asked: requested.into(),
            there: names(inventory),
        };
        let name = match requested.split_once('=') {
            None => requested,
            Some((kind, name)) if GPU_KINDS.contains(&kind) => name,
            Some((CHANNEL_KIND, name)) => return self.add_channel(name).ok_or_else(no_such),
            Some((kind, "all")) => {
                let word = kind.strip_prefix(VENDOR);
                let feature = Feature::ALL.into_iter().find(|f| Some(f.word()) == word);
                self.features.push(feature.ok_or_else(no_such)?);
                return Ok(());
            }
            Some(_) => return Err(no_such()),
        };
        if let Some(gpu) = disputed(&inventory.disputed, name) {
            return Err(Error::Disputed {
                asked: requested.into(),
                index: gpu.index,
                pci: gpu.pci.to_string(),
                why: gpu.why.clone(),
            });
        }
        match find(&inventory.gpus, name)? {
            DeviceMatch::All => self.add_all(inventory),
            DeviceMatch::Gpu(gpu) => self.add_gpu(gpu),
            DeviceMatch::Slice(part) => self.add_part(part),
            DeviceMatch::Nothing => return Err(no_such()),
        }
        Ok(())
    }

    fn add_channel(&mut self, name: &str) -> Option<()> {
        if name == "all" {
            self.channels = Imex::All;
            return Some(());
        }
        let id = name.parse().ok()?;
        match &mut self.channels {
            Imex::All => {}
            Imex::None => self.channels = Imex::Listed(vec![id]),
            Imex::Listed(list) => list.push(id),
        }
        Some(())
    }
}

/// The device that a name stands for.
enum DeviceMatch<'a> {
    All,
    Gpu(&'a Gpu),
    Slice(SelectedDevice<'a>),
    Nothing,
}

/// The GPU that is left out and that a name could mean: by index, also of one of its slices, by PCI address, by UUID or by the
/// start of it.
fn disputed<'a>(left_out: &'a [DisputedGpu], name: &str) -> Option<&'a DisputedGpu> {
    let address = pci(name);
    let index = match name.split_once(':') {
        Some(_) if address.is_some() => None,
        Some((index, _)) => number(index),
        None => number(name),
    };
    let lower_name = name.to_ascii_lowercase();
    let has_uuid = |gpu: &DisputedGpu| {
        let uuid = gpu.uuid.as_deref().unwrap_or_default().to_ascii_lowercase();
        lower_name.len() > "gpu-".len() && uuid.starts_with(&lower_name)
    };
    left_out
        .iter()
        .find(|gpu| index == Some(gpu.index) || address == Some(gpu.pci) || has_uuid(gpu))
}

/// Finds a device by `all`, an index, `gpu:slice`, a PCI address, a UUID or a prefix of one.
fn find<'a>(gpus: &'a [Gpu], name: &str) -> Result<DeviceMatch<'a>, Error> {
    if name == "all" {
        return Ok(DeviceMatch::All);
    }
    let gpu = |test: &dyn Fn(&Gpu) -> bool| {
        gpus.iter()
            .find(|g| test(g))
            .map_or(DeviceMatch::Nothing, DeviceMatch::Gpu)
    };
    if let Some(index) = number(name) {
        return Ok(gpu(&|g| g.index == index));
    }
    if let Some((index, slice)) = name
        .split_once(':')
        .and_then(|(g, s)| Some((number(g)?, number(s)?)))
    {
        let device = gpus.iter().find(|g| g.index == index).and_then(|gpu| {
            let slice = gpu.mig.iter().find(|s| s.index == slice)?;
            Some(DeviceMatch::Slice(SelectedDevice::Slice(gpu, slice)))
        });
        return Ok(device.unwrap_or(DeviceMatch::Nothing));
    }
    if let Some(address) = pci(name) {
        return Ok(gpu(&|g| g.pci == address));
    }
    by_uuid(gpus, name)
}

/// Parses digits only; `+1` is not an index.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// Parses a PCI address as nvidia-smi or sysfs writes it, `00000000:3B:00.0` or `0000:3b:00.0`.
fn pci(text: &str) -> Option<PciAddress> {
    let is_form = text.contains('.')
        && text.matches(':').count() == 2
        && text
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
    is_form.then(|| text.parse().ok()).flatten()
}

/// Finds a device by a UUID or by a prefix that only one device has (nvidia-docker documentation,
/// "GPU isolation"), in upper or lower case. `GPU-` or `MIG-` alone is not accepted, as every
/// device has it.
fn by_uuid<'a>(gpus: &'a [Gpu], name: &str) -> Result<DeviceMatch<'a>, Error> {
    let lower_name = name.to_ascii_lowercase();
    let is_uuid = ["gpu-", "mig-"]
        .iter()
        .any(|tag| lower_name.len() > tag.len() && lower_name.starts_with(tag));
    if !is_uuid {
        return Ok(DeviceMatch::Nothing);
    }
    let mut matches: Vec<(String, DeviceMatch<'a>)> = Vec::new();
    let mut add = |uuid: Option<&str>, device: DeviceMatch<'a>| {
        let uuid = uuid.unwrap_or_default();
        if uuid.to_ascii_lowercase().starts_with(&lower_name) {
            matches.push((uuid.to_owned(), device));
        }
    };
    for gpu in gpus {
        add(gpu.uuid.as_deref(), DeviceMatch::Gpu(gpu));
        for slice in &gpu.mig {
            let part = DeviceMatch::Slice(SelectedDevice::Slice(gpu, slice));
            add(slice.uuid.as_deref(), part);
        }
    }
    let exact = |(uuid, _): &(String, DeviceMatch<'_>)| uuid.eq_ignore_ascii_case(name);
    if let Some(at) = matches.iter().position(exact) {
        return Ok(matches.swap_remove(at).1);
    }
    if matches.len() > 1 {
        let fits: Vec<&str> = matches.iter().map(|(uuid, _)| uuid.as_str()).collect();
        return Err(Error::Ambiguous {
            asked: name.into(),
            fits: fits.join(", "),
        });
    }
    Ok(matches
        .pop()
        .map_or(DeviceMatch::Nothing, |(_, device)| device))
}

/// The names of all devices, for an error.
fn names(inventory: &Inventory) -> String {
    let mut names = Vec::new();
    let named = |name: String, uuid: Option<&str>| match uuid {
        Some(uuid) => format!("{name} ({uuid})"),
        None => name,
    };
    for gpu in &inventory.gpus {
        names.push(named(gpu.index.to_string(), gpu.uuid.as_deref()));
        for slice in &gpu.mig {
            let name = format!("{}:{}", gpu.index, slice.index);
            names.push(named(name, slice.uuid.as_deref()));
        }
    }
    if names.is_empty() {
        return "none".into();
    }
    names.join(", ")
}
