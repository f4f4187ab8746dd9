//! Makes the inventory: reads the host once and collects what containers can be given.

mod drm;
mod features;
pub(crate) mod freshness;
mod mig;
pub(crate) mod mismatch;
mod nodes;
#[cfg(feature = "nvml")]
pub mod nvlink;
#[cfg(feature = "nvml")]
#[allow(unsafe_code, reason = "two NVML calls that nvml-wrapper lacks")]
mod nvml;
pub(crate) mod options;
pub mod other_vendors;
mod procfs;
mod tegra;
mod wsl;

use crate::driver::files;
use crate::driver::user_space::{self, UserSpace};
use crate::driver::version::loaded_version;
use crate::inventory::{Driver, Inventory, SCHEMA, Source};
use crate::os::platform;
use crate::root::Root;

use freshness::freshness;
use mig::Caps;
use nodes::Dev;
use options::{Error, Options};
use procfs::Gpus;

/// Reads what this host can give to containers.
///
/// GPUs come from NVML where the options allow it and it works, else from /proc and sysfs.
/// Those know less: no MIG UUID or profile, no compute capability.
pub fn discover(options: &Options) -> Result<Inventory, Error> {
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
    (inventory.gpus, driver.cuda) = gpus(options, dev, &driver)?;
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

#[cfg(feature = "nvml")]
fn gpus(options: &Options, dev: &Dev<'_>, driver: &Driver) -> Result<Gpus, Error> {
    if options.nvml && options.root.is_host() {
        // procfs still knows the GPUs where NVML does not answer; `gpusetup detect` reports that
        // NVML failed.
        if let Ok(gpus) = nvml::gpus(dev, driver) {
            return Ok(gpus);
        }
    }
    procfs_gpus(dev)
}

#[cfg(not(feature = "nvml"))]
fn gpus(_options: &Options, dev: &Dev<'_>, _driver: &Driver) -> Result<Gpus, Error> {
    procfs_gpus(dev)
}

fn procfs_gpus(dev: &Dev<'_>) -> Result<Gpus, Error> {
    let gpus = procfs::gpus(dev).map_err(Error::Procfs)?;
    Ok((gpus, None))
}
