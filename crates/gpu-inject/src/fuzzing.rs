//! Entry points for testenv/fuzz to parsers that are otherwise private to this crate.

use std::path::{Path, PathBuf};

use crate::edits::CudaCompat;
use crate::rootfs::Rootfs;

/// The longest ld.so.cache of an image that is read, in bytes.
pub const CACHE_LIMIT: u64 = crate::rootfs_edits::CACHE_LIMIT;

/// Device and inode of what `path` leads to below `root`, resolved by the kernel and by our own
/// walk.
pub fn resolve(root: &Path, path: &Path) -> Option<[Option<(u64, u64)>; 2]> {
    crate::rootfs::resolve_both(root, path)
}

/// The directories of a container's device cgroup in v1 and in v2, from its cgroup(5) file and
/// our mountinfo(5).
pub fn cgroups(cgroup: &str, mountinfo: &str) -> [Option<PathBuf>; 2] {
    crate::live::cgroups(cgroup, mountinfo)
}

/// Whether the image at `root` has libraries in `/compat` that are newer than this driver.
pub fn cuda_compat(root: &Path, driver: &str) -> bool {
    let compat = CudaCompat {
        driver: driver.to_owned(),
        cuda: Some((12, 4)),
        root: Some("/compat".into()),
    };
    Rootfs::open(root)
        .is_ok_and(|rootfs| crate::rootfs_edits::cuda_compat::libraries(&rootfs, &compat).is_some())
}
