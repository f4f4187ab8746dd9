//! Tests that a run without root guesses nothing: what it may not ask is said to be not known, in words and in JSON. Needs
//! root, busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use std::fs;
use std::os::unix::net::UnixListener;
use std::process;

use doctor_host::DAEMON_JSON;
use running::{GPUSETUP, Running};

/// Runs gpusetup as the user `nobody`, who may ask neither daemon.
fn by_nobody(running: &Running, args: &[&str]) -> (String, i32) {
    let words = running.chroot(&[&[GPUSETUP], args].concat());
    let out = process::Command::new("chroot")
        .arg("--userspec=65534:65534")
        .args(&words[1..])
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &stderr;
    (text, out.status.code().unwrap())
}

/// What a user may not ask is neither no nor yes, in words and in JSON, and the last line says who may.
#[test]
fn without_root_nothing_is_guessed() {
    let Some(running) = Running::new() else {
        return;
    };
    let host = &running.host;
    host.mode("", 0o755);
    let socket = host.path("var/run/docker.sock");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let _docker = UnixListener::bind(&socket).unwrap();
    host.mode("var/run/docker.sock", 0o600);
    host.mode("state/docker-info", 0o600);
    let says = |args: &[&str], rest: &str| {
        let (text, _) = by_nobody(&running, args);
        for guess in [
            "stopped",
            "does not run",
            "this starts it",
            "no containers run",
        ] {
            assert!(!text.contains(guess), "{args:?} {guess}: {text}");
        }
        let last = text.trim_end().lines().last().unwrap();
        let wanted = format!("Not everything is known without root: {rest}");
        assert_eq!(last, wanted, "{args:?}: {text}");
        text
    };
    let document = |args: &[&str]| -> serde_json::Value {
        let (text, _) = by_nobody(&running, args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let text = says(&["detect"], "sudo gpusetup detect");
    assert!(
        text.contains("whether it runs is not known without root"),
        "{text}"
    );
    says(&[], "sudo gpusetup");
    let text = says(&["plan"], "sudo gpusetup plan");
    assert!(
        text.contains("which of its containers stop is not known without root"),
        "{text}"
    );
    let not_known = document(&["detect", "--json"])["without_root"].clone();
    assert_eq!(
        not_known,
        serde_json::json!(["docker: whether it runs", "containerd: whether it runs"])
    );
    let not_known = document(&["plan", "--json"])["without_root"].clone();
    let stops = "docker: which containers stop";
    assert!(
        not_known.as_array().unwrap().contains(&stops.into()),
        "{not_known}"
    );
    // Root knows, and says so.
    let plan = running.ends(&["plan"], 2);
    assert!(plan.contains("3 running containers stop"), "{plan}");
    assert!(!plan.contains("without root"), "{plan}");

    // What root has set up, and with which options, is in a receipt that is root's.
    let install = ["install", "--yes", "--no-verify", "--mode", "cdi"];
    running.ends(&install, 0);
    let text = says(&["detect"], "sudo gpusetup detect");
    assert!(
        text.contains("whether it is set up is not known without root"),
        "{text}"
    );
    let examined = document(&["doctor", "--json"]);
    let ids = |key: &str| -> Vec<String> {
        let all = examined[key].as_array().unwrap().iter();
        let id = |v: &serde_json::Value| v["id"].as_str().or(v.as_str()).unwrap().to_owned();
        all.map(id).collect()
    };
    for id in ["engine-gone", "receipt-broken", "docker-runtime-unknown"] {
        assert!(
            !ids("passed").contains(&id.to_owned()),
            "{id}: {examined:#}"
        );
    }
    assert!(
        ids("not_looked").contains(&"engine-gone".to_owned()),
        "{examined:#}"
    );
    let (text, _) = by_nobody(&running, &["doctor"]);
    let last = text.trim_end().lines().last().unwrap();
    assert_eq!(
        last, "Not everything is known without root: sudo gpusetup doctor",
        "{text}"
    );

    // A file that is root's may be as it should.
    host.mode(DAEMON_JSON, 0o600);
    let examined = document(&["doctor", "--json"]);
    let docker = &examined["engines"][0];
    assert_eq!(docker["state"], "not-known", "{examined:#}");
    assert_eq!(docker["why"], "not known without root");
    let problems = examined["problems"].to_string();
    assert!(!problems.contains("docker-json"), "{problems}");
    let (text, _) = by_nobody(&running, &["doctor"]);
    assert!(
        text.lines()
            .next()
            .unwrap()
            .ends_with("not known without root"),
        "{text}"
    );
}

/// Root's first run died: there is a journal and no receipt yet.
#[test]
fn a_run_of_roots_that_did_not_end_is_not_taken_for_none() {
    let Some(running) = Running::new() else {
        return;
    };
    running.host.mode("", 0o755);
    running.host.write("state/dies-at", "docker.service");
    let install = ["install", "--yes", "--no-verify"];
    assert_eq!(running.run(&install).status.code(), None, "it was killed");
    let (text, _) = by_nobody(&running, &["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap();
    let not_known = plan["without_root"].to_string();
    assert!(
        not_known.contains("what earlier runs by root have done"),
        "{not_known}"
    );
}
