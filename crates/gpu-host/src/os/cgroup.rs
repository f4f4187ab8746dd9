//! Which control group hierarchy the host has.

use std::path::Path;

use serde::Serialize;

use crate::root::Root;

/// The kind of hierarchy; decides how device access is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Controllers mounted one by one: `devices.allow`.
    V1,
    /// v1 controllers with an empty v2 tree at `/sys/fs/cgroup/unified`: `devices.allow`.
    Hybrid,
    /// One tree: eBPF device programs.
    V2,
    /// Not mounted, or a directory tree that is not running.
    Unknown,
}

/// Which one is mounted at `/sys/fs/cgroup`: the two have different files at the top
/// (Linux Documentation/admin-guide/cgroup-v2.rst, "Interface Files").
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
