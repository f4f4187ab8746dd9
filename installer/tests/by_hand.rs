//! Tests that whose process an engine is decides what is done with it: a dockerd that somebody has started by hand, beside a
//! stopped service, is never restarted through that; a second dockerd or containerd is named and left alone. Needs root,
//! busybox and chroot.
#![allow(clippy::unwrap_used)]

mod doctor_host;
mod running;

use std::fs;

use doctor_host::{DAEMON_JSON, DROP_IN};
use running::Running;
use serde_json::{Value, json};

const INSTALL: &[&str] = &["install", "--yes", "--no-verify"];
const UNDO: &[&str] = &["undo", "--yes"];
const PLAIN: &str = "0::/user.slice/user-0.slice/session-1.scope";

/// A process of that name in the host's own mount namespace.
fn process(running: &Running, pid: u32, argv: &[&str], group: &str) {
    let file = |name: &str| format!("proc/{pid}/{name}");
    let name = argv[0].rsplit('/').next().unwrap();
    running.host.write(&file("comm"), &format!("{name}\n"));
    running
        .host
        .write(&file("cmdline"), &format!("{}\0", argv.join("\0")));
    running.host.write(&file("cgroup"), &format!("{group}\n"));
    running.host.write(&file("status"), "PPid:\t1\n");
    running.host.write(&file("environ"), "PATH=/usr/bin\0");
    for of in [&pid.to_string(), "self"] {
        fs::create_dir_all(running.host.path(&format!("proc/{of}/ns"))).unwrap();
        let link = running.host.path(&format!("proc/{of}/ns/mnt"));
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("mnt:[1]", link).unwrap();
        }
    }
}

fn document(running: &Running, args: &[&str], code: i32) -> Value {
    let out = running.run(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}\n{stderr}");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn said(running: &Running, args: &[&str], code: i32) -> String {
    let text = running.ends(args, code);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn engine<'a>(detected: &'a Value, name: &str) -> &'a Value {
    let engines = detected["engines"].as_array().unwrap();
    let found = engines.iter().find(|e| e["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {detected:#}"))
}

/// The ways to start dockerd by hand with the file of this host's Docker.
const STARTS: [&[&str]; 4] = [
    &["/usr/sbin/dockerd"],
    &["/usr/sbin/dockerd", "-H", "unix:///run/docker.sock"],
    &[
        "/usr/sbin/dockerd",
        "-H",
        "unix:///run/x.sock",
        "-p",
        "/run/x.pid",
    ],
    &[
        "dockerd",
        "--config-file=/etc/docker/daemon.json",
        "--pidfile=/run/x.pid",
    ],
];

#[test]
fn a_dockerd_started_by_hand_is_set_up_and_never_restarted_by_its_service() {
    for argv in STARTS {
        let Some(running) = Running::new() else {
            return;
        };
        // The service is stopped, and its PID file is another's or gone.
        running.host.write("state/by-hand", "");
        fs::remove_file(running.host.path("var/run/docker.pid")).unwrap();
        process(&running, 79, argv, PLAIN);
        running.host.write("run/x.pid", "79");
        let before = running.host.read(DAEMON_JSON);

        let detected = document(&running, &["detect"], 0);
        let docker = engine(&detected, "docker");
        assert_eq!(docker["running"], true, "{argv:?}");
        assert_eq!(docker["run_by"], json!({"is": "by-hand", "pid": 79}));
        let containerd = engine(&detected, "containerd");
        let unit = json!({"is": "unit", "unit": "containerd.service"});
        assert_eq!(containerd["run_by"], unit);
        let text = said(&running, &["detect"], 0);
        assert!(text.contains("run by process 79 ("), "{text}");

        let plan = document(&running, &["plan"], 2);
        let services = json!(["containerd.service"]);
        assert_eq!(plan["restart_required"], services, "{argv:?}");
        let text = said(&running, INSTALL, 7);
        let words =
            "docker.service does not run it: who has started it has to restart it: process 79";
        assert!(text.contains(words), "{text}");
        assert_eq!(running.host.read("state/invocation").trim(), "1");
        assert!(running.host.read(DAEMON_JSON).contains("gpu-container"));

        // What is due stays due, and nobody is told to start the service.
        let plan = document(&running, &["plan"], 2);
        assert_eq!(plan["changed"], false, "{argv:?}");
        assert_eq!(plan["restart_required"], json!([]));
        let due = &plan["restarts_due"][0];
        assert_eq!(due["engine"], "docker", "{plan:#}");
        assert_eq!(due["command"], Value::Null);
        assert!(due["by_another"].to_string().contains("process 79"));
        for args in [&["plan"][..], &[]] {
            let code = if args.is_empty() { 0 } else { 2 };
            let text = said(&running, args, code);
            assert!(text.contains("who has started it has to"), "{text}");
            assert!(!text.contains("systemctl restart docker"), "{text}");
        }
        let text = said(&running, INSTALL, 7);
        assert!(text.contains("who has started it has to"), "{text}");
        assert_eq!(running.host.read("state/invocation").trim(), "1");

        let text = said(&running, UNDO, 7);
        assert!(text.contains("it goes on with what it has read"), "{text}");
        assert_eq!(running.host.read("state/invocation").trim(), "1");
        assert_eq!(running.host.read(DAEMON_JSON), before);
        assert!(!running.host.path(DROP_IN).exists());
    }
}

