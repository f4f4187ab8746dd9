//! Tests that undo and plan know what an engine still has although its files have it no more: after an undo without a
//! restart, after somebody has removed what gpusetup wrote, after the default runtime was taken back. Needs root, busybox
//! and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use std::fs;

use doctor_host::{CONFIG_TOML, DAEMON_JSON, DROP_IN};
use running::Running;
use serde_json::{Value, json};

const INSTALL: &[&str] = &["install", "--yes", "--no-verify"];
const UNDO: &[&str] = &["undo", "--yes"];
const AS_BEFORE: &str = "this host is as it was before gpusetup";

fn set_up(more: &[&str]) -> Option<(Running, String, String)> {
    let running = Running::new()?;
    let before = (
        running.host.read(DAEMON_JSON),
        running.host.read(CONFIG_TOML),
    );
    running.ends(&[INSTALL, more].concat(), 0);
    Some((running, before.0, before.1))
}

fn document(running: &Running, args: &[&str], code: i32) -> Value {
    let out = running.run(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{stderr}");
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn an_undo_that_restarts_nothing_does_not_say_that_all_is_as_before() {
    let Some((running, ..)) = set_up(&[]) else {
        return;
    };
    let said = running
        .ends(&[UNDO, &["--no-restart"]].concat(), 0)
        .replace('\n', " ");
    assert!(!said.contains(AS_BEFORE), "{said}");
    for part in [
        "Undone in the files",
        "go on with what gpusetup had set up until they are restarted",
        "systemctl daemon-reload && systemctl restart docker.service",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(running.host.read("state/invocation").trim(), "2");
}

/// Somebody has put both files back by hand, and restarted nothing.
#[test]
fn undo_restarts_what_still_runs_with_what_gpusetup_wrote() {
    let Some((running, docker, containerd)) = set_up(&[]) else {
        return;
    };
    running.host.write(DAEMON_JSON, &docker);
    running.host.write(CONFIG_TOML, &containerd);
    running.host.remove(DROP_IN);
    let plan = document(&running, &["undo", "--dry-run"], 2);
    assert_eq!(plan["restart_required"], json!([]));
    let said = running.ends(UNDO, 0).replace('\n', " ");
    assert!(said.contains(AS_BEFORE), "{said}");
    assert_eq!(running.host.read("state/invocation").trim(), "3", "{said}");
    assert_eq!(
        running.host.read("state/containerd-invocation").trim(),
        "3",
        "{said}"
    );
    assert!(
        !running
            .host
            .read("state/docker-info")
            .contains("gpu-container")
    );
}

/// They were restarted since: there is nothing to do.
#[test]
fn undo_restarts_nothing_that_was_restarted_since() {
    let Some((running, docker, containerd)) = set_up(&[]) else {
        return;
    };
    running.host.write(DAEMON_JSON, &docker);
    running.host.write(CONFIG_TOML, &containerd);
    running.host.remove(DROP_IN);
    for service in ["docker.service", "containerd.service"] {
        let restart = running.chroot(&["/usr/bin/systemctl", "restart", service]);
        let status = std::process::Command::new(&restart[0])
            .args(&restart[1..])
            .status();
        assert!(status.unwrap().success());
    }
    running.ends(UNDO, 0);
    assert_eq!(running.host.read("state/invocation").trim(), "3");
    assert_eq!(running.host.read("state/containerd-invocation").trim(), "3");
}

/// The file is gone, and plan wants it again; that the daemon still has what was in it is said.
#[test]
fn a_file_of_ours_that_was_removed_is_noticed() {
    let Some((running, ..)) = set_up(&[]) else {
        return;
    };
    fs::remove_file(running.host.path(CONFIG_TOML)).unwrap();
    let status = running.ends(&[], 0).replace('\n', " ");
    let words = "which gpusetup wrote, was removed after it started";
    let one_line: Vec<&str> = status.split_whitespace().collect();
    assert!(one_line.join(" ").contains(words), "{status}");
    let plan = document(&running, &["plan"], 2);
    assert_eq!(plan["restarts_due"][0]["whose"], "theirs", "{plan}");
}

#[test]
fn a_default_that_was_taken_back_without_a_restart_is_due() {
    let Some((running, ..)) = set_up(&["--default-runtime"]) else {
        return;
    };
    assert!(
        running
            .host
            .read("state/docker-info")
            .contains("\"DefaultRuntime\":\"nvidia\"")
    );
    running.ends(
        &[
            "install",
            "--yes",
            "--no-restart",
            "--no-default-runtime",
            "--engine",
            "docker",
        ],
        0,
    );
    let plan = document(&running, &["plan", "--engine", "docker"], 2);
    assert_eq!(
        plan["restart_required"],
        json!(["docker.service"]),
        "{plan}"
    );
    assert!(
        plan["restarts_due"][0]["why"]
            .to_string()
            .contains("default"),
        "{plan}"
    );
    running.ends(&[INSTALL, &["--engine", "docker"]].concat(), 0);
    assert!(
        running
            .host
            .read("state/docker-info")
            .contains("\"DefaultRuntime\":\"runc\"")
    );
    let plan = document(&running, &["plan", "--engine", "docker"], 0);
    assert_eq!(plan["restart_required"], json!([]));
}

#[test]
fn doctor_does_not_call_set_up_what_is_not_in_effect() {
    let Some(running) = Running::new() else {
        return;
    };
    running.ends(&["install", "--yes", "--no-restart"], 0);
    let words = |running: &Running| {
        let said = running.ends(&["doctor"], 2);
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said = words(&running);
    assert!(
        said.contains("set up, but not in effect until it is restarted"),
        "{said}"
    );
    running.stop_docker();
    let said = words(&running);
    assert!(said.contains("set up, but it does not run"), "{said}");
}
