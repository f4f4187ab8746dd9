//! The option `--load-kmods`: loads the driver's kernel modules and makes its device nodes, where
//! missing.
//!
//! modprobe is started only if a module is missing. Errors only go to the log, as with
//! libnvidia-container, because the next step reports it anyway if there is no driver.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use gpu_host::{DeviceNode, Inventory};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::log::Log;
use super::options::Global;

const MODULES: [&str; 3] = ["nvidia", "nvidia_uvm", "nvidia_modeset"];
/// Absolute paths, because PATH is controlled by the caller.
const MODPROBE: [&str; 4] = [
    "/usr/sbin/modprobe",
    "/sbin/modprobe",
    "/usr/bin/modprobe",
    "/run/current-system/sw/bin/modprobe",
];

/// Loads the modules that are missing.
pub(super) fn load(global: &Global, log: &Log) {
    let missing: Vec<&str> = MODULES
        .into_iter()
        .filter(|module| !Path::new("/sys/module").join(module).exists())
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Err(why) = modprobe(global, &missing) {
        log.warn(format!(
            "skipping kernel modules load due to failure: {why}"
        ));
    } else {
        log.info(format!("loaded kernel modules {}", missing.join(" ")));
    }
}

/// Makes the driver's device nodes that the host's /dev lacks, as nvidia-modprobe does.
pub(super) fn make_nodes(inventory: &Inventory, log: &Log) {
    let controls = inventory.control_nodes.iter().map(|c| &c.node);
    let gpus = inventory.gpus.iter().flat_map(|gpu| {
        let slices = gpu.mig.iter().flat_map(|slice| &slice.nodes);
        std::iter::once(&gpu.node).chain(slices)
    });
    let missing = controls
        .chain(gpus)
        .filter(|n| inventory.missing_nodes.contains(&n.host_path));
    for node in missing {
        let path = &node.host_path;
        match make(node) {
            Ok(()) => log.info(format!("made {}", path.display())),
            Err(e) => log.warn(format!("cannot make {}: {e}", path.display())),
        }
    }
}

fn make(node: &DeviceNode) -> io::Result<()> {
    if let Some(dir) = node.host_path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mode = Mode::from_bits_truncate(node.mode & 0o777);
    let number = makedev(node.major.into(), node.minor.into());
    match mknod(&node.host_path, SFlag::S_IFCHR, mode, number) {
        // Another process has made it meanwhile.
        Err(Errno::EEXIST) => return Ok(()),
        other => other?,
    }
    chown(&node.host_path, Some(node.uid), Some(node.gid))?;
    // mknod(2) applied the umask.
    fs::set_permissions(
        &node.host_path,
        fs::Permissions::from_mode(node.mode & 0o777),
    )
}

fn modprobe(global: &Global, modules: &[&str]) -> Result<(), String> {
    if global.root.as_deref().is_some_and(|r| r != Path::new("/")) {
        return Err("the modules of a driver root are loaded by who owns it".into());
    }
    let program = MODPROBE.into_iter().find(|p| Path::new(p).exists());
    let program = program.ok_or("no modprobe on this host")?;
    let output = Command::new(program)
        .arg("--all")
        .args(modules)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}: {}", output.status, stderr.trim()))
}
