//! Tells systemd about a container's devices. If systemd manages the container's scope, it replaces the device rules
//! by those of the unit at every `systemctl daemon-reload` and whenever a limit of the container changes (`docker
//! update`). This revokes devices that systemd does not know about (toolkit #48, runc #3708).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;

use super::systemd_manager::{DevicePolicy, SystemdManager, is_systemd_here};
use crate::error::{Error, Message};

/// The directory of transient units and their drop-ins, cleared by a reboot (systemd.unit(5)).
const TRANSIENT: &str = "/run/systemd/transient";
const NAME: &str = "60-gpu-container.conf";
const NEW: &str = "60-gpu-container.new";

/// Makes systemd, if it runs, allow the devices in all future rules for the scope with this cgroup. Returns a warning
/// if systemd will not.
pub(super) fn keep_devices(
    cgroup: &Path,
    scope: &str,
    devices: &[DeviceNode],
    manager: Option<&SystemdManager>,
) -> Result<Option<Message>, Error> {
    if is_of_a_user(cgroup) {
        return Ok(None);
    }
    let Some(manager) = manager else {
        return if is_systemd_here() {
            leave_word(cgroup, scope, devices, "it cannot be reached")
        } else {
            Ok(None)
        };
    };
    match tell(manager, scope, devices) {
        Ok(DevicePolicy::Named | DevicePolicy::Everything) => Ok(None),
        Ok(DevicePolicy::Program) => Ok(Some(
            format!(
                "the device rules of {scope} are a program of the low-level runtime's that systemd knows: where it attaches \
                 that one again, this container cannot open its GPUs; with --device nvidia.com/gpu=… or --runtime nvidia it can"
            )
            .into(),
        )),
        Err(why) => leave_word(cgroup, scope, devices, &why.to_string()),
    }
}

/// Prepares for systemd's next daemon-reload, in case systemd does not answer now. Returns a warning, unless systemd
/// makes no rules for the scope.
fn leave_word(
    cgroup: &Path,
    scope: &str,
    devices: &[DeviceNode],
    why: &str,
) -> Result<Option<Message>, Error> {
    if !write_drop_in(cgroup, scope, devices)? {
        return Ok(None);
    }
    let text = format!(
        "systemd was not told of the devices of {scope} ({why}); until its next daemon-reload, an update of the container's \
         limits takes its GPUs away"
    );
    Ok(Some(text.into()))
}

/// Tells systemd of the devices if it makes rules for the scope. If systemd lets the scope open every device, naming
/// devices would restrict it to these.
fn tell(manager: &SystemdManager, scope: &str, devices: &[DeviceNode]) -> io::Result<DevicePolicy> {
    let policy = manager.device_policy(scope)?;
    if policy == DevicePolicy::Named {
        let names: Vec<String> = devices.iter().map(name).collect();
        manager.allow_devices(scope, &names)?;
    }
    Ok(policy)
}

/// Whether the cgroup belongs to a unit of a user's own service manager, which makes no device rules.
fn is_of_a_user(cgroup: &Path) -> bool {
    let is_manager = |part: &OsStr| {
        let name = part.to_str().unwrap_or_default();
        name.starts_with("user@") && name.strip_suffix(".service").is_some()
    };
    cgroup.iter().any(is_manager)
}

/// Writes the drop-in for the scope, which systemd reads at its next daemon-reload. False if the scope's unit file
/// allows every device, so that no drop-in is needed.
fn write_drop_in(cgroup: &Path, scope: &str, devices: &[DeviceNode]) -> Result<bool, Error> {
    let transient = Path::new(TRANSIENT);
    remove_stale(transient, cgroup);
    let dir = transient.join(format!("{scope}.d"));
    if !names_devices(&transient.join(scope), &dir) {
        return Ok(false);
    }
    let file = dir.join(NAME);
    // systemd may read the directory at any time; it ignores a file with this name.
    let new = dir.join(NEW);
    fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&new, text(devices)))
        .and_then(|()| fs::rename(&new, &file))
        .map_err(Error::host(&file))?;
    Ok(true)
}

/// Whether the unit restricts its devices, either in its own file or in a drop-in that systemd has written because
/// the runtime has set the property later.
fn names_devices(unit: &Path, drop_ins: &Path) -> bool {
    let texts = [
        unit.to_owned(),
        drop_ins.join("50-DevicePolicy.conf"),
        drop_ins.join("50-DeviceAllow.conf"),
    ];
    let texts = texts
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    texts.into_iter().any(|text| {
        let mut lines = text.lines();
        lines.any(|line| match line.trim().split_once('=') {
            Some(("DevicePolicy", policy)) => policy != "auto",
            Some(("DeviceAllow", device)) => !device.is_empty(),
            _ => false,
        })
    })
}

/// A device's name as runc passes it to systemd. It needs no node on the host.
fn name(device: &DeviceNode) -> String {
    format!("/dev/char/{}:{}", device.major, device.minor)
}

/// The text of the drop-in.
fn text(devices: &[DeviceNode]) -> String {
    let lines = devices
        .iter()
        .map(|device| format!("DeviceAllow={} rw\n", name(device)));
    format!("[Scope]\n{}", lines.collect::<String>())
}

/// Removes the drop-ins of containers that have ended: drop-ins without a unit file and without a cgroup next to this
/// one. This is done here because we are not called when a container ends.
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
    fn a_scope_that_names_no_device_gets_no_drop_in() {
        let root = tempfile::tempdir().unwrap();
        let (unit, dir) = (root.path().join("x.scope"), root.path().join("x.scope.d"));
        fs::create_dir(&dir).unwrap();
        assert!(!names_devices(&unit, &dir));
        // The unit file that runc makes for a privileged container.
        fs::write(&unit, "[Scope]\nDevicePolicy=auto\nDeviceAllow=\n").unwrap();
        assert!(!names_devices(&unit, &dir));
        fs::write(
            dir.join("50-DevicePolicy.conf"),
            "[Scope]\nDevicePolicy=strict\n",
        )
        .unwrap();
        assert!(names_devices(&unit, &dir));
        fs::remove_dir_all(&dir).unwrap();
        fs::write(&unit, "[Scope]\nDeviceAllow=/dev/char/1:3 rwm\n").unwrap();
        assert!(names_devices(&unit, &dir));
    }

    #[test]
    fn a_users_own_manager_is_not_told() {
        let of_a_user =
            "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/docker-1.scope";
        assert!(is_of_a_user(Path::new(of_a_user)));
        assert!(!is_of_a_user(Path::new(
            "/sys/fs/cgroup/system.slice/docker-1.scope"
        )));
    }

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
