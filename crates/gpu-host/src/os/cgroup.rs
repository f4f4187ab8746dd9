//! Which kind of control group hierarchy the host has.

use std::path::Path;

use serde::Serialize;

use crate::root::Root;

/// The kind of control group hierarchy. It decides how device access is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Each controller is mounted on its own; devices are granted by `devices.allow`.
    V1,
    /// v1 controllers, and a v2 tree without controllers at `/sys/fs/cgroup/unified`; devices are granted by `devices.allow`.
    Hybrid,
    /// One tree for all controllers; devices are granted by eBPF programs.
    V2,
    /// No hierarchy is mounted, or the tree is not a running system.
    Unknown,
}

/// The kind of hierarchy that is mounted at `/sys/fs/cgroup`. The versions have different files in
/// the root of the hierarchy (Linux Documentation/admin-guide/cgroup-v2.rst, "Interface Files").
pub fn version(root: &Root) -> Version {
    let top = Path::new("/sys/fs/cgroup");
    if root.exists(top.join("cgroup.controllers")) {
        Version::V2
    } else if root.exists(top.join("unified/cgroup.controllers")) {
        Version::Hybrid
    } else if root.exists(top.join("devices")) {
        Version::V1
    } else {
        Version::Unknown
    }
}
