//! Tests that an engine is in the state in which gpusetup found it: one that was stopped stays stopped, and one that
//! gpusetup started is stopped again; and that the trouble of one engine does not concern the others. Needs root,
//! busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use doctor_host::{CONFIG_TOML, DAEMON_JSON};
use running::Running;
use serde_json::Value;

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
    assert!(!running.docker_listens());
    assert_eq!(running.host.read(DAEMON_JSON), before);
}

/// Where the socket listened before, the next client of docker may start it, as before.
#[test]
fn a_socket_that_listened_goes_on() {
    let Some(running) = stopped() else {
        return;
    };
    running.host.write("state/socket", "");
    running.ends(ASKED, 0);
    running.ends(UNDO, 0);
    assert!(!running.docker_runs());
    assert!(running.docker_listens());
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
    assert!(!running.docker_listens());
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(!running.host.path(JOURNAL).exists());
}

const ALL: &[&str] = &["install", "--yes", "--no-verify"];
const RECEIPT: &str = "var/lib/gpusetup/receipt.json";

/// A host whose docker does not run, and cannot.
fn dead() -> Option<Running> {
    let running = stopped()?;
    running.host.write("state/failed", "");
    running.host.write("state/refuses-always", "");
    Some(running)
}

fn has_ours(running: &Running, file: &str) -> bool {
    running.host.read(file).contains("gpu-container")
}

#[test]
fn an_engine_that_cannot_run_is_left_while_the_others_are_set_up() {
    let Some(running) = dead() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    let said = running.ends(&["plan"], 2);
    assert!(said.contains("docker is left as it is"), "{said}");
    let said = running.ends(ALL, 7);
    for part in [
        "Partly done",
        "left as it was: docker (it failed to start (exit-code))",
        "gpusetup install --engine docker",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(!running.docker_runs());
    assert!(has_ours(&running, CONFIG_TOML));
    // The same again: the others are set up, and docker is still named.
    let out = running.run(&[ALL, &["--json"]].concat());
    assert_eq!(out.status.code(), Some(7));
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["changed"], false);
    assert_eq!(document["skipped"][0]["engine"], "docker");
    assert_eq!(
        document["skipped"][0]["why"],
        "it failed to start (exit-code)"
    );
    let said = running.ends(UNDO, 0);
    assert!(said.contains("as it was before gpusetup"), "{said}");
    assert!(!running.docker_runs());
    assert!(!has_ours(&running, CONFIG_TOML));
}

/// Who has one engine alone, and types `install`, means that one.
#[test]
fn the_only_engine_is_started() {
    let Some(running) = stopped() else {
        return;
    };
    for other in ["containerd", "ctr", "podman"] {
        running.host.remove(&format!("usr/bin/{other}"));
    }
    running.ends(ALL, 0);
    assert!(running.docker_runs());
}

#[test]
fn an_engine_that_we_broke_is_put_back_alone() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/refuses", "no such option");
    let said = running.ends(ALL, 7);
    assert!(said.contains("put back /etc/docker/daemon.json"), "{said}");
    assert!(!said.contains("put back /etc/containerd"), "{said}");
    assert!(said.contains("Partly done"), "{said}");
    assert!(
        said.contains("left as it was: docker (did not come back"),
        "{said}"
    );
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(running.docker_runs());
    assert!(has_ours(&running, CONFIG_TOML));
    let receipt = running.host.read(RECEIPT);
    assert!(!receipt.contains("daemon.json"), "{receipt}");
    assert!(!running.host.path(JOURNAL).exists());
    // It can be set up later, and all of it is undone.
    running.ends(ALL, 0);
    assert!(has_ours(&running, DAEMON_JSON));
    running.ends(UNDO, 0);
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(!has_ours(&running, CONFIG_TOML));
}

#[test]
fn an_engine_whose_containers_have_no_gpu_is_put_back_alone() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/broken-docker", "");
    let said = running.ends(&["install", "--yes"], 7);
    assert!(said.contains("Partly done"), "{said}");
    assert!(said.contains("left as it was: docker"), "{said}");
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(has_ours(&running, CONFIG_TOML));
}

#[test]
fn an_engine_that_refused_its_own_configuration_is_left_alone() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/unfit", "no such key");
    let said = running.ends(ALL, 7);
    assert!(
        said.contains(
            "left as it was: docker (refused its configuration before gpusetup touched it"
        ),
        "{said}"
    );
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(has_ours(&running, CONFIG_TOML));
    assert!(!running.host.read(RECEIPT).contains("daemon.json"));
}

#[test]
fn with_all_or_nothing_everything_is_put_back() {
    for trouble in ["state/refuses", "state/unfit"] {
        let Some(running) = Running::new() else {
            return;
        };
        let before = running.host.read(CONFIG_TOML);
        running.host.write(trouble, "no such option");
        running.ends(&[ALL, &["--all-or-nothing"]].concat(), 1);
        assert_eq!(running.host.read(CONFIG_TOML), before);
        assert!(!running.host.path(RECEIPT).exists());
    }
}

#[test]
fn with_all_or_nothing_an_engine_that_cannot_run_fails_for_all() {
    let Some(running) = dead() else {
        return;
    };
    let before = running.host.read(CONFIG_TOML);
    let said = running.ends(&[ALL, &["--all-or-nothing"]].concat(), 1);
    assert!(said.contains("docker did not come back"), "{said}");
    assert_eq!(running.host.read(CONFIG_TOML), before);
    assert!(!running.docker_runs());
    for left in [RECEIPT, JOURNAL] {
        assert!(!running.host.path(left).exists(), "{left}");
    }
}

