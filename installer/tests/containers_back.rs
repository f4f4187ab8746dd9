//! Tests that the containers which a restart stops run again afterwards, or that the exit code and
//! the last line tell which do not. Needs root, busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use doctor_host::DAEMON_JSON;
use running::Running;
use serde_json::Value;

const INSTALL: &[&str] = &["install", "--yes", "--no-verify", "--engine", "docker"];

/// A host on which a restart of docker stops its containers.
fn stopping() -> Option<Running> {
    let running = Running::new()?;
    running.host.write("state/stops", "");
    Some(running)
}

fn containers(running: &Running) -> Vec<String> {
    let text = running.host.read("state/containers");
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn a_container_that_does_not_start_at_once_is_started_later() {
    let Some(running) = stopping() else {
        return;
    };
    running.host.write("state/busy", "4");
    let said = running.ends(INSTALL, 0);
    assert!(
        said.contains("3 containers up") && said.contains("Done"),
        "{said}"
    );
    assert_eq!(containers(&running), ["cache", "db", "web"]);
    running.host.write("state/busy", "4");
    running.ends(&["undo", "--yes"], 0);
    assert_eq!(containers(&running), ["cache", "db", "web"]);
}

#[test]
fn one_that_does_not_come_back_is_named_and_the_exit_code_is_8() {
    let Some(running) = stopping() else {
        return;
    };
    running.host.write("state/gone", "db");
    let said = running.ends(INSTALL, 8);
    for part in [
        "1 container that ran does not run: db (No such container: db)",
        "docker start db",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("Done"), "{said}");
    assert!(running.host.read(DAEMON_JSON).contains("gpu-container"));
    running.host.write("state/containers", "web\ndb\n");
    let said = running.ends(&["undo", "--yes"], 8);
    assert!(
        said.contains("Undone, but 1 container that ran does not run: db"),
        "{said}"
    );
    assert!(!said.contains("as it was before"), "{said}");
    assert!(!running.host.read(DAEMON_JSON).contains("gpu-container"));
}

/// Its owner wanted it to go when it stops, so it is no container that should run again.
#[test]
fn one_that_was_started_with_rm_is_said_to_be_gone() {
    let Some(running) = stopping() else {
        return;
    };
    running.host.write("state/gone", "db");
    running.host.write("state/temporary", "db\n");
    let said = running.ends(INSTALL, 0);
    assert!(
        said.contains("docker has removed what was started with --rm: db"),
        "{said}"
    );
    assert!(said.contains("Done"), "{said}");
}

#[test]
fn the_document_names_them() {
    let Some(running) = stopping() else {
        return;
    };
    running.host.write("state/gone", "db");
    let out = running.run(&[INSTALL, &["--json"]].concat());
    assert_eq!(out.status.code(), Some(8));
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        document["containers_down"],
        serde_json::json!([{"container": "db", "why": "No such container: db"}])
    );
}

#[test]
fn after_a_rollback_the_exit_code_is_8_too() {
    let Some(running) = stopping() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/gone", "db");
    running.host.write("state/refuses", "no such option");
    let out = running.run(&[INSTALL, &["--json"]].concat());
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(8), "{said}");
    for part in ["docker did not come back", "no such option"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(
        said.contains("Everything was put back, but 1 container that ran does not run: db"),
        "{said}"
    );
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["exit_code"], 8);
    assert_eq!(document["containers_down"][0]["container"], "db");
    assert_eq!(running.host.read(DAEMON_JSON), before);
    // Nothing is left for a recovery: the files are as they were.
    assert!(!running.host.path("var/lib/gpusetup/journal.json").exists());
}
