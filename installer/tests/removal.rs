//! Tests that our packages ask what on the host needs them before they go: engines of root and of
//! users, quadlets, units and containers. What cannot be looked at is said, and keeps no package.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use fixture::Tree;
use fixture::packages::{goes, goes_and_says, host, remove_program, run, script, stays_and_says};

const OURS: &str = "{\"runtimes\": {\"nvidia\": {\"path\": \"/usr/bin/gpu-container-runtime\"}}}\n";
const QUADLET: &str = "[Container]\nImage=busybox\nAddDevice=nvidia.com/gpu=all\n";
const TOOLKIT: &str = "gpu-container-toolkit";
/// A package that goes first with the other one, by dpkg's and rpm's order of dependencies.
const PACKAGES: [&str; 2] = ["gpusetup", TOOLKIT];

fn users(tree: &Tree) {
    tree.write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/srv/people/alice:/bin/sh\n\
         bob:x:1001:1001::/net/bob:/bin/sh\n",
    );
}

/// Both packages refuse, whichever is asked first, and the first one that goes is still there.
fn both_stay_and_say(tree: &Tree, words: &[&str]) {
    let before = tree.state();
    for package in PACKAGES {
        for word in words {
            stays_and_says(tree, package, &["remove"], word);
            stays_and_says(tree, package, &["0"], word);
        }
    }
    assert_eq!(tree.state(), before);
}

#[test]
fn a_user_s_own_docker_keeps_the_packages_wherever_their_home_is() {
    let tree = host();
    users(&tree);
    tree.write("srv/people/alice/.config/docker/daemon.json", OURS);
    let file = "/srv/people/alice/.config/docker/daemon.json";
    both_stay_and_say(&tree, &[file, "alice"]);
    tree.write("srv/people/alice/.config/docker/daemon.json", "{}");
    for package in PACKAGES {
        goes(&tree, package, "prerm", &["remove"]);
    }
}

#[test]
fn a_user_s_files_are_where_their_running_docker_has_them() {
    let tree = host();
    users(&tree);
    tree.write("srv/conf/docker/daemon.json", OURS);
    tree.write("proc/77/comm", "dockerd\n");
    tree.write("proc/77/status", "Uid:\t1000\t1000\t1000\t1000\n");
    tree.write("proc/77/environ", "XDG_CONFIG_HOME=/srv/conf\0");
    both_stay_and_say(&tree, &["/srv/conf/docker/daemon.json", "alice"]);
}

#[test]
fn what_a_user_has_set_up_with_gpusetup_is_theirs_to_undo() {
    let tree = host();
    users(&tree);
    let daemon_json = "srv/elsewhere/docker/daemon.json";
    tree.write(daemon_json, OURS);
    // As a gpusetup without checksums wrote it.
    let receipt = serde_json::json!({
        "schema": 1, "version": "0.1.0", "directories": [], "services": [],
        "changes": [{"path": format!("/{daemon_json}"), "before": null, "after": OURS, "mode": 420, "why": "", "kind": {"kind": "own"}}],
    });
    tree.write(
        "srv/people/alice/.local/state/gpusetup/receipt.json",
        &receipt.to_string(),
    );
    both_stay_and_say(&tree, &["run `gpusetup undo` as alice", daemon_json]);
    // Without the program she could not undo it, so gpusetup does not go alone either.
    let done = tree.run(&["references", "gpusetup", "--json"]);
    assert_eq!(done.status.code(), Some(2));
    let document: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["needed"][0]["user"], "alice");
    assert_eq!(document["needed"].as_array().unwrap().len(), 1);
}

#[test]
fn quadlets_and_units_that_ask_for_a_gpu_by_cdi_keep_the_packages() {
    for file in [
        "etc/containers/systemd/train.container",
        "etc/containers/systemd/users/1000/train.container",
        "srv/people/alice/.config/containers/systemd/train.container",
        "etc/systemd/system/container-train.service",
        "srv/people/alice/.config/systemd/user/container-train.service",
    ] {
        let tree = host();
        users(&tree);
        tree.write(file, QUADLET);
        both_stay_and_say(&tree, &[&format!("/{file}"), "nvidia.com/gpu"]);
        // If the devices are another tool's, it gives them on.
        tree.write(
            "etc/cdi/theirs.yaml",
            "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\n",
        );
        for package in PACKAGES {
            goes(&tree, package, "prerm", &["remove"]);
        }
    }
}

