//! Tests concurrent and interrupted runs: only one runs at a time, and a run is done entirely or
//! not at all.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use fixture::Tree;

fn tree() -> Tree {
    let tree = Tree::new("26.1.5", "1.7.24");
    fs::create_dir(tree.path("run")).unwrap();
    tree
}

fn start(tree: &Tree) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gpusetup"))
        .arg("--root")
        .arg(tree.path(""))
        .args(["install", "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

#[test]
fn a_second_run_reports_the_holder_of_the_lock() {
    let tree = tree();
    // The lock file of a run that died: there is nobody to name.
    tree.write("run/gpusetup.lock", "999999");
    let lock = fs::File::options()
        .write(true)
        .open(tree.path("run/gpusetup.lock"))
        .unwrap();
    lock.try_lock().unwrap();
    let before = tree.state();
    for command in ["install", "undo"] {
        let out = tree.run(&[command, "--yes"]);
        assert_eq!(out.status.code(), Some(5), "{command}");
        let stderr = String::from_utf8_lossy(&out.stderr);
        let us = format!("process {} (", std::process::id());
        assert!(stderr.contains(&us) && stderr.contains("runs"), "{stderr}");
        assert!(
            stderr.contains("since 20") && !stderr.contains("999999"),
            "{stderr}"
        );
    }
    assert_eq!(tree.code(&["recover"]), 5);
    assert_eq!(tree.state(), before);
    // A refresh is left to the run that has the lock.
    assert_eq!(tree.code(&["cdi", "refresh"]), 5);
    let due = tree.path("run/gpusetup.refresh-due");
    assert!(due.exists());
    // Not by closing it: a program that another test is about to start has a copy of it until then.
    lock.unlock().unwrap();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(!due.exists());
}

#[test]
fn a_link_in_place_of_the_lock_is_not_followed() {
    let tree = tree();
    tree.write("etc/victim", "whole");
    symlink("../etc/victim", tree.path("run/gpusetup.lock")).unwrap();
    assert_eq!(tree.code(&["install", "--yes"]), 1);
    assert_eq!(tree.read("etc/victim"), "whole");
}

#[test]
fn concurrent_runs_have_the_result_of_one() {
    let one = tree();
    assert_eq!(one.code(&["install", "--yes"]), 0);
    let many = tree();
    let all: Vec<Child> = (0..8).map(|_| start(&many)).collect();
    let outs: Vec<Output> = all
        .into_iter()
        .map(|c| c.wait_with_output().unwrap())
        .collect();
    let mut done = 0;
    for out in &outs {
        let stderr = String::from_utf8_lossy(&out.stderr);
        match out.status.code() {
            Some(0) => done += 1,
            // The other run changed the files between this run's plan and its lock.
            Some(1) => assert!(
                stderr.contains("was changed by somebody else meanwhile"),
                "{stderr}"
            ),
            Some(5) => assert!(stderr.contains("another gpusetup holds"), "{stderr}"),
            other => panic!("exit {other:?}: {stderr}"),
        }
    }
    assert!(done > 0, "{outs:?}");
    let relative = |tree: &Tree| -> Vec<_> {
        let (root, state) = (tree.path(""), tree.state());
        let all = state.into_iter();
        all.map(|(p, what)| (p.strip_prefix(&root).unwrap().to_owned(), what))
            .collect()
    };
    assert_eq!(relative(&many), relative(&one));
}

/// Sends a signal at moments spread over the time of a run. The fault tests send one at each call.
#[test]
fn a_signal_leaves_every_change_or_none() {
    let tree = tree();
    let old = tree.state();
    let started = Instant::now();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let takes = started.elapsed();
    let new = tree.state();
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    for n in 0..30 {
        let signal = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP][n % 3];
        let mut run = start(&tree);
        std::thread::sleep(takes * u32::try_from(n).unwrap() / 25);
        let _ = kill(pid(&run), signal);
        let code = run.wait().unwrap().code();
        match code {
            Some(0) => {
                assert_eq!(tree.state(), new);
                assert_eq!(tree.code(&["undo", "--yes"]), 0);
            }
            // None: the signal arrived before signals were held, when nothing was done yet.
            Some(130) | None => assert_eq!(tree.state(), old, "{code:?} {n}"),
            other => panic!("exit {other:?}"),
        }
    }
}
