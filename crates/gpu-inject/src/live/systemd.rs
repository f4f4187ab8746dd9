//! systemd's own idea of a container's devices. Where it manages the container's scope, it
//! builds the device rules anew at every `systemctl daemon-reload`, from the unit alone, and
//! takes away what was allowed behind its back (toolkit #48, runc #3708). A drop-in tells it.

use std::fs;
use std::io;
use std::path::Path;

use gpu_host::DeviceNode;

use crate::error::Error;

/// Drop-ins of units that systemd does not keep; gone after a reboot (systemd.unit(5)).
const TRANSIENT: &str = "/run/systemd/transient";
const NAME: &str = "60-gpu-container.conf";

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
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&file, text(devices)))
        .map_err(Error::host(&file))
}

/// As runc names devices to systemd: needs no node on the host.
fn text(devices: &[DeviceNode]) -> String {
    let lines = devices
        .iter()
        .map(|d| format!("DeviceAllow=/dev/char/{}:{} rw\n", d.major, d.minor));
    format!("[Scope]\n{}", lines.collect::<String>())
}

/// Removes the drop-ins of containers beside this one that are no more. Nobody calls us when
/// a container ends.
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
        let is_gone = siblings
            .join(scope)
            .symlink_metadata()
            .is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        // Another's scope of another slice has no file of that name of ours.
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
        for name in ["here", "gone", "theirs"] {
            fs::create_dir_all(transient.join(format!("docker-{name}.scope.d"))).unwrap();
        }
        for name in ["here", "gone"] {
            let dir = transient.join(format!("docker-{name}.scope.d"));
            fs::write(dir.join(NAME), text(&[])).unwrap();
        }
        fs::write(transient.join("docker-theirs.scope.d/50-x.conf"), "").unwrap();
        fs::create_dir_all(slice.join("docker-here.scope")).unwrap();
        forget_gone(&transient, &slice.join("docker-new.scope"));
        assert!(transient.join("docker-here.scope.d").join(NAME).exists());
        assert!(!transient.join("docker-gone.scope.d").exists());
        assert!(transient.join("docker-theirs.scope.d/50-x.conf").exists());
    }
}