/// Docker ran before, and comes back neither with our files nor with its own: the others are set up all the same.
#[test]
fn an_engine_that_stays_down_is_named_with_exit_code_3() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.host.write("state/refuses-always", "");
    let said = running.ends(ALL, 3);
    for part in ["Partly done", "systemctl restart docker.service"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(running.host.read(DAEMON_JSON), before);
    assert!(has_ours(&running, CONFIG_TOML));
    assert!(!running.host.path(JOURNAL).exists());
    running.ends(ALL, 7);
    running.ends(UNDO, 0);
    assert!(!has_ours(&running, CONFIG_TOML));
}

/// The same where it is the only engine of the run, whose journal stays for a recovery.
#[test]
fn later_commands_go_on_where_an_engine_alone_is_left() {
    for (later, expected) in [(ALL, 7), (UNDO, 0)] {
        let Some(running) = Running::new() else {
            return;
        };
        let before = running.host.read(DAEMON_JSON);
        running.host.write("state/refuses-always", "");
        let said = running.ends(ASKED, 3);
        assert!(said.contains("gpusetup recover"), "{said}");
        assert!(running.host.path(JOURNAL).exists());
        let said = running.ends(later, 7);
        assert!(said.contains("systemctl restart docker.service"), "{said}");
        assert!(!running.host.path(JOURNAL).exists());
        running.ends(later, expected);
        assert_eq!(running.host.read(DAEMON_JSON), before);
    }
}

/// The engine breaks during an undo, which is rolled back; the next undo does without it.
#[test]
fn an_engine_that_stays_down_during_an_undo_does_not_keep_the_next_one() {
    let Some(running) = Running::new() else {
        return;
    };
    let before = running.host.read(DAEMON_JSON);
    running.ends(ASKED, 0);
    running.host.write("state/refuses-always", "");
    running.ends(UNDO, 3);
    assert!(has_ours(&running, DAEMON_JSON));
    let said = running.ends(UNDO, 7);
    assert!(said.contains("Undone, but"), "{said}");
    assert_eq!(running.host.read(DAEMON_JSON), before);
    running.ends(UNDO, 0);
}

/// A file of a run that died cannot be put back: the message names the way out, and it is one.
#[test]
fn a_journal_that_stays_names_the_way_out() {
    let Some(running) = Running::new() else {
        return;
    };
    running.host.write("state/refuses-always", "");
    running.ends(ASKED, 3);
    running.host.remove("state/refuses-always");
    running.host.remove(DAEMON_JSON);
    std::fs::create_dir(running.host.path(DAEMON_JSON)).unwrap();
    for command in [ALL, UNDO, &["recover"]] {
        let said = running.ends(command, 3);
        assert!(said.contains("gpusetup recover --give-up"), "{said}");
        assert!(running.host.path(JOURNAL).exists());
    }
    let said = running.ends(&["recover", "--give-up"], 7);
    assert!(said.contains("journal.json.given-up"), "{said}");
    assert!(said.contains("put back /etc/docker/daemon.json"), "{said}");
    assert!(!running.host.path(JOURNAL).exists());
    assert!(running.host.path(&format!("{JOURNAL}.given-up")).exists());
    running.ends(&["recover", "--give-up"], 0);
    running.ends(UNDO, 0);
}

#[test]
fn a_journal_that_is_damaged_can_be_given_up() {
    let Some(running) = Running::new() else {
        return;
    };
    running.host.write(JOURNAL, "{\"schema\": 2");
    for command in [ALL, UNDO] {
        let said = running.ends(command, 3);
        assert!(said.contains("gpusetup recover --give-up"), "{said}");
    }
    running.ends(&["recover", "--give-up"], 7);
    assert_eq!(
        running.host.read(&format!("{JOURNAL}.given-up")),
        "{\"schema\": 2"
    );
    running.ends(ALL, 0);
    running.ends(UNDO, 0);
}

/// Configuration management that owns daemon.json writes it while containers verify the setup.
#[test]
fn a_file_that_is_rewritten_during_a_run_is_noticed_before_done_is_said() {
    let Some(running) = Running::new() else {
        return;
    };
    let theirs = "{\n  \"log-level\": \"warn\"\n}\n";
    let before = running.host.read(DAEMON_JSON);
    for written in [&*before, theirs] {
        running.host.write(DAEMON_JSON, &before);
        running.host.write("state/rewritten", written);
        let said = running.ends(&["install", "--yes", "--engine", "docker"], 1);
        assert!(
            said.contains("/etc/docker/daemon.json was rewritten by another program"),
            "{said}"
        );
        assert!(!said.contains("Done"), "{said}");
        assert_eq!(running.host.read(DAEMON_JSON), written);
        assert!(!running.host.path(JOURNAL).exists());
        assert!(running.docker_runs());
    }
    // The others are set up all the same.
    running.host.write(DAEMON_JSON, &before);
    let said = running.ends(&["install", "--yes"], 7);
    assert!(said.contains("left as it was: docker"), "{said}");
    assert!(
        running
            .host
            .read(CONFIG_TOML)
            .contains("gpu-container-runtime")
    );
    assert_eq!(running.host.read(DAEMON_JSON), theirs);
}

/// It may rewrite what it likes as long as our part stays.
#[test]
fn a_file_that_is_rewritten_with_our_part_in_it_is_set_up() {
    let Some(running) = Running::new() else {
        return;
    };
    running.ends(&["install", "--yes", "--engine", "docker"], 0);
    let ours = running.host.read(DAEMON_JSON);
    running.ends(UNDO, 0);
    let theirs = ours.replacen('{', "{ \"log-level\": \"warn\",", 1);
    running.host.write("state/rewritten", &theirs);
    running.ends(&["install", "--yes", "--engine", "docker"], 0);
    assert_eq!(running.host.read(DAEMON_JSON), theirs);
}
