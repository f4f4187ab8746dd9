//! OCI bundles for starting containers with a low-level runtime alone, as an engine would: used for our runtime on
//! runc and on crun.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// A name that no container has had before.
pub(crate) fn fresh(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Mounts a fresh overlay over the image at `at`, as engines do for each container. Unmounts what was there before.
pub(crate) fn layer(image: &Path, at: &Path) -> Result<(), String> {
    let _ = umount2(at, MntFlags::MNT_DETACH);
    let kept = at.with_extension(fresh("layer"));
    for dir in [at, &kept.join("upper"), &kept.join("work")] {
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let options = format!(
        "lowerdir={},upperdir={1}/upper,workdir={1}/work",
        image.display(),
        kept.display()
    );
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .map_err(|e| format!("a layer over the image: {e}"))
}

/// Makes a bundle with a fresh overlay whose container runs `arguments`.
pub(crate) fn make(
    image: &Path,
    place: &Path,
    cgroup: &str,
    env: &[&str],
    arguments: &[&str],
) -> Result<PathBuf, String> {
    layer(image, &place.join("rootfs"))?;
    let mut environment = vec!["PATH=/usr/bin:/bin", "NVIDIA_DRIVER_CAPABILITIES=all"];
    environment.extend(env);
    let mounted = |kind: &str, at: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let quiet = ["nosuid", "noexec", "nodev"];
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": arguments, "env": environment, "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "gpu-run",
        "mounts": [
            mounted("proc", "/proc", &[]),
            mounted("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mounted("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mounted("tmpfs", "/dev/shm", &quiet),
            mounted("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": format!("{cgroup}/{}", fresh("bundle")),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
        },
    });
    let file = place.join("config.json");
    fs::write(&file, config.to_string()).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(place.to_owned())
}

/// A copy of the host's policy that names this low-level runtime alone. Returns the path of the file.
pub(crate) fn policy(low_level: &str) -> Result<PathBuf, String> {
    let root = PathBuf::from(format!("/tmp/policy-{low_level}"));
    let file = root.join("etc/nvidia-container-runtime/config.toml");
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(|e| e.to_string())?;
    }
    let own = Path::new("/etc/nvidia-container-runtime/config.toml");
    if own.exists() {
        fs::copy(own, &file).map_err(|e| e.to_string())?;
    }
    let mut command = Command::new("gpusetup");
    command.arg("config").arg("set").arg("--root").arg(&root);
    command.arg(format!("nvidia-container-runtime.runtimes={low_level}"));
    let outcome = crate::command::run(&mut command, std::time::Duration::from_secs(10));
    if outcome.is_success() {
        Ok(file)
    } else {
        Err(format!("the shim's policy: {}", outcome.failure()))
    }
}
