//! Makes the inventory: reads the host once and collects what containers can be given.

mod agreement;
mod drm;
mod features;
pub(crate) mod freshness;
pub mod kernel_list;
mod mig;
pub(crate) mod mismatch;
mod nodes;
#[cfg(feature = "nvml")]
pub mod nvlink;
#[cfg(feature = "nvml")]
#[allow(unsafe_code, reason = "two NVML calls that nvml-wrapper lacks")]
pub mod nvml;
pub(crate) mod nvml_reading;
pub(crate) mod options;
pub mod other_vendors;
mod tegra;
mod wsl;

use std::ffi::OsStr;

use crate::driver::files;
use crate::driver::user_space::{self, UserSpace};
use crate::driver::version::loaded_version;
use crate::inventory::{Driver, DriverFile, FileKind, Inventory, SCHEMA, Source};
use crate::os::platform;
use crate::root::Root;

use agreement::HostGpus;
use freshness::freshness;
use mig::Caps;
use nodes::Dev;
use nvml_reading::{NvmlAnswer, NvmlUse};
use options::{Error, Options};

/// How often a host is read that changes meanwhile.
const TRIES: u32 = 3;

/// Reads what this host can give to containers.
///
/// GPUs come from /proc and sysfs, and from NVML where the options allow it and it answers: it knows more (UUIDs and profiles
/// of MIG devices, compute capabilities). A GPU of which they do not say the same is left out and named
/// ([`Inventory::disputed`]).
///
/// The result is of a host that did not change while it was read, as far as [`Freshness`](crate::Freshness) can tell. If it
/// changes all the time, the result is not fresh.
pub fn discover(options: &Options) -> Result<Inventory, Error> {
    let mut inventory = discover_once(options)?;
    for _ in 1..TRIES {
        // NVML makes missing nodes itself, and an event can come at any time.
        if inventory.is_fresh(&options.root) {
            break;
        }
        inventory = discover_once(options)?;
    }
    Ok(inventory)
}

fn discover_once(options: &Options) -> Result<Inventory, Error> {
    let root = &options.root;
    let driver_tree =
        user_space::tree(root, &options.driver_root).map_err(|source| Error::DriverRoot {
            path: options.driver_root.clone(),
            source,
        })?;
    let dev_root = options.dev_root();
    let dev = Dev::new(root, &dev_root);
    let mut inventory = Inventory {
        schema: SCHEMA,
        source: options.source.unwrap_or_else(|| source(root)),
        driver_root: options.driver_root.clone(),
        freshness: freshness(root, &options.driver_root),
        ..Inventory::default()
    };
    match inventory.source {
        Source::Nvidia => nvidia(&mut inventory, options, &driver_tree, &dev)?,
        Source::Wsl => wsl::fill(&mut inventory, &dev),
        Source::Tegra => tegra::fill(&mut inventory, options, &dev)?,
    }
    inventory.features = features::find(&dev, &options.driver_root);
    inventory.imex_channels = features::imex_channels(&dev);
    inventory.missing_nodes = dev.missing();
    Ok(inventory)
}

/// Fills in the GPUs, nodes and files of the NVIDIA kernel driver, if it is loaded.
fn nvidia(
    inventory: &mut Inventory,
    options: &Options,
    driver_tree: &Root,
    dev: &Dev<'_>,
) -> Result<(), Error> {
    let Some(version) = loaded_version(dev.root) else {
        return Ok(());
    };
    let space = UserSpace {
        root: dev.root,
        tree: driver_tree,
        driver_root: &options.driver_root,
        libraries: &options.library_search,
        configs: &options.config_search,
    };
    let mut driver = Driver {
        files: files::find(&space, &version),
        version,
        cuda: None,
    };
    let found = gpus(options, dev, &driver)?;
    inventory.gpus = found.gpus;
    inventory.disputed = found.disputed;
    inventory.nvml_silence = found.unanswered;
    driver.cuda = found.cuda;
    for gpu in &mut inventory.gpus {
        (gpu.drm, gpu.drm_links) = drm::of(dev, gpu.pci);
    }
    inventory.control_nodes = dev.control();
    inventory.mig_control = Caps::new(dev).control();
    inventory.driver = Some(driver);
    Ok(())
}

/// Where this host's GPUs come from.
///
/// A Tegra with CSV files is [`Source::Tegra`] even if the kernel driver is loaded, as it is for
/// the display on L4T 36. WSL has no kernel driver.
pub fn source(root: &Root) -> Source {
    if platform::detect(root).jetson.is_some() && tegra::has_csv_files(root) {
        Source::Tegra
    } else if loaded_version(root).is_none() && wsl::is_here(root) {
        Source::Wsl
    } else {
        Source::Nvidia
    }
}

fn gpus(options: &Options, dev: &Dev<'_>, driver: &Driver) -> Result<HostGpus, Error> {
    let listed = kernel_list::listed(dev.root).map_err(Error::Procfs)?;
    Ok(match answer(options, driver) {
        Ok(Some(reading)) => agreement::by_both(dev, &listed, &reading),
        Ok(None) => agreement::by_kernel(dev, &listed),
        Err(why) => HostGpus {
            unanswered: Some(why),
            ..agreement::by_kernel(dev, &listed)
        },
    })
}

/// What NVML says, or why it says nothing; `None` if it is not asked, or is not there to be asked.
fn answer(options: &Options, driver: &Driver) -> NvmlAnswer {
    let Some(library) = nvml_library(driver) else {
        return Ok(None);
    };
    match &options.nvml {
        NvmlUse::Here if options.root.is_host() => read_here(library),
        NvmlUse::Here | NvmlUse::No => Ok(None),
        NvmlUse::By(asker) => asker.ask(library),
    }
}

#[cfg(feature = "nvml")]
fn read_here(library: &OsStr) -> NvmlAnswer {
    nvml::read(library).map_err(|e| e.to_string())
}

#[cfg(not(feature = "nvml"))]
#[allow(clippy::unnecessary_wraps, reason = "the result of the other build")]
fn read_here(_library: &OsStr) -> NvmlAnswer {
    Ok(None)
}

/// Host path of this driver's NVML library.
pub fn nvml_library(driver: &Driver) -> Option<&OsStr> {
    let is_nvml = |f: &&DriverFile| {
        f.kind == FileKind::Library && f.soname.as_deref() == Some("libnvidia-ml.so.1")
    };
    let file = driver.files.iter().find(is_nvml);
    Some(file?.host_path.as_os_str())
}
