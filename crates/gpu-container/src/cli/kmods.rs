//! `--load-kmods`: the driver's kernel modules, where the host has not loaded them.
//!
//! The one place of this program that starts another, and only where a module is missing:
//! on a host whose driver is up nothing is run. What goes wrong is for the log, as with the
//! peer: the driver's absence is told in the next step anyway.

use std::path::Path;
use std::process::{Command, Stdio};

use super::log::Log;
use super::options::Global;

const MODULES: [&str; 3] = ["nvidia", "nvidia_uvm", "nvidia_modeset"];
/// By absolute path: PATH is the caller's.
const MODPROBE: [&str; 4] = [
    "/usr/sbin/modprobe",
    "/sbin/modprobe",
    "/usr/bin/modprobe",
    "/run/current-system/sw/bin/modprobe",
];

/// Loads those that are missing.
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

fn modprobe(global: &Global, modules: &[&str]) -> Result<(), String> {
    if global.root.as_deref().is_some_and(|r| r != Path::new("/")) {
        return Err("the modules of a driver root are loaded by who owns it".into());
    }
    let program = MODPROBE.into_iter().find(|p| Path::new(p).exists());
    let program = program.ok_or("no modprobe on this host")?;
    let done = Command::new(program)
        .arg("--all")
        .args(modules)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program}: {}: {}", done.status, said.trim()))
}
