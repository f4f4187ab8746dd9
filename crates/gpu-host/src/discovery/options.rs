//! Where discovery looks, and why it could not.

use std::path::{Path, PathBuf};

use crate::inventory::Source;
use crate::root::Root;

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

    pub(crate) fn dev_root(&self) -> PathBuf {
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

/// Where `/dev` is, for who has not said it.
pub(crate) fn dev_root(root: &Root, driver_root: &Path) -> PathBuf {
    if root.exists(driver_root.join("dev/nvidiactl")) {
        driver_root.to_owned()
    } else {
        "/".into()
    }
}