/// An undo leaves the spec to the service that makes it; both go with the package.
#[test]
fn our_own_spec_keeps_no_package() {
    let tree = host();
    let spec = "{\"hooks\": [{\"path\": \"/usr/bin/gpu-container-hook\"}]}\n";
    tree.write("var/run/cdi/nvidia.yaml", spec);
    tree.write("lib/systemd/system/gpusetup-cdi.service", "");
    let receipt = serde_json::json!({
        "schema": 1, "version": "0.1.0", "directories": [], "services": [],
        "changes": [{"path": "/var/run/cdi/nvidia.yaml", "before": null, "after": spec, "mode": 420, "why": "", "kind": {"kind": "generated"}}],
    });
    tree.write("var/lib/gpusetup/receipt.json", &receipt.to_string());
    for package in PACKAGES {
        goes(&tree, package, "prerm", &["remove"]);
    }
}

#[test]
fn a_container_that_has_our_devices_keeps_the_packages() {
    let hook = "{\"hooks\": {\"createContainer\": [{\"path\": \"/usr/bin/gpu-container-hook\"}]}}";
    for storage in [
        "var/lib/containers/storage",
        "srv/people/alice/.local/share/containers/storage",
    ] {
        let tree = host();
        users(&tree);
        tree.write(
            &format!("{storage}/overlay-containers/c1/userdata/config.json"),
            hook,
        );
        let list = "[{\"id\": \"c1\", \"names\": [\"train\"]}]";
        tree.write(
            &format!("{storage}/overlay-containers/containers.json"),
            list,
        );
        both_stay_and_say(&tree, &["podman container train"]);
    }
}

/// A host with alice's files on a file system that root must not or cannot look at.
fn unseen(kind: &str) -> Tree {
    let tree = host();
    users(&tree);
    tree.write("net/bob/.config/docker/daemon.json", OURS);
    let mounts =
        format!("22 1 8:1 / / rw - ext4 /dev/sda rw\n30 22 0:40 / /net rw - {kind} x rw\n");
    tree.write("proc/self/mountinfo", &mounts);
    tree
}

#[test]
fn a_home_that_may_not_answer_is_said_and_keeps_no_package() {
    for kind in ["autofs", "nfs4", "cifs", "fuse.sshfs"] {
        let tree = unseen(kind);
        for package in PACKAGES {
            goes_and_says(&tree, package, "/net/bob");
        }
        let done = tree.run(&["references", "--json"]);
        assert_eq!(done.status.code(), Some(1), "{kind}");
        let document: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(document["needed"], serde_json::json!([]));
        let why = document["not_seen"][0]["why"].as_str().unwrap();
        assert!(why.contains(kind), "{why}");
    }
}

#[test]
fn a_home_that_cannot_be_read_is_said_and_keeps_no_package() {
    let tree = host();
    users(&tree);
    let home = tree.path("srv/people/alice");
    tree.write("srv/people/alice/.config/docker/daemon.json", OURS);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o0)).unwrap();
    let can_read = fs::read_dir(&home).is_ok();
    let done = tree.run(&["references"]);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    // Root can read it all the same, and must not overlook what is in it then.
    let wanted = if can_read { 2 } else { 1 };
    assert_eq!(done.status.code(), Some(wanted), "{text}");
    assert!(text.contains("/srv/people/alice"), "{text}");
}

#[test]
fn an_administrator_who_has_decided_is_not_asked() {
    for file in [true, false] {
        let tree = host();
        users(&tree);
        tree.write("srv/people/alice/.config/docker/daemon.json", OURS);
        let done = tree.run(&["install", "--yes", "--engine", "docker"]);
        assert!(done.status.success(), "{done:?}");
        for package in PACKAGES {
            stays_and_says(&tree, package, &["remove"], "/run/gpusetup-remove-anyway");
        }
        if file {
            tree.write("run/gpusetup-remove-anyway", "");
        }
        for package in PACKAGES {
            let mut command = script(&tree, package, "prerm", &["remove"]);
            if !file {
                command.env("GPUSETUP_REMOVE", "anyway");
            }
            let done = command.output().unwrap();
            assert!(done.status.success(), "{done:?}");
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(
                said.contains("alice") && said.contains("all the same"),
                "{said}"
            );
        }
        // What root has set up is undone nevertheless.
        assert_eq!(tree.read("etc/docker/daemon.json"), fixture::DAEMON_JSON);
        goes(&tree, TOOLKIT, "postrm", &["remove"]);
        assert!(!tree.path("run/gpusetup-remove-anyway").exists());
    }
}