/// It holds what the service would take over, so that is not started even where its name is given.
#[test]
fn a_service_whose_socket_another_daemon_has_is_not_started() {
    const OTHER: [&[&str]; 3] = [
        &["-H", "unix:///var/run/docker.sock"],
        &["-H", "unix:///run/b.sock", "--data-root", "/b"],
        &["-H", "unix:///run/b.sock", "-p", "/b.pid"],
    ];
    for flags in OTHER {
        let Some(running) = Running::new() else {
            return;
        };
        running.stop_docker();
        let start = ["/usr/sbin/dockerd", "--config-file=/etc/b.json"];
        process(&running, 79, &[&start, flags].concat(), PLAIN);
        // It may have the usual PID file, and answer at the usual socket.
        running.host.write("var/run/docker.pid", "79");
        let install = ["install", "--yes", "--engine", "docker"];
        let text = said(&running, &install, 7);
        let words = "docker.service is not started, for ";
        assert!(text.contains(words), "{flags:?} {text}");
        assert!(text.contains("process 79"), "{flags:?} {text}");
        assert!(!running.docker_runs(), "{flags:?}");
        assert!(running.host.read(DAEMON_JSON).contains("gpu-container"));
        running.ends(UNDO, 0);
        assert!(!running.docker_runs(), "{flags:?}");
    }
}

#[test]
fn a_second_daemon_is_named_with_what_to_do_and_left_alone() {
    let Some(running) = Running::new() else {
        return;
    };
    let own = [
        "/opt/dockerd",
        "--config-file=/etc/b.json",
        "-H",
        "unix:///run/b.sock",
        "--data-root",
        "/b",
        "-p",
        "/run/b.pid",
    ];
    process(&running, 79, &own, PLAIN);
    process(
        &running,
        80,
        &[
            "/usr/bin/containerd",
            "-c",
            "/etc/c.toml",
            "--address",
            "/run/c.sock",
        ],
        "0::/system.slice/site.service",
    );
    // Questions of ours are no daemons.
    process(&running, 81, &["/usr/sbin/dockerd", "--version"], PLAIN);
    let check = ["dockerd", "--validate", "--config-file=/etc/x.json"];
    process(&running, 82, &check, PLAIN);
    process(
        &running,
        83,
        &["containerd", "-c", "/x.toml", "config", "dump"],
        PLAIN,
    );
    let usual = ["/usr/sbin/dockerd", "-H", "fd://"];
    process(&running, 78, &usual, "0::/system.slice/docker.service");
    running.host.write("etc/b.json", "{}");
    let detected = document(&running, &["detect"], 0);
    let names = detected["engines"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "docker",
            "docker@/run/b.sock",
            "containerd",
            "containerd@/run/c.sock",
            "podman"
        ]
    );
    let docker = engine(&detected, "docker");
    let unit = json!({"is": "unit", "unit": "docker.service"});
    assert_eq!(docker["run_by"], unit);
    let second = engine(&detected, "docker@/run/b.sock");
    assert_eq!(second["run_by"], json!({"is": "by-hand", "pid": 79}));
    assert_eq!(second["config"], "/etc/b.json");
    let second = engine(&detected, "containerd@/run/c.sock");
    let by = json!({"is": "other-unit", "unit": "site.service", "pid": 80});
    assert_eq!(second["run_by"], by);
    assert_eq!(second["config"], "/etc/c.toml");

    let text = said(&running, &["plan"], 2);
    for words in [
        "docker@/run/b.sock is left alone: process 79",
        "into /etc/b.json",
        "containerd@/run/c.sock is left alone: process 80",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let named = ["install", "--yes", "--engine", "docker@/run/b.sock"];
    let text = said(&running, &named, 6);
    assert!(text.contains("into /etc/b.json"), "{text}");
    running.ends(INSTALL, 0);
    assert_eq!(running.host.read("etc/b.json"), "{}");
    assert_eq!(running.host.read("state/invocation").trim(), "2");
}
