//! Tests gpusetup with the real dockerd of this machine, on a separate host made with an overlay.
//! Needs root, dockerd, busybox and the workspace's programs.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use skips::Need;

#[test]
fn docker_is_reloaded_if_a_reload_suffices() {
    let bin = Path::new(env!("CARGO_BIN_EXE_gpusetup")).parent().unwrap();
    let needed = [
        bin.join("fake-driver"),
        bin.join("libfake_nvml.so"),
        bin.join("gpu-container"),
    ];
    if !skips::has(&[Need::Root, Need::Docker, Need::Busybox]) {
        return;
    }
    if let Some(missing) = needed.iter().find(|p| !p.exists()) {
        skips::skip(Need::Workspace, &format!("no {}", missing.display()));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let live = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live");
    // It has its own PID namespace, so that processes it leaves behind end with it.
    let out = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(live.join("host"))
        .args([bin, dir.path(), &live.join("docker")])
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&out.stdout);
    if out.status.code() == Some(77) {
        let why = String::from_utf8_lossy(&out.stderr);
        skips::skip(Need::OverlayHost, &why);
        return;
    }
    assert!(
        out.status.success(),
        "{stdout}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    println!("{stdout}");
}
