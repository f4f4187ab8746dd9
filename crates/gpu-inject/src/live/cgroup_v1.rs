//! Allows devices in cgroup v1 by lines written to `devices.allow` (Linux
//! Documentation/admin-guide/cgroup-v1/devices.rst).

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;

use super::cgroup_paths::{below, cgroup_mounts};
use crate::error::Error;

/// The container's directory in the devices hierarchy, if that hierarchy is mounted.
pub(super) fn directory(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        controllers
            .split(',')
            .any(|c| c == "devices")
            .then(|| parts.next())?
    })?;
    cgroup_mounts(mountinfo)
        .filter(|(_, _, kind, options)| {
            *kind == "cgroup" && options.split(',').any(|o| o == "devices")
        })
        .find_map(|(root, point, ..)| below(root, point, path))
}

/// Allows the nodes in these cgroups. A cgroup can allow no more than its parent, so the outermost comes first.
pub(super) fn allow(own: &[PathBuf], nodes: &[DeviceNode]) -> Result<(), Error> {
    own.iter().rev().try_for_each(|dir| allow_in(dir, nodes))
}

fn allow_in(dir: &Path, nodes: &[DeviceNode]) -> Result<(), Error> {
    let path = dir.join("devices.allow");
    for node in nodes {
        let rule = format!("c {}:{} rw", node.major, node.minor);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| f.write_all(rule.as_bytes()))
            .map_err(Error::host(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_hierarchy_is_found() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 20 0:27 / /sys/fs/cgroup/devices rw shared:9 - cgroup cgroup rw,devices\n";
        let container_dir = directory("9:cpu:/x\n5:devices:/docker/abc\n0::/y\n", mounts);
        assert_eq!(
            container_dir,
            Some("/sys/fs/cgroup/devices/docker/abc".into())
        );
        assert_eq!(directory("0::/y\n", mounts), None);
        let inner = mounts.replace("0:27 / ", "0:27 /docker ");
        assert_eq!(
            directory("5:devices:/docker/abc", &inner),
            Some("/sys/fs/cgroup/devices/abc".into())
        );
    }
}
