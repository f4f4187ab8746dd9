//! Which CRI-O it is, and which files it reads.

use std::path::PathBuf;

use super::config::Merged;
use crate::error::Error;
use crate::host::Host;

/// After `99-nvidia.toml`, the name that others give theirs: of two tables of one runtime the
/// later counts.
const DROP_IN: &str = "99-zz-gpusetup.conf";
/// A drop-in directory is read (CRI-O 1.18, pkg/config).
pub(super) const DROP_INS: (u32, u32) = (1, 18);

/// A CRI-O on this host.
pub(super) struct Installation {
    /// `None`: not to be told, taken for a new one.
    pub(super) version: Option<(u32, u32)>,
    /// The file that everything else adds to.
    pub(super) config: PathBuf,
    /// Where drop-ins are.
    pub(super) dir: PathBuf,
}

impl Installation {
    pub(super) fn is_before(&self, version: (u32, u32)) -> bool {
        self.version.is_some_and(|v| v < version)
    }

    pub(super) fn drop_in(&self) -> PathBuf {
        self.dir.join(DROP_IN)
    }

    /// The file we write.
    pub(super) fn file(&self) -> PathBuf {
        if self.is_before(DROP_INS) {
            self.config.clone()
        } else {
            self.drop_in()
        }
    }

    /// What CRI-O reads without our drop-in.
    pub(super) fn merged(&self, host: &Host) -> Result<Merged, Error> {
        Merged::read(host, &self.config, &self.dir, &self.drop_in())
    }
}
