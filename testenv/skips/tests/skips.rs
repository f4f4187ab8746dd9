//! What a skip does to a test, by a test program of its own: this one, run again.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use skips::Need;

/// What the others run, where they say what is missing.
#[test]
fn inner() {
    let Ok(what) = std::env::var("SKIPS_INNER") else {
        return;
    };
    let need = Need::ALL.into_iter().find(|n| n.name() == what).unwrap();
    if !skips::has(&[need]) {
        return;
    }
    skips::skip(need, "of two\nlines");
}

fn inner_with(what: &str, require: Option<&str>) -> (Output, String) {
    let record = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "inner"])
        .env("SKIPS_INNER", what)
        .env("GPUSETUP_SKIPS", record.path())
        // No program is found.
        .env("PATH", "/nowhere")
        .env_remove("GPUSETUP_TESTS_REQUIRE");
    if let Some(require) = require {
        command.env("GPUSETUP_TESTS_REQUIRE", require);
    }
    let out = command.output().unwrap();
    (out, std::fs::read_to_string(record.path()).unwrap())
}

const LINE: &str = "skipped: skips::inner (runc: runc is not installed)\n";

#[test]
fn a_skip_is_seen_though_libtest_captures_and_is_recorded() {
    let (out, record) = inner_with("runc", None);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(record, LINE);
    assert!(
        String::from_utf8_lossy(&out.stderr).contains(LINE),
        "{out:?}"
    );
}

#[test]
fn a_skip_fails_where_it_must_run() {
    for require in ["all", "runc", "root, runc"] {
        let (out, record) = inner_with("runc", Some(require));
        assert!(!out.status.success(), "{require}");
        assert_eq!(record, LINE);
    }
    for require in ["", "root,crun"] {
        assert!(
            inner_with("runc", Some(require)).0.status.success(),
            "{require}"
        );
    }
}

#[test]
fn an_excused_skip_does_not_fail() {
    let (out, record) = inner_with("containerd-2", Some("all"));
    assert!(out.status.success(), "{out:?}");
    assert_eq!(
        record,
        "skipped: skips::inner (containerd-2: of two lines)\n"
    );
    // By its name it is asked for all the same.
    assert!(
        !inner_with("containerd-2", Some("containerd-2"))
            .0
            .status
            .success()
    );
}

#[test]
fn names_are_each_ones_own() {
    let names: std::collections::BTreeSet<_> = Need::ALL.iter().map(|n| n.name()).collect();
    assert_eq!(names.len(), Need::ALL.len());
}
