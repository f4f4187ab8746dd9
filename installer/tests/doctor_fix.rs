//! Tests `doctor --fix`: it repairs what is safe and nothing else, in a transaction that undo
//! reverts.
#![allow(clippy::unwrap_used)]

mod doctor_host;

use std::fs;

use doctor_host::breaks::BREAKS;
use doctor_host::{Base, DAEMON_JSON, DROP_IN, Host, POLICY, SPEC, STATUS};

fn safe() -> Vec<String> {
    let table: toml::Table = include_str!("../problems.toml").parse().unwrap();
    let rows = table["problem"].as_array().unwrap().iter();
    let safe = rows.filter(|r| r["safe"].as_bool() == Some(true));
    let safe: Vec<String> = safe.map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    assert!(!safe.is_empty());
    safe
}

fn ids(host: &Host) -> Vec<String> {
    host.problems().into_iter().map(|(id, _)| id).collect()
}

/// A healthy host of that kind with the problem.
fn broken(id: &str) -> Option<Host> {
    let (_, base, broken) = BREAKS.iter().find(|(name, _, _)| *name == id).unwrap();
    let host = Host::new(*base)?;
    broken(&host);
    Some(host)
}

#[test]
fn every_safe_problem_is_fixed() {
    for id in safe() {
        let Some(host) = broken(&id) else { return };
        assert!(ids(&host).contains(&id), "{id}");
        let (document, code) = host.doctor(&["--fix", "--yes"]);
        assert_eq!(
            (code, &document["problems"]),
            (0, &serde_json::json!([])),
            "{id}"
        );
        assert_eq!(document["changed"], true, "{id}");
        assert!(
            document["fixed"].to_string().contains(&id),
            "{id}: {document}"
        );
        // Nothing is left to repair, and nothing is left for install to do.
        let (again, code) = host.doctor(&["--fix", "--yes"]);
        assert_eq!((code, &again["changed"]), (0, &false.into()), "{id}");
        if id != "drop-in-leftover" {
            assert_eq!(host.run(&["plan"]).status.code(), Some(0), "{id}");
        }
    }
}

#[test]
fn undo_reverts_fixes() {
    for id in [
        "docker-runtime-unknown",
        "docker-no-hook",
        "cdi-missing",
        "dev-char",
    ] {
        let Some(host) = broken(id) else { return };
        host.doctor(&["--fix", "--yes"]);
        let out = host.run(&["undo", "--yes"]);
        assert_eq!(
            out.status.code(),
            Some(0),
            "{id}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        for gone in [DROP_IN, "var/lib/gpusetup/receipt.json"] {
            let is_there = host.path(gone).symlink_metadata().is_ok();
            assert!(!is_there, "{id}: {gone}");
        }
        // The package's service is here, so what it makes is up to date.
        assert!(host.read(SPEC).contains("gpu-container-hook"), "{id}");
        let mut links = fs::read_dir(host.path("dev/char")).unwrap();
        assert!(links.next().is_some(), "{id}");
        assert_eq!(host.run(&["cdi", "check"]).status.code(), Some(0), "{id}");
        // The user's own file; in one of the cases the user has replaced it.
        let users = match id {
            "docker-runtime-unknown" => "{\"log-driver\": \"journald\"}\n",
            _ => "{\n  \"log-driver\": \"journald\"\n}\n",
        };
        assert_eq!(host.read(DAEMON_JSON), users, "{id}");
    }
}

