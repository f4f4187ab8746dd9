//! Reads which GPUs a container has, by the nodes in its /dev.

use std::ffi::OsStr;
use std::path::Path;

use nix::sys::stat::minor;

use crate::rootfs::Rootfs;

/// Maximum names that are read in a container's /dev.
const MAX_NAMES: usize = 4096;

/// The minors of the nodes named `nvidiaN`.
pub(crate) fn minors(rootfs: &Rootfs) -> impl Iterator<Item = u32> {
    let is_gpu = |name: &OsStr| {
        name.to_str()
            .and_then(|n| n.strip_prefix("nvidia"))
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    rootfs
        .numbers_of_nodes(Path::new("/dev"), MAX_NAMES, is_gpu)
        .into_iter()
        .filter_map(|number| u32::try_from(minor(number)).ok())
}
