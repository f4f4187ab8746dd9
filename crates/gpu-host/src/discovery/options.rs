//! Where discovery looks, and the errors that it returns.

use std::path::{Path, PathBuf};

use super::nvml_reading::NvmlUse;
use crate::inventory::Source;
use crate::root::Root;

/// Where [`discover()`](crate::discover()) looks.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tree with /proc and /sys; the fields below may place the rest elsewhere in it.
    pub root: Root,
    /// Where in that tree the driver's user space lives; `/` for most hosts.
    pub driver_root: PathBuf,
    /// The directory in that tree that has `dev`. If `None`: the driver root where it has a
    /// `dev/nvidiactl`, as a driver container's has, else `/`.
    pub dev_root: Option<PathBuf>,
    /// Whether NVML is asked, too.
    pub nvml: NvmlUse,
    /// Where the GPUs come from; `None` to detect it.
    pub source: Option<Source>,
    /// Directories with the driver's libraries, searched before the usual ones.
    pub library_search: Vec<PathBuf>,
    /// Directories with the driver's data files, searched in addition to the usual ones.
    pub config_search: Vec<PathBuf>,
    /// On a Tegra: the CSV files to use instead of those in the usual directory.
    pub csv_files: Vec<PathBuf>,
}

impl Options {
    /// Everything in its usual place below `root`.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            driver_root: "/".into(),
            dev_root: None,
            nvml: NvmlUse::Here,
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

/// Why discovery failed. A missing device or file is not an error; the inventory then lacks it. The messages state
/// facts; the programs that show them say which option helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The driver root does not exist or cannot be opened.
    #[error("driver root {path}: {source}")]
    DriverRoot {
        /// As given.
        path: PathBuf,
        /// The error from opening it.
        source: std::io::Error,
    },
    /// The driver's own tables could not be read although the driver is loaded.
    #[error("{0}; the driver is loaded but its /proc files cannot be read, run as root")]
    Procfs(#[source] std::io::Error),
    /// A line of a Tegra's CSV file is not in the format of such a file.
    #[error(
        "{path}:{line}: {text:?} is not `dev`, `lib`, `sym` or `dir`, a comma and an absolute path"
    )]
    Csv {
        /// The file.
        path: PathBuf,
        /// Line number, counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A CSV file that the options name cannot be read.
    #[error("{0}")]
    NoCsv(#[source] std::io::Error),
}

/// The directory that has `dev`, where the options do not name one.
pub(crate) fn dev_root(root: &Root, driver_root: &Path) -> PathBuf {
    if root.exists(driver_root.join("dev/nvidiactl")) {
        driver_root.to_owned()
    } else {
        "/".into()
    }
}