#[test]
fn only_named_problems_are_fixed() {
    let Some(host) = broken("dev-char") else {
        return;
    };
    host.remove(SPEC);
    host.package("nvidia-container-toolkit", "1.17.4-1");
    let before = host.state();
    // There is no terminal on which to ask.
    let out = host.run(&["doctor", "--fix"]);
    assert_eq!(out.status.code(), Some(4));
    assert_eq!(host.state(), before);
    // The plan is shown before that, on standard output.
    let stdout = String::from_utf8(out.stdout).unwrap();
    assert!(
        stdout.contains("/dev/char/") && stdout.contains("/var/run/cdi/nvidia.yaml"),
        "{stdout}"
    );
    let (document, code) = host.doctor(&["--fix", "cdi-missing", "--yes"]);
    assert_eq!(code, 2);
    assert!(
        document["fixed"].to_string().contains("cdi-missing"),
        "{document}"
    );
    let mut left = ids(&host);
    left.sort_unstable();
    assert_eq!(left, ["dev-char", "toolkit-vulnerable"]);
    // A problem that is not safe to repair remains and is reported.
    let (_, code) = host.doctor(&["--fix", "--yes"]);
    assert_eq!(
        (code, ids(&host)),
        (2, vec!["toolkit-vulnerable".to_owned()])
    );
    for id in ["toolkit-vulnerable", "no-such-problem"] {
        let out = host.run(&["doctor", "--fix", id, "--yes"]);
        assert_eq!(out.status.code(), Some(4), "{id}");
    }
    assert!(host.read(STATUS).contains("nvidia-container-toolkit"));
}

/// A runtime that somebody put in place of ours is left alone and reported.
#[test]
fn a_runtime_of_another_tool_is_not_overwritten() {
    let Some(host) = Host::new(Base::Node) else {
        return;
    };
    host.remove("etc/containerd/conf.d/50-gpusetup.toml");
    let theirs = doctor_host::runtime(doctor_host::CRI3, "nvidia", "/usr/bin/runc");
    host.write(
        "etc/containerd/conf.d/99-nvidia.toml",
        &format!("version = 3\n{theirs}"),
    );
    assert_eq!(ids(&host), ["cri-runtime-unknown"]);
    let before = host.state();
    let out = host.run(&["doctor", "--fix", "--yes"]);
    assert_eq!(out.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        stderr.contains("has a runtime \"nvidia\" that is not ours"),
        "{stderr}"
    );
    assert_eq!(host.state(), before);
}

/// A repair is not a setup: it adds nothing that the host must have from then on.
#[test]
fn fixing_a_leftover_needs_no_further_step() {
    let Some(host) = Host::new(Base::Bare) else {
        return;
    };
    host.write("usr/sbin/dockerd", "");
    host.write(DROP_IN, "# Written by gpusetup.\n[Service]\nEnvironment=\"PATH=/usr/lib/gpu-container/bin:/usr/bin\"\n");
    host.remove("usr/lib/gpu-container");
    host.remove("usr/bin/runc");
    assert_eq!(ids(&host), ["no-gpu", "drop-in-leftover"]);
    assert_eq!(host.doctor(&["--fix", "--yes"]).1, 2);
    assert_eq!(ids(&host), ["no-gpu"]);
    assert!(!host.path(DROP_IN).exists());
}

/// An interrupted run is recovered first, as in install.
#[test]
fn an_interrupted_run_is_recovered_first() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    let journal = serde_json::json!({
        "schema": 1, "changes": [], "directories": [], "commit": null,
    });
    host.write("var/lib/gpusetup/journal.json", &journal.to_string());
    assert_eq!(ids(&host), ["interrupted"]);
    assert_eq!(host.doctor(&["--fix", "--yes"]).1, 0);
    assert!(!host.path("var/lib/gpusetup/journal.json").exists());
}

/// A file that one check cannot read does not stop the other repairs.
#[test]
fn a_broken_policy_does_not_prevent_other_fixes() {
    let Some(host) = broken("dev-char") else {
        return;
    };
    host.write(POLICY, "[broken\n");
    let (document, code) = host.doctor(&["--fix", "--yes"]);
    assert_eq!(code, 2);
    assert!(
        document["fixed"].to_string().contains("dev-char"),
        "{document}"
    );
    assert_eq!(ids(&host), ["policy-invalid"]);
}
