//! Reads requests made by mounts: /dev/null mounted at a path below a well-known directory.
//!
//! Kubernetes' device plugin requests devices this way in clusters that do not trust environment
//! variables, which any image and any pod can set. Whoever may mount host paths may make such a
//! request, as with nvidia-container-toolkit (`internal/config/image/cuda_image.go`); a cluster
//! restricts that by its policy on hostPath.

use std::path::{Component, Path, PathBuf};

use crate::error::{Excerpt, Message};
use crate::oci::ContainerView;

const PARENT: &str = "/var/run/nvidia-container-devices";

/// The last part of [`PARENT`], by which a destination in any spelling is noticed.
pub(super) const DIRECTORY: &str = "nvidia-container-devices";

/// The requests made by mounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MountRequests {
    /// The names of devices.
    pub(super) devices: Vec<String>,
    /// The `N` or `all` of `imex/N`.
    pub(super) channels: Vec<String>,
    /// Warnings about mounts that were ignored.
    pub(super) warnings: Vec<Message>,
}

/// Whether a mount with this destination may be a request. May be true for others.
pub(super) fn may_be_request(destination: &str) -> bool {
    destination.contains(DIRECTORY)
}

pub(super) fn read(container: ContainerView<'_>) -> MountRequests {
    let mut requests = MountRequests::default();
    let mut seen: Vec<PathBuf> = Vec::new();
    for (source, destination) in container.mounts() {
        if clean(source) != Path::new("/dev/null") {
            continue;
        }
        let destination = clean(destination);
        // strip_prefix compares whole components: `…-devices0` is not in the directory.
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
            requests.channels.push(channel.to_owned());
        } else if let Some(device) = name.strip_prefix("cdi/") {
            match qualified(device) {
                Some(name) => requests.devices.push(name),
                None => requests.warnings.push(Message::of(format_args!(
                    "the mount {} names no CDI device and is passed over; it should look like {PARENT}/cdi/nvidia.com/gpu/0",
                    Excerpt::of(&destination)
                ))),
            }
        } else {
            requests.devices.push(name.to_owned());
        }
        seen.push(destination);
    }
    requests
}

/// The qualified name for `vendor/class/device` or `vendor/class=device`.
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

/// The path without `.`, `..` and doubled slashes. It is resolved lexically, because a mount's
/// destination is only a name here and never looked up.
fn clean(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requests(destinations: &[&str]) -> MountRequests {
        let mounts: Vec<_> = destinations
            .iter()
            .map(|d| json!({"source": "/dev/null", "destination": d}))
            .collect();
        let config = json!({ "mounts": mounts });
        read(ContainerView::new(&config))
    }

    #[test]
    fn mounts_name_devices_cdi_devices_and_imex_channels() {
        let requested = requests(&[
            "/var/run/nvidia-container-devices/GPU-1",
            "/var/run/nvidia-container-devices//GPU-1/",
            "/var/run/nvidia-container-devices/0:1",
            "/var/run/nvidia-container-devices/cdi/nvidia.com/gpu/0",
            "/var/run/nvidia-container-devices/cdi/nvidia.com/gpu=1",
            "/var/run/nvidia-container-devices/imex/5",
        ]);
        assert_eq!(
            requested.devices,
            ["GPU-1", "0:1", "nvidia.com/gpu=0", "nvidia.com/gpu=1"]
        );
        assert_eq!(requested.channels, ["5"]);
        assert!(requested.warnings.is_empty());
    }

    #[test]
    fn a_mount_outside_the_directory_is_no_request() {
        let requested = requests(&[
            "/var/run/nvidia-container-devices0",
            "/var/run/nvidia-container-devices",
            "/var/run/nvidia-container-devices/../GPU-1",
            "/var/run/nvidia-container-devicesimex/0",
        ]);
        assert_eq!(requested, MountRequests::default());
        let config = json!({"mounts": [
            {"source": "/etc", "destination": "/var/run/nvidia-container-devices/GPU-2"},
        ]});
        assert_eq!(read(ContainerView::new(&config)), MountRequests::default());
    }

    #[test]
    fn a_mount_without_a_valid_cdi_name_is_a_warning() {
        let requested = requests(&["/var/run/nvidia-container-devices/cdi/nvidia.com"]);
        assert!(requested.devices.is_empty());
        assert!(
            requested.warnings[0].contains("cdi/nvidia.com"),
            "{requested:?}"
        );
    }
}
