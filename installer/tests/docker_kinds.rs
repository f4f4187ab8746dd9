//! Tests Dockers other than the system's (snap, Desktop, WSL, rootless), and which one plain
//! `docker` talks to if there are several.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use fixture::Tree;

/// A host with Docker only.
fn docker() -> Tree {
    let tree = Tree::new("26.1.5", "1.7.24");
    fs::remove_file(tree.path("usr/bin/containerd")).unwrap();
    tree
}

fn message(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

#[test]
fn docker_as_a_snap_is_explained_and_not_changed() {
    let tree = docker();
    tree.write("var/snap/docker/current/config/daemon.json", "{}\n");
    tree.write(
        "snap/docker/current/meta/snap.yaml",
        "name: docker\nversion: '28.4.0'\n",
    );
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        message(&out).contains("docker-snap is left alone: a snap is confined"),
        "{}",
        message(&out)
    );
    let out = tree.run(&["detect", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let snap = document["engines"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["name"] == "docker-snap")
        .unwrap();
    assert_eq!(
        (&snap["version"], &snap["configured"]),
        (&"28.4.0".into(), &false.into())
    );
    assert_eq!(snap["standing"]["is"], "not-ours");
    assert_eq!(
        tree.code(&["install", "--yes", "--engine", "docker-snap"]),
        6
    );

    // If the snap is the only Docker, the message says how to set it up.
    fs::remove_file(tree.path("usr/sbin/dockerd")).unwrap();
    let before = tree.state();
    let out = tree.run(&["install", "--yes"]);
    assert_eq!(out.status.code(), Some(6));
    let message = message(&out);
    for word in [
        "docker run --runtime nvidia --gpus all",
        "snap connections docker",
        "nvidia-support",
        "snap restart docker",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert_eq!(tree.state(), before);
}

#[test]
fn docker_desktop_is_distinguished_from_docker_engine() {
    for sign in ["opt/docker-desktop/bin/x", "usr/bin/com.docker.cli"] {
        let tree = docker();
        fs::remove_file(tree.path("usr/sbin/dockerd")).unwrap();
        tree.write(sign, "");
        let out = tree.run(&["install", "--yes"]);
        assert_eq!(out.status.code(), Some(6));
        assert_eq!(
            message(&out),
            "gpusetup: docker-desktop: its daemon is in a virtual machine, which has no GPU of this host\n  \
             fix: install Docker Engine beside it, `docker context use default`, then run this again\n"
        );
        // Beside an engine it is only a note.
        tree.write("usr/bin/dockerd", "");
        let out = tree.run(&["plan"]);
        assert_eq!(out.status.code(), Some(2));
        assert!(
            message(&out).contains("docker-desktop is left alone"),
            "{}",
            message(&out)
        );
    }
}

#[test]
fn on_wsl_the_link_of_the_client_decides() {
    let tree = docker();
    fs::remove_file(tree.path("usr/sbin/dockerd")).unwrap();
    tree.write("mnt/wsl/docker-desktop/cli-tools/usr/bin/docker", "");
    // Docker Desktop is not integrated with this distribution, so there is no Docker here.
    let out = tree.run(&["plan"]);
    assert!(
        message(&out).contains("no container engine is installed"),
        "{}",
        message(&out)
    );
    symlink(
        "/mnt/wsl/docker-desktop/cli-tools/usr/bin/docker",
        tree.path("usr/bin/docker"),
    )
    .unwrap();
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(6));
    assert!(
        message(&out).contains("Docker Desktop's on Windows"),
        "{}",
        message(&out)
    );
    // docker-ce in the distribution itself is an engine that we set up.
    fs::remove_file(tree.path("usr/bin/docker")).unwrap();
    tree.write("usr/bin/docker", "");
    tree.write("usr/bin/dockerd", "");
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        !message(&out).contains("docker-desktop"),
        "{}",
        message(&out)
    );
}

#[test]
fn a_client_with_another_daemon_is_a_warning() {
    let tree = docker();
    tree.write(
        "root/.docker/config.json",
        "{\"currentContext\": \"desktop-linux\"}",
    );
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        message(&out).contains(
            "plain `docker` talks to a daemon of its own here (context \"desktop-linux\"), not to the Docker that is \
             set up; for that one: `docker context use default`, or `docker -H unix:///var/run/docker.sock`"
        ),
        "{}",
        message(&out)
    );
}

