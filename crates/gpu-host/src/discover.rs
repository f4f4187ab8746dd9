//! One look at the host: the inventory.

use std::path::{Path, PathBuf};

use crate::files::UserSpace;
use crate::inventory::{Driver, Gpu, Inventory, SCHEMA, Source};
use crate::mig::Caps;
use crate::nodes::Dev;
use crate::{Root, drm, features, files, freshness, platform, procfs, tegra, wsl};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tree with /proc, /sys and, unless told otherwise, everything else.
    pub root: Root,
    /// Where in that tree the driver's user space lives; `/` for most hosts.
    pub driver_root: PathBuf,
    /// Where in that tree `/dev` lives. Where it is not said: below the driver root, if that
    /// has a `/dev/nvidiactl`, as a driver container's has; else below `/`.
    pub dev_root: Option<PathBuf>,
    /// Ask NVML first. Only done on the running host, and only by a build that has it.
    pub nvml: bool,
    /// Where the GPUs come from, if not from what is found.
    pub source: Option<Source>,
    /// Directories with the driver's libraries, before the usual ones.
    pub library_search: Vec<PathBuf>,
    /// Directories with the driver's data files, besides the usual ones.
    pub config_search: Vec<PathBuf>,
    /// On a Tegra: CSV files, instead of those of the usual directory.
    pub csv_files: Vec<PathBuf>,
}

impl Options {
    /// Everything in its usual place below `root`.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            driver_root: "/".into(),
            dev_root: None,
            nvml: true,
            source: None,
            library_search: Vec::new(),
            config_search: Vec::new(),
            csv_files: Vec::new(),
        }
    }

    fn dev_root(&self) -> PathBuf {
        let usual = || dev_root(&self.root, &self.driver_root);
        self.dev_root.clone().unwrap_or_else(usual)
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
    /// A Tegra's CSV file that is no such file.
    #[error(
        "{path}:{line}: {text:?} is not `dev`, `lib`, `sym` or `dir`, a comma and an absolute path"
    )]
    Csv {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A CSV file that was asked for.
    #[error("{0}; give an existing file to --csv-file")]
    NoCsv(std::io::Error),
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

/// The kernel driver's GPUs.
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

/// A Tegra that has CSV files is served by them; it may have the kernel driver too, for its
/// display (L4T 36). WSL has no kernel driver.
pub fn source(root: &Root) -> Source {
    if platform::detect(root).jetson.is_some() && tegra::is_described(root) {
        Source::Tegra
    } else if loaded_version(root).is_none() && wsl::is_here(root) {
        Source::Wsl
    } else {
        Source::Nvidia
    }
}

/// Where `/dev` is, for who has not said it.
pub(crate) fn dev_root(root: &Root, driver_root: &Path) -> PathBuf {
    if root.exists(driver_root.join("dev/nvidiactl")) {
        driver_root.to_owned()
    } else {
        "/".into()
    }
}

#[cfg(feature = "nvml")]
fn gpus(options: &Options, dev: &Dev<'_>, driver: &Driver) -> Result<Gpus, Error> {
    if options.nvml && options.root.is_host() {
        // An NVML that does not answer is for `gpusetup detect` to tell; procfs still knows the GPUs.
        if let Ok(found) = crate::nvml::gpus(dev, driver) {
            return Ok(found);
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
