//! Tests `gpusetup bundle` as a program: its exit codes, what it writes and what it leaves alone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// Runs it in a directory of its own, on an empty tree unless one is already there.
fn bundle(dir: &Path, args: &[&str]) -> Output {
    fs::create_dir_all(dir.join("host")).unwrap();
    command(dir, args).output().unwrap()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
    command
        .current_dir(dir)
        .args(["--root", "host", "bundle"])
        .args(args);
    command
}

#[test]
fn a_host_without_gpu_and_engine_gets_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let out = bundle(dir.path(), &[]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let stdout = String::from_utf8(out.stdout).unwrap();
    let name = stdout.trim();
    assert!(
        name.starts_with("gpusetup-bundle-") && name.ends_with("Z.tar.gz"),
        "{stdout}"
    );
    let made = fs::metadata(dir.path().join(name)).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    // It wrote nothing beside the archive, and nothing in the tree.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(fs::read_dir(dir.path().join("host")).unwrap().count(), 0);
}

/// A clock without a battery, or the program that packed a file, can set any year.
#[test]
fn a_file_dated_before_1970_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("host");
    fs::create_dir_all(host.join("var/lib/gpusetup")).unwrap();
    let file = fs::File::create(host.join("daemon.json")).unwrap();
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1_000_000);
    file.set_modified(before).unwrap();
    let receipt = json!({
        "schema": 1, "version": "0.1.0", "directories": [], "services": [],
        "changes": [{
            "path": "/daemon.json", "before": null, "after": "{}", "mode": 420, "why": "",
            "kind": {"kind": "own"},
        }],
    });
    fs::write(
        host.join("var/lib/gpusetup/receipt.json"),
        receipt.to_string(),
    )
    .unwrap();
    let out = bundle(dir.path(), &["-o", "x.tar.gz"]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
}

#[test]
fn json_output_is_one_document() {
    let dir = tempfile::tempdir().unwrap();
    let out = bundle(dir.path(), &["--json", "-o", "x.tar.gz"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (out.status.code(), &document["changed"]),
        (Some(0), &false.into())
    );
    let length = fs::metadata(dir.path().join("x.tar.gz")).unwrap().len();
    assert_eq!(document["bytes"], length);
}

#[test]
fn standard_output_contains_only_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let out = bundle(dir.path(), &["--output", "-"]);
    assert_eq!(
        (out.status.code(), &out.stdout[..2]),
        (Some(0), &[0x1f, 0x8b][..])
    );
    assert_eq!(
        bundle(dir.path(), &["--output", "-", "--json"])
            .status
            .code(),
        Some(4)
    );
}

#[test]
fn an_unwritable_output_is_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let out = bundle(dir.path(), &["-o", "no/such/x.tar.gz"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no/such/x.tar.gz"));
    fs::create_dir(dir.path().join("d")).unwrap();
    assert_eq!(bundle(dir.path(), &["-o", "d"]).status.code(), Some(1));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// Files that only root may read are named and do not make it fail.
#[test]
fn without_root_unreadable_files_are_listed() {
    if !skips::has(&[skips::Need::Root]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("host/etc/docker");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("daemon.json"), "{}").unwrap();
    fs::set_permissions(etc.join("daemon.json"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Another user may not have access to the directory of the program.
    let program = dir.path().join("gpusetup");
    // A copy by another process: one by this process could be refused as busy, because a process that another test starts
    // meanwhile has its descriptor for a moment.
    let built = env!("CARGO_BIN_EXE_gpusetup");
    let copied = Command::new("cp").arg(built).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(program);
    command.current_dir(dir.path()).uid(65534).gid(65534);
    let out = command.args(["--root", "host", "bundle", "--json", "-o", "x.tar.gz"]);
    let out = out.output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(
        document["unread"].to_string().contains("daemon.json"),
        "{document}"
    );
}

/// JSON on one line that is too long: none of it can be shown, and that is reported.
#[test]
fn a_file_without_a_complete_line_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let cdi = dir.path().join("host/etc/cdi");
    fs::create_dir_all(&cdi).unwrap();
    let spec = format!("{{\"kind\": \"{}\"}}", "x".repeat(300 << 10));
    fs::write(cdi.join("nvidia.json"), spec).unwrap();
    let out = bundle(dir.path(), &["--json", "-o", "x.tar.gz"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let unread = document["unread"].to_string();
    assert!(
        unread.contains("/etc/cdi/nvidia.json: left out"),
        "{document}"
    );
}
