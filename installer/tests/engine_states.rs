//! Tests that an engine is in the state in which gpusetup found it: one that was stopped stays stopped,
//! and one that gpusetup started is stopped again. Needs root, busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use doctor_host::DAEMON_JSON;
use running::Running;

const ASKED: &[&str] = &["install", "--yes", "--no-verify", "--engine", "docker"];
const UNDO: &[&str] = &["undo", "--yes"];
const JOURNAL: &str = "var/lib/gpusetup/journal.json";

/// A host whose docker does not run.
fn stopped() -> Option<Running> {
    let running = Running::new()?;
    running.stop_docker();
    Some(running)
}

#[test]
fn an_engine_that_install_started_is_stopped_by_undo() {
    let Some(running) = stopped() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    let said = running.ends(ASKED, 0);
    assert!(
        said.contains("it does not run now; this starts it"),
        "{said}"
    );
    assert!(running.docker_runs());
    let said = running.ends(UNDO, 0);
    assert!(said.contains("docker stopped"), "{said}");
    assert!(!running.docker_runs());
    assert_eq!(running.host.read(DAEMON_JSON), before);
}

#[test]
fn an_engine_that_somebody_else_started_since_goes_on() {
    let Some(running) = stopped() else {
        return;
    };
    running.ends(ASKED, 0);
    running.host.write("state/invocation", "77");
    running.ends(UNDO, 0);
    assert!(running.docker_runs());
}

#[test]
fn an_engine_in_which_containers_run_by_now_goes_on() {
    let Some(running) = stopped() else {
        return;
    };
    running.ends(ASKED, 0);
    running.host.write("state/containers", "web\n");
    running.ends(UNDO, 0);
    assert!(running.docker_runs());
}

#[test]
fn a_later_run_of_ours_is_not_somebody_elses_start() {
    let Some(running) = stopped() else {
        return;
    };
    running.ends(ASKED, 0);
    running.ends(&[ASKED, &["--default-runtime"]].concat(), 0);
    running.ends(UNDO, 0);
    assert!(!running.docker_runs());
}

#[test]
fn undo_does_not_start_an_engine_that_its_administrator_stopped() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.ends(ASKED, 0);
    running.stop_docker();
    let said = running.ends(UNDO, 0);
    assert!(said.contains("its next start reads the files"), "{said}");
    assert!(!running.docker_runs());
    assert_eq!(running.host.read(DAEMON_JSON), before);
}

/// Docker without runc: it never ran, and it cannot.
#[test]
fn an_engine_that_cannot_start_is_left_stopped_and_everything_is_put_back() {
    let Some(running) = stopped() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/failed", "");
    running.host.write("state/refuses-always", "");
    running.ends(ASKED, 1);
    assert!(!running.docker_runs());
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(!running.host.path(JOURNAL).exists());
}
