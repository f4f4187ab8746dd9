//! systemd's own idea of a container's devices. Where it manages the container's scope, it
//! builds the device rules anew at every `systemctl daemon-reload`, from the unit alone, and
//! takes away what was allowed behind its back (toolkit #48, runc #3708). A drop-in tells it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;

use crate::error::Error;

/// Drop-ins of units that systemd does not keep; gone after a reboot (systemd.unit(5)).
const TRANSIENT: &str = "/run/systemd/transient";
const NAME: &str = "60-gpu-container.conf";
const NEW: &str = "60-gpu-container.new";

/// Leaves the drop-in for the scope that is this cgroup, where systemd runs.
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
    forget_gone(transient, cgroup);
    let dir = transient.join(format!("{scope}.d"));
    let file = dir.join(NAME);
    // systemd may read at any moment, and takes no notice of this name.
    let new = dir.join(NEW);
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&new, text(devices)))
        .and_then(|()| fs::rename(&new, &file))
        .map_err(Error::host(&file))
}

/// As runc names devices to systemd: needs no node on the host.
fn text(devices: &[DeviceNode]) -> String {
    let lines = devices
        .iter()
        .map(|d| format!("DeviceAllow=/dev/char/{}:{} rw\n", d.major, d.minor));
    format!("[Scope]\n{}", lines.collect::<String>())
}

/// Removes the drop-ins of containers that are no more: systemd has no unit file of theirs, and
/// there is no cgroup beside this one. Nobody calls us when a container ends.
fn forget_gone(transient: &Path, cgroup: &Path) {
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
        let is_no_more = |path: PathBuf| {
            let found = path.symlink_metadata();
            found.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        };
        let is_gone = is_no_more(transient.join(scope)) && is_no_more(siblings.join(scope));
        // What is not ours has no file of that name.
        if is_gone && fs::remove_file(dir.join(NAME)).is_ok() {
            let _ = fs::remove_dir(&dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let (transient, slice) = (root.path().join("t"), root.path().join("slice"));
        for name in ["here", "elsewhere", "gone", "theirs"] {
            fs::create_dir_all(transient.join(format!("docker-{name}.scope.d"))).unwrap();
        }
        // Of a pod in a slice of its own, where no cgroup beside the new one is its.
        fs::write(transient.join("docker-elsewhere.scope"), "").unwrap();
        for name in ["here", "elsewhere", "gone"] {
            let dir = transient.join(format!("docker-{name}.scope.d"));
            fs::write(dir.join(NAME), text(&[])).unwrap();
        }
        fs::write(transient.join("docker-theirs.scope.d/50-x.conf"), "").unwrap();
        fs::create_dir_all(slice.join("docker-here.scope")).unwrap();
        forget_gone(&transient, &slice.join("docker-new.scope"));
        for name in ["here", "elsewhere"] {
            let dir = transient.join(format!("docker-{name}.scope.d"));
            assert!(dir.join(NAME).exists(), "{name}");
        }
        assert!(!transient.join("docker-gone.scope.d").exists());
        assert!(transient.join("docker-theirs.scope.d/50-x.conf").exists());
    }
}
