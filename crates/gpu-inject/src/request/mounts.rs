//! Requests as mounts: /dev/null mounted below a directory of agreed name.
//!
//! Kubernetes' device plugin asks this way where an environment variable, which any
//! image and any pod may set, is not to be believed. Whoever may mount a path of the
//! host at a place of their choosing may ask, as with nvidia-container-toolkit
//! (`internal/config/image/cuda_image.go`): cluster policy on hostPath is the gate.

use std::path::{Component, Path, PathBuf};

use crate::error::{Excerpt, Message};
use crate::oci::ContainerView;

const PARENT: &str = "/var/run/nvidia-container-devices";

/// What the mounts ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Names of devices.
    pub(super) devices: Vec<String>,
    /// The `N` or `all` of `imex/N`.
    pub(super) channels: Vec<String>,
    /// What was passed over.
    pub(super) warnings: Vec<Message>,
}

/// Whether a mount at that place can be one of those.
pub(super) fn may_ask(destination: &str) -> bool {
    destination.contains("nvidia-container-devices")
}

pub(super) fn read(container: ContainerView<'_>) -> Mounted {
    let mut found = Mounted::default();
    let mut seen: Vec<PathBuf> = Vec::new();
    for (source, destination) in container.mounts() {
        if clean(source) != Path::new("/dev/null") {
            continue;
        }
        let destination = clean(destination);
        // By components: `…-devices0` lies beside the directory, not in it.
        let Some(name) = destination
            .strip_prefix(PARENT)
            .ok()
            .and_then(Path::to_str)
            .filter(|n| !n.is_empty())
        else {
            continue;
        };
        if seen.contains(&destination) {
            continue;
        }
        if let Some(channel) = name.strip_prefix("imex/") {
            found.channels.push(channel.to_owned());
        } else if let Some(device) = name.strip_prefix("cdi/") {
            match qualified(device) {
                Some(name) => found.devices.push(name),
                None => found.warnings.push(Message::of(format_args!(
                    "the mount {} names no CDI device and is passed over; it should look like {PARENT}/cdi/nvidia.com/gpu/0",
                    Excerpt::of(&destination)
                ))),
            }
        } else {
            found.devices.push(name.to_owned());
        }
        seen.push(destination);
    }
    found
}

/// `vendor/class/device` or `vendor/class=device`, as a qualified name.
fn qualified(text: &str) -> Option<String> {
    let name = if text.contains('=') {
        text.to_owned()
    } else {
        let mut parts = text.splitn(3, '/');
        let (vendor, class, device) = (parts.next()?, parts.next()?, parts.next()?);
        format!("{vendor}/{class}={device}")
    };
    name.parse::<cdi::QualifiedName>().ok().map(|_| name)
}

/// Without `.`, `..` and doubled slashes. By name alone: a mount's destination is a name
/// here, never a place that is looked up.
fn clean(path: &str) -> PathBuf {
    let mut made = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => made.push(name),
            Component::ParentDir => drop(made.pop()),
            _ => {}
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mounted(destinations: &[&str]) -> Mounted {
        let mounts: Vec<_> = destinations
            .iter()
            .map(|d| json!({"source": "/dev/null", "destination": d}))
            .collect();
        let config = json!({ "mounts": mounts });
        read(ContainerView::new(&config))
    }

    #[test]
    fn mounts_name_devices_cdi_devices_and_imex_channels() {
        let found = mounted(&[
            "/var/run/nvidia-container-devices/GPU-1",
            "/var/run/nvidia-container-devices//GPU-1/",
            "/var/run/nvidia-container-devices/0:1",
            "/var/run/nvidia-container-devices/cdi/nvidia.com/gpu/0",
            "/var/run/nvidia-container-devices/cdi/nvidia.com/gpu=1",
            "/var/run/nvidia-container-devices/imex/5",
        ]);
        assert_eq!(
            found.devices,
            ["GPU-1", "0:1", "nvidia.com/gpu=0", "nvidia.com/gpu=1"]
        );
        assert_eq!(found.channels, ["5"]);
        assert!(found.warnings.is_empty());
    }

    #[test]
    fn a_mount_beside_the_directory_asks_for_nothing() {
        let found = mounted(&[
            "/var/run/nvidia-container-devices0",
            "/var/run/nvidia-container-devices",
            "/var/run/nvidia-container-devices/../GPU-1",
            "/var/run/nvidia-container-devicesimex/0",
        ]);
        assert_eq!(found, Mounted::default());
        let config = json!({"mounts": [
            {"source": "/etc", "destination": "/var/run/nvidia-container-devices/GPU-2"},
        ]});
        assert_eq!(read(ContainerView::new(&config)), Mounted::default());
    }

    #[test]
    fn a_mount_that_names_no_cdi_device_is_a_warning() {
        let found = mounted(&["/var/run/nvidia-container-devices/cdi/nvidia.com"]);
        assert!(found.devices.is_empty());
        assert!(found.warnings[0].contains("cdi/nvidia.com"), "{found:?}");
    }
}
