//! Whether the driver's user space fits the kernel module that is loaded.

use std::path::{Path, PathBuf};

use super::options::Options;
use crate::driver::files::{self, installed_version};
use crate::inventory::{DriverFile, FileKind, Inventory, Source};

/// Why containers would get no working driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Upgraded without a reboot, or a module left over.
    #[error(
        "the loaded kernel module is {loaded}, but the driver's libraries below {driver_root} are {installed}; reboot, or unload nvidia and its modules and load those of {installed}"
    )]
    Versions {
        /// Version of the kernel module.
        loaded: String,
        /// Newest version of the libraries.
        installed: String,
        /// Where they are.
        driver_root: PathBuf,
    },
    /// They are somewhere else, or nowhere.
    #[error(
        "the loaded kernel module is {loaded}, but below {driver_root} are no libraries of it; {}",
        elsewhere.as_ref().map_or_else(
            || "install the driver's user space, or say where it is with --driver-root".to_owned(),
            |root| format!("there are below {0}: gpusetup config set nvidia-container-cli.root={0}, or for this once --driver-root {0}", root.display()),
        )
    )]
    NoLibraries {
        /// Version of the kernel module.
        loaded: String,
        /// Where they should be.
        driver_root: PathBuf,
        /// A driver root that has them.
        elsewhere: Option<PathBuf>,
    },
}

/// Looks at what `discover` found with the same options.
pub fn mismatch(options: &Options, inventory: &Inventory) -> Option<Mismatch> {
    let driver = inventory.driver.as_ref()?;
    // Some libraries have versions of their own and fit any.
    let end = format!(".so.{}", driver.version);
    let is_of_it =
        |f: &DriverFile| f.kind == FileKind::Library && f.path.to_string_lossy().ends_with(&end);
    let has_libraries = driver.files.iter().any(is_of_it);
    if inventory.source != Source::Nvidia || has_libraries {
        return None;
    }
    let loaded = driver.version.clone();
    let driver_root = inventory.driver_root.clone();
    if let Some(installed) = installed_version(&options.root, &driver_root) {
        // The same version and yet no library: an ELF file that cannot be read. NoLibraries says so.
        if installed != loaded {
            return Some(Mismatch::Versions {
                loaded,
                installed,
                driver_root,
            });
        }
    }
    let has = |root: &Path| installed_version(&options.root, root).as_deref() == Some(&loaded);
    Some(Mismatch::NoLibraries {
        elsewhere: files::known_roots().into_iter().find(|root| has(root)),
        loaded,
        driver_root,
    })
}
