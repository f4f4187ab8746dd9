//! Tests a restart that is due since an earlier run and fails: the engine that ran before runs again, without what it
//! never had read, or it is named; no journal stays, and the other engines are set up. Needs root, busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use doctor_host::{CONFIG_TOML, DAEMON_JSON, DROP_IN};
use running::Running;
use serde_json::Value;

const INSTALL: &[&str] = &["install", "--yes", "--no-verify"];
const DOCKER: &[&str] = &["install", "--yes", "--no-verify", "--engine", "docker"];
const UNDO: &[&str] = &["undo", "--yes"];
const JOURNAL: &str = "var/lib/gpusetup/journal.json";
const RECEIPT: &str = "var/lib/gpusetup/receipt.json";

/// A host whose engines have not read what was set up, and whose docker does not start with it. Also daemon.json as it
/// was before.
fn unread() -> Option<(Running, String)> {
    let running = Running::new()?;
    let before = running.host.read(DAEMON_JSON);
    running.ends(&["install", "--yes", "--no-restart"], 0);
    running.host.write("state/refuses-ours", "");
    running.host.write("state/stops", "");
    Some((running, before))
}

fn has_ours(running: &Running, file: &str) -> bool {
    running.host.read(file).contains("gpu-container")
}

fn containers(running: &Running) -> Vec<String> {
    let mut names: Vec<String> = running
        .host
        .read("state/containers")
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

fn is_as_before(running: &Running, before: &str) {
    assert!(running.docker_runs());
    assert_eq!(containers(running), ["cache", "db", "web"]);
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(!running.host.path(DROP_IN).exists());
    assert!(!running.host.path(JOURNAL).exists());
    let receipt: Value = serde_json::from_str(&running.host.read(RECEIPT)).unwrap();
    let content = &receipt["content"];
    for part in ["changes", "asked", "at_write"] {
        let text = content[part].to_string();
        assert!(!text.contains("docker"), "{part}: {text}");
    }
}

#[test]
fn an_engine_that_does_not_start_with_what_it_never_read_runs_without_it() {
    let Some((running, before)) = unread() else {
        return;
    };
    let said = running.ends(INSTALL, 7).replace('\n', " ");
    for part in [
        "Partly done",
        "left as it was: docker (did not come back",
        "what an earlier run had written for it is taken out again",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    is_as_before(&running, &before);
    // The other one's restart was due, too.
    assert_eq!(running.host.read("state/containerd-invocation").trim(), "2");
    assert!(has_ours(&running, CONFIG_TOML));
    let plan = running.ends(&["plan"], 2);
    assert!(plan.contains("daemon.json"), "{plan}");
    running.host.remove("state/refuses-ours");
    running.ends(INSTALL, 0);
    assert!(has_ours(&running, DAEMON_JSON));
    running.ends(UNDO, 0);
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(!has_ours(&running, CONFIG_TOML));
}

#[test]
fn where_it_is_the_only_work_the_run_has_failed() {
    let Some((running, before)) = unread() else {
        return;
    };
    let said = running.ends(DOCKER, 1).replace('\n', " ");
    for part in [
        "docker did not come back",
        "Everything was put back; what an earlier run had written for docker is taken out again",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("Nothing was changed"), "{said}");
    is_as_before(&running, &before);
    assert!(has_ours(&running, CONFIG_TOML));
    running.ends(UNDO, 0);
}

#[test]
fn so_it_is_with_all_or_nothing() {
    let Some((running, before)) = unread() else {
        return;
    };
    running.ends(&[INSTALL, &["--all-or-nothing"]].concat(), 1);
    is_as_before(&running, &before);
}

/// What this run writes is put back first; that does not help, since what an earlier run wrote is the trouble.
#[test]
fn so_it_is_where_this_run_has_written_more() {
    let Some((running, before)) = unread() else {
        return;
    };
    running.ends(&[DOCKER, &["--default-runtime"]].concat(), 1);
    is_as_before(&running, &before);
}

/// It starts neither with what gpusetup wrote nor without.
#[test]
fn one_that_does_not_come_back_at_all_is_named_and_leaves_no_journal() {
    for (command, code) in [(INSTALL, 3), (DOCKER, 3)] {
        let Some((running, _)) = unread() else {
            return;
        };
        running.host.write("state/refuses-always", "");
        let said = running.ends(command, code).replace('\n', " ");
        assert!(said.contains("systemctl restart docker.service"), "{said}");
        assert!(
            has_ours(&running, DAEMON_JSON),
            "its files are as they were"
        );
        assert!(!running.host.path(JOURNAL).exists());
        assert!(!running.docker_runs());
        let out = running.run(&[INSTALL, &["--json"]].concat());
        assert_eq!(out.status.code(), Some(7));
        let document: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(document["skipped"][0]["engine"], "docker");
        running.ends(UNDO, 0);
        assert!(!has_ours(&running, CONFIG_TOML));
    }
}

/// It fails once, and comes back with the same files.
#[test]
fn one_that_starts_at_the_second_try_keeps_what_was_written() {
    let Some((running, _)) = unread() else {
        return;
    };
    running.host.remove("state/refuses-ours");
    running.host.write("state/refuses", "no reason");
    let said = running.ends(INSTALL, 7).replace('\n', " ");
    assert!(
        said.contains("it runs with what an earlier run had written"),
        "{said}"
    );
    assert!(has_ours(&running, DAEMON_JSON));
    assert_eq!(containers(&running), ["cache", "db", "web"]);
    running.ends(INSTALL, 0);
    running.ends(UNDO, 0);
}
