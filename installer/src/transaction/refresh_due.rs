//! A refresh of the files that describe the GPUs which came while another run held the lock: that run may have looked at the
//! GPUs before the event, or writes none of these files. It starts the refresh once it has released the lock.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::host::Host;

/// Says that a refresh is due. In /run, since a boot describes the GPUs anyway.
const MARK: &str = "/run/gpusetup.refresh-due";
/// Runs the refresh where systemd does not.
const REFRESH: [&str; 3] = [
    "/usr/lib/gpu-container/gpu-container",
    "refresh",
    "--settle",
];

/// Leaves it to the run that holds the lock. The caller then tries the lock once more, since that run may just have ended.
pub fn leave(host: &Host) {
    // A mark that cannot be made leaves what was so without it: the next event refreshes.
    let _ = File::create(mark(host));
}

/// Starts a refresh that was left to this run. The lock must have been released.
pub fn start(host: &Host) {
    match fs::remove_file(mark(host)) {
        Ok(()) if host.is_live() => {}
        Err(e) if e.kind() != ErrorKind::NotFound => return log::debug!("{MARK}: {e}"),
        _ => return,
    }
    let by_systemd = ["systemctl", "start", "--no-block", "gpusetup-cdi.service"];
    let argv = if host.root().exists("/run/systemd/system") {
        &by_systemd[..]
    } else {
        &REFRESH[..]
    };
    let started = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(e) = started {
        log::debug!("{}: {e}", argv.join(" "));
    }
}

fn mark(host: &Host) -> PathBuf {
    host.root().host_path(Path::new(MARK))
}