#[test]
fn rootless_dockers_of_other_users_are_named_and_left_alone() {
    let tree = docker();
    tree.write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
    );
    tree.write(
        "home/alice/.config/systemd/user/docker.service",
        "[Service]\n",
    );
    let before = tree.state();
    let out = tree.run(&["install", "--yes"]);
    assert_eq!(out.status.code(), Some(0));
    assert!(
        message(&out).contains(
            "docker-rootless is left alone: docker of user alice is rootless, and root writes into no home \
             directory; run `gpusetup install` as alice"
        ),
        "{}",
        message(&out)
    );
    let home = |state: &BTreeMap<PathBuf, (u32, String)>| {
        let mut state = state.clone();
        state.retain(|path, _| path.starts_with(tree.path("home")));
        state
    };
    assert_eq!(home(&tree.state()), home(&before));
}

/// Runs on this host as the user `nobody`: a command that changes the host needs root unless the
/// user has a rootless Docker. Nothing is written in either case. Needs root to become `nobody`.
#[test]
fn only_a_user_with_a_rootless_docker_needs_no_root() {
    if !skips::has(&[skips::Need::Root]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let open = || fs::Permissions::from_mode(0o755);
    fs::set_permissions(home.path(), open()).unwrap();
    let program = home.path().join("gpusetup");
    fixture::copy_program(env!("CARGO_BIN_EXE_gpusetup"), &program);
    fs::set_permissions(&program, open()).unwrap();
    let as_nobody = |args: &[&str]| {
        let out = Command::new(&program)
            .args(args)
            .env_clear()
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path().join("run"))
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        (out.status.code().unwrap(), message(&out))
    };
    for command in [
        &["install", "--yes"][..],
        &["undo", "--yes"],
        &["recover"],
        &["verify"],
        &["cdi", "refresh"],
    ] {
        let (code, message) = as_nobody(command);
        assert_eq!(code, 9, "{command:?}: {message}");
        assert!(
            message.contains("run it as root, with sudo"),
            "{command:?}: {message}"
        );
    }
    let units = home.path().join(".config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    fs::write(
        units.join("docker.service"),
        "[Service]\nExecStart=/usr/bin/dockerd-rootless.sh\n",
    )
    .unwrap();
    // The run-time directory as logind makes it.
    let run = home.path().join("run");
    fs::create_dir_all(&run).unwrap();
    std::os::unix::fs::chown(&run, Some(65534), Some(65534)).unwrap();
    let (code, message) = as_nobody(&["install", "--yes", "--no-restart"]);
    // How far it gets depends on this host: it may have no driver or no CDI spec.
    assert!(matches!(code, 0 | 6), "{code}: {message}");
    let (code, message) = as_nobody(&["cdi", "refresh"]);
    assert_eq!(code, 9, "{message}");
}

/// Docker as an archive, unpacked below /opt, with a unit of its own.
#[test]
fn a_docker_below_opt_is_set_up_by_its_own_unit() {
    for name in ["docker.service", "moby.service"] {
        let tree = docker();
        let at = tree.path("opt/docker/bin");
        fs::create_dir_all(&at).unwrap();
        fs::rename(tree.path("usr/sbin/dockerd"), at.join("dockerd")).unwrap();
        let unit = format!("etc/systemd/system/{name}");
        tree.write(
            &unit,
            "[Service]\nExecStart=/opt/docker/bin/dockerd --config-file /opt/docker/daemon.json\n",
        );
        let before = tree.state();
        assert_eq!(tree.code(&["install", "--yes", "--engine", "docker"]), 0);
        let json = tree.read("opt/docker/daemon.json");
        assert!(json.contains("gpu-container-runtime"), "{name}: {json}");
        let drop_in = tree.read_if_there(&format!("{unit}.d/50-gpusetup.conf"));
        assert!(drop_in.is_some(), "{name}");
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.state(), before, "{name}");
    }
}
