//! Tests that plan, status and install know what is due and what does not run: a restart that was left out, somebody
//! else's change, a run that did not end, an engine that keeps crashing, an answer that could not be had. Needs root,
//! busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use std::fs;
use std::os::unix::fs::MetadataExt;

use doctor_host::{CONFIG_TOML, DAEMON_JSON, DROP_IN};
use nix::sys::stat::{major, minor};
use running::Running;
use serde_json::{Value, json};

const NO_RESTART: &[&str] = &["install", "--yes", "--no-restart"];
const INSTALL: &[&str] = &["install", "--yes", "--no-verify"];
const JOURNAL: &str = "var/lib/gpusetup/journal.json";
const NOTHING: &str = "Nothing to do: everything is set up.";

/// The document that a command prints, which must end with that code.
fn document(running: &Running, args: &[&str], code: i32) -> Value {
    let out = running.run(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{stderr}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// What a command says, on one line.
fn said(running: &Running, args: &[&str], code: i32) -> String {
    running.ends(args, code).replace('\n', " ")
}

fn set_up() -> Option<Running> {
    let running = Running::new()?;
    running.ends(INSTALL, 0);
    assert!(said(&running, &["plan"], 0).contains(NOTHING));
    Some(running)
}

#[test]
fn a_restart_that_was_left_out_is_due_until_it_is_done() {
    let Some(running) = Running::new() else {
        return;
    };
    running.ends(NO_RESTART, 0);
    let plan = said(&running, &["plan"], 2);
    assert!(!plan.contains(NOTHING), "{plan}");
    assert!(plan.contains("3 running containers stop"), "{plan}");
    let plan = document(&running, &["plan"], 2);
    assert_eq!(plan["changed"], true);
    let services = json!(["docker.service", "containerd.service"]);
    assert_eq!(plan["restart_required"], services);
    assert_eq!(plan["restarts_due"][0]["whose"], "ours");
    assert_eq!(plan["diff"], json!([]));
    let status = said(&running, &[], 0);
    assert!(status.contains("restart due: "), "{status}");
    assert!(status.contains("sudo gpusetup install"), "{status}");

    // Once more without a restart: it changes nothing, and says what is due.
    let plan = document(&running, &["plan", "--no-restart"], 2);
    assert_eq!(plan["changed"], false);
    assert_eq!(plan["restart_required"], services);
    let again = said(&running, NO_RESTART, 0);
    assert!(again.contains("Restart due: docker: "), "{again}");
    assert!(again.contains("systemctl daemon-reload && systemctl restart docker.service"));
    let again = document(&running, NO_RESTART, 0);
    assert_eq!(again["changed"], false);
    assert_eq!(again["restart_required"], services);

    let done = document(&running, INSTALL, 0);
    assert_eq!(done["changed"], true);
    assert_eq!(done["restart_required"], json!([]));
    assert_eq!(done["restarts_due"], json!([]));
    assert_eq!(running.host.read("state/invocation").trim(), "2");
    assert_eq!(running.host.read("state/containerd-invocation").trim(), "2");
    assert!(said(&running, &["plan"], 0).contains(NOTHING));
    assert!(said(&running, INSTALL, 0).contains(NOTHING));
    assert_eq!(running.host.read("state/invocation").trim(), "2");
}

#[test]
fn a_restart_by_somebody_else_counts() {
    let Some(running) = Running::new() else {
        return;
    };
    running.ends(NO_RESTART, 0);
    for service in ["docker.service", "containerd.service"] {
        let restart = running.chroot(&["/usr/bin/systemctl", "restart", service]);
        let mut restart = std::process::Command::new(&restart[0])
            .args(&restart[1..])
            .spawn()
            .unwrap();
        assert!(restart.wait().unwrap().success());
    }
    assert!(said(&running, &["plan"], 0).contains(NOTHING));
}

/// The receipt of an older gpusetup records no start: then the files are compared with the daemon's start.
#[test]
fn without_a_record_the_times_tell() {
    let Some(running) = Running::new() else {
        return;
    };
    running.ends(&[NO_RESTART, &["--engine", "containerd"]].concat(), 0);
    let receipt = running.host.path("var/lib/gpusetup/receipt.json");
    let text = fs::read_to_string(&receipt).unwrap();
    let content: Value = serde_json::from_str(&text).unwrap();
    let mut old = content["content"].clone();
    old["schema"] = 1.into();
    old.as_object_mut().unwrap().remove("at_write").unwrap();
    for change in old["changes"].as_array_mut().unwrap() {
        let fields = ["path", "before", "after", "mode", "why", "kind"];
        change
            .as_object_mut()
            .unwrap()
            .retain(|name, _| fields.contains(&name.as_str()));
    }
    fs::write(&receipt, old.to_string()).unwrap();
    let of_containerd = ["plan", "--engine", "containerd"];
    // It was started after they were written.
    running.ends(&of_containerd, 0);
    running.host.write("state/started", "1000000000");
    let plan = document(&running, &of_containerd, 2);
    assert_eq!(plan["restart_required"], json!(["containerd.service"]));
}

#[test]
fn somebody_elses_change_is_named_and_left_to_them() {
    let Some(running) = set_up() else {
        return;
    };
    running.host.write("state/started", "1000000000");
    running.host.edit(
        DAEMON_JSON,
        "\"log-driver\"",
        "\"debug\": true, \"log-driver\"",
    );
    let plan = said(&running, &["plan"], 0);
    assert!(plan.contains(NOTHING), "{plan}");
    assert!(
        plan.contains(
            "docker: /etc/docker/daemon.json was changed after it started; gpusetup does not restart it"
        ),
        "{plan}"
    );
    let plan = document(&running, &["plan"], 0);
    assert_eq!(plan["changed"], false);
    assert_eq!(plan["restart_required"], json!([]));
    assert_eq!(plan["restarts_due"][0]["whose"], "theirs");
    let install = document(&running, INSTALL, 0);
    assert_eq!(install["changed"], false);
    assert_eq!(
        running.host.read("state/invocation").trim(),
        "2",
        "nobody has restarted it"
    );
    // Files that gpusetup has written are no change of somebody else's.
    assert!(!plan.to_string().contains("containerd"), "{plan}");
}

#[test]
fn a_run_that_did_not_end_is_a_state_of_plan() {
    let Some(running) = Running::new() else {
        return;
    };
    running.host.write("state/dies-at", "docker.service");
    assert_eq!(running.run(INSTALL).status.code(), None, "it was killed");
    assert!(running.host.path(JOURNAL).exists());
    let plan = said(&running, &["plan"], 2);
    assert!(
        plan.contains("Interrupted run: an earlier run did not end"),
        "{plan}"
    );
    assert!(plan.contains("`gpusetup recover` puts back"), "{plan}");
    let plan = document(&running, &["plan"], 2);
    assert_eq!(
        plan["interrupted_run"]["journal"],
        "/var/lib/gpusetup/journal.json"
    );
    let status = said(&running, &[], 0);
    assert!(status.contains("an earlier run did not end"), "{status}");
    assert!(status.contains("sudo gpusetup recover"), "{status}");
    fs::remove_file(running.host.path("state/dies-at")).unwrap();
    running.ends(&["recover"], 0);
    let plan = document(&running, &["plan"], 2);
    assert_eq!(plan["interrupted_run"], Value::Null);
    running.ends(INSTALL, 0);
    assert!(said(&running, &["plan"], 0).contains(NOTHING));
}

/// What a run has written so far is no state of the host.
#[test]
fn a_run_that_is_going_on_is_no_interrupted_one() {
    let Some(running) = Running::new() else {
        return;
    };
    running.host.write("state/dies-at", "docker.service");
    assert_eq!(running.run(INSTALL).status.code(), None, "it was killed");
    // As the kernel shows a process that holds the lock.
    let lock = fs::metadata(running.host.path("run/gpusetup.lock")).unwrap();
    let (device, inode) = (lock.dev(), lock.ino());
    let (major, minor) = (major(device), minor(device));
    let held = format!("1: FLOCK  ADVISORY  WRITE 78 {major:02x}:{minor:02x}:{inode} 0 EOF\n");
    running.host.write("proc/locks", &held);
    running.host.write("proc/78/cmdline", "gpusetup\0install");
    let plan = said(&running, &["plan"], 5);
    assert!(plan.contains("process 78 (gpusetup install)"), "{plan}");
    let status = said(&running, &[], 0);
    assert!(status.contains("a run is going on"), "{status}");
    let doctor = document(&running, &["doctor"], 0);
    let ids = doctor["problems"].to_string();
    assert!(!ids.contains("\"interrupted\""), "{ids}");
    running.host.write("proc/locks", "");
    said(&running, &["plan"], 2);
    let doctor = document(&running, &["doctor"], 2);
    let ids = doctor["problems"].to_string();
    assert!(ids.contains("\"interrupted\""), "{ids}");
}

#[test]
fn an_engine_that_keeps_crashing_is_a_state_of_plan_status_and_doctor() {
    let Some(running) = set_up() else {
        return;
    };
    running.stop_docker();
    // Somebody has stopped it: no fault.
    let plan = document(&running, &["plan"], 0);
    assert_eq!(plan["engines_down"], json!([]));
    running.host.write("state/crashes", "");
    let plan = said(&running, &["plan"], 2);
    assert!(!plan.contains(NOTHING), "{plan}");
    assert!(
        plan.contains("Engine down: docker: it ends again and again (exit-code)"),
        "{plan}"
    );
    let plan = document(&running, &["plan"], 2);
    assert_eq!(plan["engines_down"][0]["service"], "docker.service");
    assert_eq!(plan["changed"], false);
    let status = said(&running, &[], 0);
    assert!(status.contains("failing"), "{status}");
    let doctor = said(&running, &["doctor"], 2);
    assert!(doctor.contains("it ends again and again"), "{doctor}");
    let install = document(&running, INSTALL, 7);
    assert_eq!(install["skipped"][0]["reason"], "does-not-run");
    let warnings = install["warnings"].to_string();
    assert!(warnings.contains("Engine down: docker"), "{warnings}");
}

#[test]
fn an_answer_that_could_not_be_had_is_not_no() {
    let Some(running) = set_up() else {
        return;
    };
    running.host.write("state/no-answer", "");
    // What only the start of containerd tells; docker's daemon can be asked itself.
    running
        .host
        .write(CONFIG_TOML, &running.host.read(CONFIG_TOML));
    let plan = said(&running, &["plan"], 2);
    assert!(!plan.contains(NOTHING), "{plan}");
    assert!(
        plan.contains("Not known: whether containerd runs with its files as they are"),
        "{plan}"
    );
    let plan = document(&running, &["plan"], 2);
    assert_eq!(plan["restarts_not_known"][0]["engine"], "containerd");
    assert_eq!(plan["changed"], false);
    let install = document(&running, INSTALL, 7);
    assert_eq!(install["changed"], false);
    assert_eq!(install["not_verified"], json!(["containerd"]));
    // Without its environment it is not known whether dockerd finds the hook.
    fs::remove_file(running.host.path("state/no-answer")).unwrap();
    assert!(running.host.path(DROP_IN).exists());
    fs::remove_file(running.host.path("proc/78/environ")).unwrap();
    let plan = document(&running, &["plan"], 2);
    assert_eq!(plan["restarts_not_known"][0]["engine"], "docker");
}

/// The record is gone with the first undo, and what docker has in memory is not.
#[test]
fn an_undo_without_a_restart_leaves_one_due_until_it_is_done() {
    let Some(running) = set_up() else {
        return;
    };
    running.ends(&["undo", "--yes", "--no-restart"], 0);
    let again: [(&[&str], i32); 3] = [
        (&["undo", "--dry-run"], 2),
        (&["undo", "--yes"], 7),
        (&["undo", "--yes", "--no-restart"], 0),
    ];
    for (args, code) in again {
        let text = said(&running, args, code);
        assert!(text.contains("Nothing to undo in the files."), "{text}");
        assert!(
            text.contains("Restart due: docker: it still knows"),
            "{text}"
        );
        assert!(text.contains("systemctl restart docker.service"), "{text}");
        let document = document(&running, args, code);
        assert_eq!(document["changed"], false);
        assert_eq!(document["restart_required"], json!(["docker.service"]));
    }
    let restart = running.chroot(&["/usr/bin/systemctl", "restart", "docker.service"]);
    let status = std::process::Command::new(&restart[0])
        .args(&restart[1..])
        .status();
    assert!(status.unwrap().success());
    for args in [&["undo", "--dry-run"][..], &["undo", "--yes"]] {
        let text = said(&running, args, 0);
        assert!(text.contains("Nothing to undo: gpusetup has"), "{text}");
        assert!(!text.contains("Restart due"), "{text}");
    }
}
