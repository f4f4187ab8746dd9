//! Where the driver's user space is on this host.

use std::io;
use std::path::{Path, PathBuf};

use crate::root::Root;

/// Where the driver's user space is, and where else to look.
pub(crate) struct UserSpace<'a> {
    /// The host's tree.
    pub(crate) root: &'a Root,
    /// The driver root, as a tree of its own.
    pub(crate) tree: &'a Root,
    /// Where the host has that tree.
    pub(crate) driver_root: &'a Path,
    /// Directories with libraries, before the usual ones.
    pub(crate) libraries: &'a [PathBuf],
    /// Directories with data files, besides the usual ones.
    pub(crate) configs: &'a [PathBuf],
}

impl UserSpace<'_> {
    /// A path as the driver's tree has it; given with the driver root or without.
    pub(crate) fn inner(&self, path: &Path) -> PathBuf {
        let inner = path.strip_prefix(self.driver_root).unwrap_or(path);
        Path::new("/").join(inner)
    }
}

/// The driver root, as a tree of its own.
pub(crate) fn tree(root: &Root, driver_root: &Path) -> io::Result<Root> {
    let inner = root.canonicalize(driver_root)?;
    Root::open(&root.host_path(inner))
}
