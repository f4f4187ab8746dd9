//! Where the kernel looks for firmware.

use std::path::{Path, PathBuf};

use super::user_space::UserSpace;
use crate::os::kernel;

/// Directories in the driver's tree, in the kernel's order (Linux
/// Documentation/driver-api/firmware/fw_search_path.rst).
pub(crate) fn dirs(space: &UserSpace<'_>) -> Vec<PathBuf> {
    // The kernel reads the parameter as a path of the host, so it can have the driver root in
    // front (GPU Operator: /run/nvidia/driver/lib/firmware).
    let asked = space
        .root
        .read_to_string("/sys/module/firmware_class/parameters/path")
        .unwrap_or_default();
    let asked = Path::new(asked.trim());
    let asked = asked.is_absolute().then(|| {
        let inner = asked.strip_prefix(space.driver_root).unwrap_or(asked);
        Path::new("/").join(inner)
    });
    let release = kernel::release(space.root);
    let of_release = |dir: &str| release.as_ref().map(|r| Path::new(dir).join(r));
    let usual = [
        of_release("/lib/firmware/updates"),
        Some("/lib/firmware/updates".into()),
        of_release("/lib/firmware"),
        Some("/lib/firmware".into()),
    ];
    asked
        .into_iter()
        .chain(usual.into_iter().flatten())
        .collect()
}
