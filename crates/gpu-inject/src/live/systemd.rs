//! Tells systemd about a container's devices with a drop-in. If systemd manages the container's
//! scope, every `systemctl daemon-reload` rebuilds the device rules from the unit alone, which
//! revokes devices that were allowed without systemd (toolkit #48, runc #3708).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;

use crate::error::Error;

/// The directory of transient units and their drop-ins, cleared by a reboot (systemd.unit(5)).
const TRANSIENT: &str = "/run/systemd/transient";
const NAME: &str = "60-gpu-container.conf";
const NEW: &str = "60-gpu-container.new";

/// Writes the drop-in for the scope with this cgroup, if systemd runs.
pub(super) fn keep_devices(cgroup: &Path, devices: &[DeviceNode]) -> Result<(), Error> {
    let scope = cgroup.file_name().and_then(|n| n.to_str());
    let Some(scope) = scope.filter(|n| n.strip_suffix(".scope").is_some()) else {
        return Ok(());
    };
    // sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    let transient = Path::new(TRANSIENT);
    remove_stale(transient, cgroup);
    let dir = transient.join(format!("{scope}.d"));
    let file = dir.join(NAME);
    // systemd may read the directory at any time; it ignores a file with this name.
    let new = dir.join(NEW);
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&new, text(devices)))
        .and_then(|()| fs::rename(&new, &file))
        .map_err(Error::host(&file))
}

/// The drop-in. Devices are named as runc does it, which needs no node on the host.
fn text(devices: &[DeviceNode]) -> String {
    let lines = devices
        .iter()
        .map(|d| format!("DeviceAllow=/dev/char/{}:{} rw\n", d.major, d.minor));
    format!("[Scope]\n{}", lines.collect::<String>())
}

/// Removes the drop-ins of containers that have ended: those without a unit file and without a
/// cgroup next to this one. It is done here because we are not called when a container ends.
fn remove_stale(transient: &Path, cgroup: &Path) {
    let Some(siblings) = cgroup.parent() else {
        return;
    };
    let Ok(entries) = fs::read_dir(transient) else {
        return;
    };
    for dir in entries.flatten().map(|e| e.path()) {
        let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(scope) = name
            .strip_suffix(".d")
            .filter(|n| n.strip_suffix(".scope").is_some())
        else {
            continue;
        };
        let is_missing = |path: PathBuf| {
            let metadata = path.symlink_metadata();
            metadata.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        let has_ended = is_missing(transient.join(scope)) && is_missing(siblings.join(scope));
        // A directory that is not ours has no file with this name and stays.
        if has_ended && fs::remove_file(dir.join(NAME)).is_ok() {
            let _ = fs::remove_dir(&dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drop_ins_of_ended_containers_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let (transient, slice) = (root.path().join("t"), root.path().join("slice"));
        for name in ["here", "elsewhere", "gone", "theirs"] {
            fs::create_dir_all(transient.join(format!("docker-{name}.scope.d"))).unwrap();
        }
        // The scope of a pod in another slice: its cgroup is not next to the new one.
        fs::write(transient.join("docker-elsewhere.scope"), "").unwrap();
        for name in ["here", "elsewhere", "gone"] {
            let dir = transient.join(format!("docker-{name}.scope.d"));
            fs::write(dir.join(NAME), text(&[])).unwrap();
        }
        fs::write(transient.join("docker-theirs.scope.d/50-x.conf"), "").unwrap();
        fs::create_dir_all(slice.join("docker-here.scope")).unwrap();
        remove_stale(&transient, &slice.join("docker-new.scope"));
        for name in ["here", "elsewhere"] {
            let dir = transient.join(format!("docker-{name}.scope.d"));
            assert!(dir.join(NAME).exists(), "{name}");
        }
        assert!(!transient.join("docker-gone.scope.d").exists());
        assert!(transient.join("docker-theirs.scope.d/50-x.conf").exists());
    }
}
