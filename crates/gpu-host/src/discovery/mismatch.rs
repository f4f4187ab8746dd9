//! Compares the driver's user space with the kernel module that is loaded.

use std::path::{Path, PathBuf};

use super::options::Options;
use crate::Root;
use crate::driver::files::{self, installed_version};
use crate::inventory::{DriverFile, FileKind, Inventory, Source};

/// Why containers would not get a working driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The driver was upgraded without a reboot, or an old module is still loaded.
    #[error(
        "the loaded kernel module is {loaded}, but the driver's libraries below {driver_root} are {installed}; reboot, or unload nvidia and its modules and load those of {installed}"
    )]
    Versions {
        /// Version of the kernel module.
        loaded: String,
        /// Newest version among the installed libraries.
        installed: String,
        /// Where the libraries are.
        driver_root: PathBuf,
    },
    /// The driver root has no libraries of the loaded module's version.
    #[error(
        "the loaded kernel module is {loaded}, but below {driver_root} are no libraries of it{}",
        elsewhere.as_ref().map_or_else(String::new, |root| format!("; there are below {}", root.display()))
    )]
    NoLibraries {
        /// Version of the kernel module.
        loaded: String,
        /// Where the libraries should be.
        driver_root: PathBuf,
        /// Another known driver root that has them.
        elsewhere: Option<PathBuf>,
    },
}

/// A known driver root other than `/` with libraries of that version.
pub fn other_driver_root(root: &Root, version: &str) -> Option<PathBuf> {
    let has = |dir: &Path| installed_version(root, dir).as_deref() == Some(version);
    files::known_roots().into_iter().find(|dir| has(dir))
}

/// Checks an inventory that `discover` made with the same options. `None` if they match.
pub fn mismatch(options: &Options, inventory: &Inventory) -> Option<Mismatch> {
    let driver = inventory.driver.as_ref()?;
    // Only libraries that carry the driver's version count: some have a version of their own and
    // fit every driver.
    let suffix = format!(".so.{}", driver.version);
    let is_of_driver =
        |f: &DriverFile| f.kind == FileKind::Library && f.path.to_string_lossy().ends_with(&suffix);
    let has_libraries = driver.files.iter().any(is_of_driver);
    if inventory.source != Source::Nvidia || has_libraries {
        return None;
    }
    let loaded = driver.version.clone();
    let driver_root = inventory.driver_root.clone();
    if let Some(installed) = installed_version(&options.root, &driver_root) {
        // The versions are equal and yet no library was accepted: it is an ELF file that cannot be
        // read, which NoLibraries reports.
        if installed != loaded {
            return Some(Mismatch::Versions {
                loaded,
                installed,
                driver_root,
            });
        }
    }
    Some(Mismatch::NoLibraries {
        elsewhere: other_driver_root(&options.root, &loaded),
        loaded,
        driver_root,
    })
}
