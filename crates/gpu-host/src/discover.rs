//! One look at the host: the inventory.

use std::path::{Path, PathBuf};

use crate::inventory::{Driver, Gpu, Inventory, SCHEMA};
use crate::{Root, drm, files, freshness, nodes, procfs};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tree with /proc, /sys and, unless told otherwise, everything else.
    pub root: Root,
    /// Where in that tree the driver's user space lives; `/` for most hosts.
    pub driver_root: PathBuf,
    /// Where in that tree `/dev` lives; `/` for nearly all hosts.
    pub dev_root: PathBuf,
    /// Ask NVML first. Only done on the running host, and only by a build that has it.
    pub nvml: bool,
}

impl Options {
    /// Everything in its usual place below `root`.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            driver_root: "/".into(),
            dev_root: "/".into(),
            nvml: true,
        }
    }
}

/// Why a host could not be looked at. What is missing is no error: the inventory
/// then lacks it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The driver root is not there.
    #[error(
        "driver root {path}: {source}; give the directory that has the driver's usr/lib with --driver-root"
    )]
    DriverRoot {
        /// As given.
        path: PathBuf,
        /// What opening it said.
        source: std::io::Error,
    },
    /// The driver's own tables could not be read although the driver is loaded.
    #[error("{0}; the driver is loaded but its /proc files cannot be read, run as root")]
    Procfs(std::io::Error),
}

/// GPUs, and the highest CUDA version where the source tells it.
type Gpus = (Vec<Gpu>, Option<(u32, u32)>);

/// What this host can give to containers.
///
/// GPUs come from NVML where allowed and working, else from /proc and sysfs,
/// which know less: no MIG UUID or profile, no compute capability.
pub fn discover(options: &Options) -> Result<Inventory, Error> {
    let root = &options.root;
    let driver_tree = driver_tree(root, &options.driver_root)?;
    let mut inventory = Inventory {
        schema: SCHEMA,
        driver_root: options.driver_root.clone(),
        freshness: freshness(root, &options.driver_root),
        ..Inventory::default()
    };
    let Some(version) = loaded_version(root) else {
        return Ok(inventory);
    };
    let files = files::find(&driver_tree, &options.driver_root, &version);
    let mut driver = Driver {
        version,
        cuda: None,
        files,
    };
    let (gpus, cuda) = gpus(options, &driver)?;
    driver.cuda = cuda;
    inventory.gpus = gpus;
    for gpu in &mut inventory.gpus {
        (gpu.drm, gpu.drm_links) = drm::of(root, &options.dev_root, gpu.pci);
    }
    inventory.control_nodes = nodes::control(root, &options.dev_root);
    inventory.driver = Some(driver);
    Ok(inventory)
}

#[cfg(feature = "nvml")]
fn gpus(options: &Options, driver: &Driver) -> Result<Gpus, Error> {
    if options.nvml && options.root.is_host() {
        // An NVML that does not answer is for `gpusetup detect` to tell; procfs still knows the GPUs.
        if let Ok(found) = crate::nvml::gpus(options, driver) {
            return Ok(found);
        }
    }
    procfs_gpus(options)
}

#[cfg(not(feature = "nvml"))]
fn gpus(options: &Options, _driver: &Driver) -> Result<Gpus, Error> {
    procfs_gpus(options)
}

fn procfs_gpus(options: &Options) -> Result<Gpus, Error> {
    let gpus = procfs::gpus(&options.root, &options.dev_root).map_err(Error::Procfs)?;
    Ok((gpus, None))
}

fn driver_tree(root: &Root, driver_root: &Path) -> Result<Root, Error> {
    let failed = |source| Error::DriverRoot {
        path: driver_root.to_owned(),
        source,
    };
    let inner = root.canonicalize(driver_root).map_err(failed)?;
    Root::open(&root.host_path(inner)).map_err(failed)
}

/// Version of the loaded kernel module, from `/proc/driver/nvidia/version` or
/// `/sys/module/nvidia/version`.
pub fn loaded_version(root: &Root) -> Option<String> {
    if let Ok(text) = root.read_to_string("/proc/driver/nvidia/version") {
        // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 ..."; the open
        // modules say "... Open Kernel Module for x86_64  580.65.06  Release Build ...".
        let line = text.lines().find(|l| l.starts_with("NVRM version"))?;
        return line
            .split_whitespace()
            .find(|w| is_version(w))
            .map(str::to_owned);
    }
    let text = root.read_to_string("/sys/module/nvidia/version").ok()?;
    Some(text.trim().to_owned()).filter(|v| is_version(v))
}

/// Version of a driver whose files are there, loaded or not: the newest suffix of
/// `libcuda.so.*`. With no driver loaded this tells "install it" from "load it".
pub fn installed_version(root: &Root, driver_root: &Path) -> Option<String> {
    files::installed_version(&driver_tree(root, driver_root).ok()?)
}

/// `580.65.06`, `470.256`: two or three numbers with dots between.
pub(crate) fn is_version(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    (2..=4).contains(&parts.len())
        && parts
            .iter()
            .all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        && parts.first().is_some_and(|p| p.len() >= 3)
}
