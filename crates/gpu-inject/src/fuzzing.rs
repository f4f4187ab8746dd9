//! Ways in for testenv/fuzz, to parsers that are nobody else's business.

use std::path::{Path, PathBuf};

/// The longest ld.so.cache of an image that is read, in bytes.
pub const CACHE_LIMIT: u64 = crate::prepare::CACHE_LIMIT;

/// Device and inode of what `path` leads to in the root at `root`, by the kernel's way and by
/// ours.
pub fn resolve(root: &Path, path: &Path) -> Option<[Option<(u64, u64)>; 2]> {
    crate::rootfs::resolve_both(root, path)
}

/// Where a container's device cgroup is, of either kind, from its cgroup(5) file and our
/// mountinfo(5).
pub fn cgroups(cgroup: &str, mountinfo: &str) -> [Option<PathBuf>; 2] {
    crate::live::cgroups(cgroup, mountinfo)
}
