//! Writes the application profile that tells EGL and Vulkan which GPUs a container has. Without it
//! they try all GPUs of the driver and fail on those whose nodes are missing.

use std::path::Path;

use super::{gpu_nodes, read_only_cover};
use crate::error::Error;
use crate::rootfs::Rootfs;

/// A file that the driver reads (driver README, "Application Profiles"). Its name is the one that
/// libnvidia-container uses (`nvc_mount.c`).
const PATH: &str = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";

/// Writes the profile. Bit N of `devices` stands for the GPU with minor N.
pub(crate) fn write(rootfs: &Rootfs, devices: u64) -> Result<(), Error> {
    let profile = serde_json::json!({
        "profiles": [{
            "name": "gpu-container",
            "settings": ["EGLVisibleDGPUDevices", devices],
        }],
        // An empty pattern matches every program.
        "rules": [{"pattern": [], "profile": "gpu-container"}],
    });
    let text = format!("{profile}\n");
    read_only_cover::write(rootfs, Path::new(PATH), text.as_bytes())
}

/// The bits of the GPUs whose nodes are in the container's `/dev`; `None` if there are none.
pub(crate) fn visible(rootfs: &Rootfs) -> Option<u64> {
    gpu_nodes::minors(rootfs)
        .filter_map(|minor| 1u64.checked_shl(minor))
        .reduce(|a, b| a | b)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    use super::*;

    #[test]
    fn the_profile_lists_the_gpus_whose_nodes_exist() {
        if !skips::has(&[skips::Need::DeviceNodes]) {
            return;
        }
        let image = tempfile::tempdir().unwrap();
        let rootfs = Rootfs::open(image.path()).unwrap();
        assert_eq!(visible(&rootfs), None);
        let dev = image.path().join("dev");
        std::fs::create_dir(&dev).unwrap();
        let mode = Mode::from_bits_truncate(0o666);
        let made = [
            ("nvidia0", 0),
            ("nvidia3", 3),
            ("nvidiactl", 255),
            ("nvidia200", 200),
        ]
        .map(|(name, minor)| mknod(&dev.join(name), SFlag::S_IFCHR, mode, makedev(195, minor)));
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        std::fs::write(dev.join("nvidia1"), "no node").unwrap();
        std::os::unix::fs::symlink("nvidia3", dev.join("nvidia2")).unwrap();
        assert_eq!(visible(&rootfs), Some(0b1001));
        write(&rootfs, 0b1001).unwrap();
        let text = std::fs::read_to_string(image.path().join(PATH.trim_start_matches('/')));
        assert!(text.unwrap().contains(r#""EGLVisibleDGPUDevices",9"#));
    }
}
