//! Where the kernel looks for firmware.

use std::path::{Path, PathBuf};

use super::user_space::UserSpace;
use crate::os::kernel;

/// The firmware directories, as paths in the driver's tree and in the kernel's search order
/// (Linux Documentation/driver-api/firmware/fw_search_path.rst).
pub(crate) fn dirs(space: &UserSpace<'_>) -> Vec<PathBuf> {
    // The kernel takes the parameter as a path of the host, so it may begin with the driver root
    // (GPU Operator: /run/nvidia/driver/lib/firmware).
    let parameter = space
        .root
        .read_to_string("/sys/module/firmware_class/parameters/path")
        .unwrap_or_default();
    let parameter = Path::new(parameter.trim());
    let parameter = parameter.is_absolute().then(|| {
        let inner = parameter
            .strip_prefix(space.driver_root)
            .unwrap_or(parameter);
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
    parameter
        .into_iter()
        .chain(usual.into_iter().flatten())
        .collect()
}
