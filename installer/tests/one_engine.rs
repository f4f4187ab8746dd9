//! Tests that what is wrong with one engine, and is found while the run is planned, does not keep the others from being set
//! up; and engines that gpusetup does not restart, since their socket starts them or somebody else has. Needs root,
//! busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use std::fs;

use doctor_host::{CONFIG_TOML, DAEMON_JSON, DROP_IN};
use running::Running;
use serde_json::{Value, json};

const INSTALL: &[&str] = &["install", "--yes", "--no-verify"];
const DOCKER: &[&str] = &["install", "--yes", "--no-verify", "--engine", "docker"];
const UNDO: &[&str] = &["undo", "--yes"];
const RECEIPT: &str = "var/lib/gpusetup/receipt.json";

fn has_ours(running: &Running, file: &str) -> bool {
    running.host.read(file).contains("gpu-container")
}

fn document(running: &Running, args: &[&str], code: i32) -> Value {
    let out = running.run(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{stderr}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// A way to break docker's file: what is wrong with it then, and what does it.
type Break = (&'static str, fn(&Running));

const BROKEN: [Break; 4] = [
    ("no JSON", |r| r.host.write(DAEMON_JSON, "{,}")),
    ("a runtime list of the wrong kind", |r| {
        r.host.write(DAEMON_JSON, "{\"runtimes\": 7}");
    }),
    ("a directory", |r| {
        r.host.remove(DAEMON_JSON);
        fs::create_dir(r.host.path(DAEMON_JSON)).unwrap();
    }),
    ("no text", |r| {
        fs::write(r.host.path(DAEMON_JSON), b"\xff\xfe{}").unwrap();
    }),
];

#[test]
fn a_broken_file_of_one_engine_does_not_keep_the_others() {
    for (what, break_it) in BROKEN {
        let Some(running) = Running::new() else {
            return;
        };
        break_it(&running);
        let plan = document(&running, &["plan"], 2);
        assert_eq!(plan["skipped"][0]["engine"], "docker", "{what}");
        assert!(plan["diff"].to_string().contains("config.toml"), "{what}");
        let said = running.ends(INSTALL, 7).replace('\n', " ");
        assert!(said.contains("left as it was: docker ("), "{what}: {said}");
        assert!(said.contains("/etc/docker/daemon.json"), "{what}: {said}");
        assert!(
            !said.to_lowercase().contains("nothing was changed"),
            "{what}: {said}"
        );
        assert!(has_ours(&running, CONFIG_TOML), "{what}");
        assert!(!running.host.path(DROP_IN).exists(), "{what}");
        assert_eq!(running.host.read("state/invocation").trim(), "1", "{what}");
        assert!(
            !running.host.read(RECEIPT).contains("daemon.json"),
            "{what}"
        );
        // Once more: the others are set up, and it is still named.
        let again = document(&running, INSTALL, 7);
        assert_eq!(again["changed"], false, "{what}");
        running.ends(UNDO, 0);
    }
}

#[test]
fn alone_or_with_all_or_nothing_it_is_refused() {
    for args in [DOCKER, &[INSTALL, &["--all-or-nothing"]].concat()] {
        let Some(running) = Running::new() else {
            return;
        };
        running.host.write(DAEMON_JSON, "{,}");
        let before = running.host.read(CONFIG_TOML);
        let said = running.ends(args, 1);
        assert!(said.contains("/etc/docker/daemon.json"), "{said}");
        assert_eq!(running.host.read(CONFIG_TOML), before);
    }
}

/// A runtime of another tool is a question, not trouble.
#[test]
fn a_question_to_the_user_stops_the_run() {
    let Some(running) = Running::new() else {
        return;
    };
    let theirs = "{\"runtimes\": {\"nvidia\": {\"path\": \"/opt/theirs\"}}}";
    running.host.write(DAEMON_JSON, theirs);
    let before = running.host.read(CONFIG_TOML);
    running.ends(INSTALL, 1);
    assert_eq!(running.host.read(CONFIG_TOML), before);
}

/// A dockerd that hangs after it has said what it is.
#[test]
fn an_engine_whose_containers_are_not_known_is_left_alone() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/no-ps", "");
    let said = running.ends(INSTALL, 7).replace('\n', " ");
    assert!(
        said.contains(
            "left as it was: docker (restarts, and which of its containers run is not known"
        ),
        "{said}"
    );
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(running.docker_runs());
    assert!(has_ours(&running, CONFIG_TOML));
    running.ends(DOCKER, 1);
}

/// A host whose docker does not run, and whose socket listens.
fn on_demand() -> Option<Running> {
    let running = Running::new()?;
    running.stop_docker();
    running.host.write("state/socket", "");
    Some(running)
}

#[test]
fn an_engine_that_its_socket_starts_is_set_up_and_not_started() {
    let Some(running) = on_demand() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    let plan = running.ends(&["plan"], 2).replace('\n', " ");
    assert!(
        plan.contains("its socket starts it when it is used"),
        "{plan}"
    );
    let said = running.ends(&["install", "--yes"], 7).replace('\n', " ");
    assert!(
        said.contains("not verified: docker: it does not run now; its socket"),
        "{said}"
    );
    assert!(has_ours(&running, DAEMON_JSON));
    assert!(running.host.path(DROP_IN).exists());
    assert!(!running.docker_runs(), "it was not started");
    assert!(running.docker_listens());
    let plan = document(&running, &["plan"], 0);
    assert_eq!(plan["changed"], false);
    running.ends(UNDO, 0);
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(!running.docker_runs() && running.docker_listens());
}

/// One that fails is no such engine, although its socket may listen.
#[test]
fn one_that_fails_is_not_started_by_its_socket() {
    let Some(running) = on_demand() else {
        return;
    };
    running.host.write("state/failed", "");
    let said = running.ends(INSTALL, 7).replace('\n', " ");
    assert!(
        said.contains("left as it was: docker (it failed to start"),
        "{said}"
    );
}

/// Nobody has to restart an engine that does not run.
#[test]
fn a_stopped_engine_needs_no_restart() {
    let Some(running) = Running::new() else {
        return;
    };
    running.stop_docker();
    let install = document(&running, &["install", "--yes", "--no-restart"], 0);
    assert_eq!(install["restart_required"], json!(["containerd.service"]));
    assert!(has_ours(&running, DAEMON_JSON));
}

/// A host on which somebody has started dockerd, and not its service.
fn by_hand() -> Option<Running> {
    let running = Running::new()?;
    running.host.write("state/by-hand", "");
    running.host.write("proc/78/comm", "dockerd");
    Some(running)
}

#[test]
fn an_engine_that_its_service_does_not_run_is_not_restarted() {
    let Some(running) = by_hand() else {
        return;
    };
    let said = running.ends(&["install", "--yes"], 7).replace('\n', " ");
    assert!(
        said.contains("not verified: docker: docker.service does not run it: who has started it"),
        "{said}"
    );
    assert!(has_ours(&running, DAEMON_JSON) && has_ours(&running, CONFIG_TOML));
    assert!(running.docker_runs());
    let said = running.ends(UNDO, 7).replace('\n', " ");
    assert!(said.contains("it goes on with what it has read"), "{said}");
    assert!(!said.contains("as it was before gpusetup"), "{said}");
    assert!(!has_ours(&running, DAEMON_JSON));
}

/// The daemon that begins has no live-restore any more, and ends what ran.
#[test]
fn containers_come_back_although_live_restore_was_turned_off() {
    for file in ["{\"live-restore\": false}", "{}"] {
        let Some(running) = Running::new() else {
            return;
        };
        running.host.write(DAEMON_JSON, file);
        running.host.edit(
            "state/docker-info",
            "\"LiveRestoreEnabled\":false",
            "\"LiveRestoreEnabled\":true",
        );
        running.host.write("state/stops", "");
        let plan = running.ends(&["plan", "--engine", "docker"], 2);
        assert_eq!(
            plan.contains("3 running containers stop"),
            file != "{}",
            "{plan}"
        );
        running.ends(DOCKER, 0);
        let containers = running.host.read("state/containers");
        assert_eq!(containers.lines().count(), 3, "{containers}");
    }
}
