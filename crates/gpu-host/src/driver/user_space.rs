//! Where the driver's user space is installed on this host.

use std::io;
use std::path::{Path, PathBuf};

use crate::root::Root;

/// The driver root, and additional directories to search.
pub(crate) struct UserSpace<'a> {
    /// The host's tree.
    pub(crate) root: &'a Root,
    /// The driver root, as a tree of its own.
    pub(crate) tree: &'a Root,
    /// The path of that tree in `root`.
    pub(crate) driver_root: &'a Path,
    /// Directories with libraries, searched before the usual ones.
    pub(crate) libraries: &'a [PathBuf],
    /// Directories with data files, searched in addition to the usual ones.
    pub(crate) configs: &'a [PathBuf],
}

impl UserSpace<'_> {
    /// The path within the driver's tree. `path` may or may not begin with the driver root.
    pub(crate) fn inner(&self, path: &Path) -> PathBuf {
        let inner = path.strip_prefix(self.driver_root).unwrap_or(path);
        Path::new("/").join(inner)
    }
}

/// Opens the driver root as a tree of its own.
pub(crate) fn tree(root: &Root, driver_root: &Path) -> io::Result<Root> {
    let inner = root.canonicalize(driver_root)?;
    Root::open(&root.host_path(inner))
}
