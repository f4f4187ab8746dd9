//! Device rules in cgroup v2 where they are not only on the cgroup of the container's process, with a real runc.
//! Needs root, runc and a static busybox.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bundle::{Below, RuncBundle, can_run, make_nodes, text};
use gpu_host::DeviceNode;
use gpu_inject::live::{Pidfd, RunningContainer, lost_devices, restore_devices};
use serde_json::{Value, json};
use skips::Need;

/// Opens a GPU by a node that the container makes itself, to see what the device rules allow.
const OPEN: &str =
    "open() { busybox mknod /tmp/n$1 c 195 $1; busybox cat /tmp/n$1; }; open 0; open 1";
const REFUSED: &str = "/tmp/n0': Operation not permitted";
const ALLOWED: &str = "/tmp/n1': No such device or address";

/// A container whose cgroup has this path, with our prestart hook after a hook with these commands. `None` where runc does
/// not run with cgroup v2 alone.
fn place(name: &str, cgroup: &str, before: &str) -> Option<RuncBundle> {
    if !can_run() {
        return None;
    }
    let place = RuncBundle::new(name);
    make_nodes(&place);
    place.make_config("1", OPEN, |_| {});
    let plain = text(&place.start_plain(Below::RuncUnified));
    if !plain.contains(REFUSED) {
        skips::skip(Need::UnifiedRunc, &plain);
        return None;
    }
    place.add_prestart_hook(Below::RuncUnified);
    let script = format!(
        "set -e; pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); cd /sys/fs/cgroup{cgroup}; {before}"
    );
    place.edit_config(|config| {
        config["linux"]["cgroupsPath"] = json!(cgroup);
        let hooks = config["hooks"]["prestart"].as_array_mut().unwrap();
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        hooks.insert(0, hook);
    });
    Some(place)
}

fn name(of: &str) -> String {
    format!("gpu-container-{of}-{}", std::process::id())
}

/// crun from 1.18 on has the process in `SCOPE/container`, and the rules on SCOPE.
const AS_CRUN: &str = "mkdir container; echo $pid >container/cgroup.procs";

#[test]
fn rules_on_the_scope_above_the_process_are_changed() {
    let scope = format!("/{}.scope", name("scope"));
    let Some(place) = place("scope", &scope, AS_CRUN) else {
        return;
    };
    let out = text(&place.start_plain(Below::RuncUnified));
    assert!(out.contains(REFUSED) && out.contains(ALLOWED), "{out}");
}

#[test]
fn a_scope_with_other_processes_is_not_changed_and_the_container_refused() {
    let scope = format!("/{}.scope", name("shared"));
    let before =
        format!("{AS_CRUN}; mkdir other; sleep 20 >/dev/null 2>&1 & echo $! >other/cgroup.procs");
    let Some(place) = place("shared", &scope, &before) else {
        return;
    };
    let out = text(&place.start_plain(Below::RuncUnified));
    let wanted = "device rules of a cgroup above it forbid /dev/nvidiactl";
    assert!(out.contains(wanted) && out.contains(&scope), "{out}");
    assert!(!out.contains(ALLOWED), "{out}");
    end_scope(&scope);
}

/// Ends what is left in a scope, which runc does not remove for that.
fn end_scope(scope: &str) {
    let script = format!(
        "mount -t cgroup2 none /sys/fs/cgroup; cd /sys/fs/cgroup{scope} || exit 0; kill $(cat other/cgroup.procs); \
         while ! rmdir other; do sleep 0.1; done; rmdir container; cd ..; rmdir .{scope}"
    );
    let words = ["--mount", "--propagation", "private", "sh", "-c", &script];
    Command::new("unshare").args(words).output().unwrap();
}

/// As a slice for which somebody has set `DeviceAllow`.
#[test]
fn a_container_is_refused_where_a_cgroup_above_forbids_its_gpu() {
    let outer = format!("/{}", name("outer"));
    let inner = format!("{outer}/inner");
    // runc makes the rules of the outer one for a container whose process then moves away.
    let Some(slice) = place("outer", &outer, "true") else {
        return;
    };
    let fifo = slice.image("tmp/end");
    slice.edit_config(|config| {
        config["hooks"] = json!({});
        let script = "busybox mkfifo /tmp/end; echo started; busybox cat /tmp/end";
        config["process"]["args"] = json!(["/bin/busybox", "sh", "-c", script]);
    });
    let mut running = slice.command(&[], Below::RuncUnified, &[]).spawn().unwrap();
    let is_there = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        fifo.exists()
    });
    assert!(is_there);
    let place = place("inner", &inner, "true").unwrap();
    let out = text(&place.start_plain(Below::RuncUnified));
    fs::write(&fifo, "").unwrap();
    running.wait().unwrap();
    assert!(
        out.contains("device rules of a cgroup above it forbid"),
        "{out}"
    );
    assert!(out.contains(&outer) && !out.contains(ALLOWED), "{out}");
}

/// In a process of its own, since it goes to the container's cgroup and back.
#[test]
#[ignore = "started by the test below, with a container's process in its environment"]
fn restoring() {
    let pid = std::env::var("LOST_BY").unwrap().parse().unwrap();
    let path = PathBuf::from(std::env::var("LOST_NODE").unwrap());
    let node = DeviceNode {
        path: "/dev/nvidia1".into(),
        host_path: path,
        major: 195,
        minor: 1,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let nodes = [node];
    let process = Pidfd::open(pid).unwrap();
    let container = RunningContainer {
        process: &process,
        unit: None,
        config: None,
    };
    let home = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(lost_devices(container, &nodes).unwrap().len(), 1);
    assert_eq!(restore_devices(container, &nodes).unwrap().len(), 1);
    assert_eq!(lost_devices(container, &nodes).unwrap().len(), 0);
    assert_eq!(restore_devices(container, &nodes).unwrap().len(), 0);
    assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), home);
}

#[test]
fn a_running_container_is_given_a_device_again() {
    if !can_run() {
        return;
    }
    for below in [Below::Runc, Below::RuncUnified] {
        let place = RuncBundle::new("restore");
        let script = format!("busybox mkfifo /tmp/go; busybox cat /tmp/go; {OPEN}");
        place.make_config("void", &script, |_| {});
        let mut command = place.command(&[], below, &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = command.spawn().unwrap();
        let fifo = place.image("tmp/go");
        let is_there = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            fifo.exists()
        });
        if !is_there && below == Below::RuncUnified {
            let out = running.wait_with_output().unwrap();
            skips::skip(Need::UnifiedRunc, &text(&out));
            return;
        }
        let state = fs::read(place.path("state").join(place.id()).join("state.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let node = place.path("nvidia1");
        let made = Command::new("mknod")
            .arg(&node)
            .args(["c", "195", "1"])
            .status();
        assert!(made.unwrap().success());
        let host = match below {
            Below::RuncUnified => {
                "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; "
            }
            _ => "",
        };
        let script = format!("{host}exec \"$0\" --ignored --exact restoring");
        let out = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env("LOST_BY", state["init_process_pid"].to_string())
            .env("LOST_NODE", &node)
            .output()
            .unwrap();
        fs::write(&fifo, "").unwrap();
        let opened = text(&running.wait_with_output().unwrap());
        assert!(out.status.success(), "{below:?}: {}", text(&out));
        assert!(
            opened.contains(REFUSED) && opened.contains(ALLOWED),
            "{below:?}: {opened}"
        );
    }
}