#[test]
fn without_gpusetup_the_toolkit_looks_where_gpusetup_would() {
    let files = [
        ("etc/docker/daemon.json", OURS),
        (
            "etc/containerd/conf.d/mine.toml",
            "BinaryName = \"/usr/bin/gpu-container-runtime\"\n",
        ),
        (
            "etc/systemd/system/docker.service.d/x.conf",
            "[Service]\nEnvironment=PATH=/usr/lib/gpu-container/bin\n",
        ),
        (
            "etc/apptainer/apptainer.conf",
            "nvidia-container-cli path = /usr/lib/gpu-container/bin/nvidia-container-cli\n",
        ),
        ("etc/containers/systemd/train.container", QUADLET),
        ("srv/people/alice/.config/docker/daemon.json", OURS),
        (
            "srv/people/alice/.config/containers/systemd/train.container",
            QUADLET,
        ),
    ];
    for (file, text) in files {
        let tree = host();
        users(&tree);
        remove_program(&tree);
        goes(&tree, TOOLKIT, "prerm", &["remove"]);
        tree.write(file, text);
        stays_and_says(&tree, TOOLKIT, &["remove"], &format!("/{file}"));
        tree.write(file, &format!("# {}", text.replace('\n', "\n# ")));
        goes(&tree, TOOLKIT, "prerm", &["remove"]);
    }
}

#[test]
fn without_gpusetup_no_file_system_is_touched_that_may_not_answer() {
    for kind in ["autofs", "nfs4", "fuse.sshfs"] {
        let tree = unseen(kind);
        remove_program(&tree);
        goes_and_says(&tree, TOOLKIT, "/net/bob");
        // A link in a home can lead there as well.
        fs::create_dir_all(tree.path("srv/people/alice")).unwrap();
        symlink("/net/bob/.config", tree.path("srv/people/alice/.config")).unwrap();
        goes(&tree, TOOLKIT, "prerm", &["remove"]);
    }
}

/// If the program cannot say, the list is searched too: a broken program keeps nothing, and hides
/// nothing.
#[test]
fn a_gpusetup_that_does_not_run_hides_nothing() {
    let tree = host();
    remove_program(&tree);
    tree.write("usr/bin/gpusetup", "#!/bin/sh\nexit 101\n");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tree.path("usr/bin/gpusetup"), mode).unwrap();
    goes(&tree, TOOLKIT, "prerm", &["remove"]);
    tree.write("etc/docker/daemon.json", OURS);
    for package in PACKAGES {
        stays_and_says(&tree, package, &["remove"], "/etc/docker/daemon.json");
    }
}

#[test]
fn gpusetup_alone_goes_where_only_the_toolkit_is_needed() {
    let tree = host();
    users(&tree);
    tree.write("etc/containers/systemd/train.container", QUADLET);
    assert_eq!(tree.code(&["references", "gpusetup"]), 0);
    assert_eq!(tree.code(&["references", "gpu-container-toolkit"]), 2);
    assert_eq!(tree.code(&["references"]), 2);
    let status = tree.read("var/lib/dpkg/status");
    let package = |name: &str, want: &str| {
        format!(
            "Package: {name}\nStatus: {want} ok installed\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n\n"
        )
    };
    let dpkg = std::process::Command::new("dpkg-query")
        .arg("--version")
        .output();
    if dpkg.is_err() {
        // Without dpkg both count as going, as with rpm.
        stays_and_says(&tree, "gpusetup", &["remove"], "train.container");
        return;
    }
    for (want, code) in [("install", true), ("deinstall", false)] {
        let all = format!(
            "{}{}",
            package("gpusetup", "deinstall"),
            package(TOOLKIT, want)
        );
        tree.write("var/lib/dpkg/status", &all);
        let done = run(&tree, "gpusetup", "prerm", &["remove"]);
        assert_eq!(done.status.success(), code, "{want}: {done:?}");
    }
    tree.write("var/lib/dpkg/status", &status);
}
