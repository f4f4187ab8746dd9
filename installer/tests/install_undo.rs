//! Tests gpusetup on directory trees: what it writes, what it leaves alone, and its exit codes.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::Value;

use fixture::{CONFIG_TOML, DAEMON_JSON, Tree};

#[test]
fn install_and_undo_restore_the_tree() {
    for (docker, containerd) in [
        ("20.10.24", "1.6.20"),
        ("26.1.5", "1.7.24"),
        ("28.5.2", "2.1.9"),
    ] {
        let tree = Tree::new(docker, containerd);
        let before = tree.state();
        assert_eq!(tree.code(&["plan"]), 2);
        assert_eq!(tree.state(), before);
        assert_eq!(tree.code(&["install", "--yes"]), 0);

        let json: Value = serde_json::from_str(&tree.read("etc/docker/daemon.json")).unwrap();
        assert_eq!(
            json["runtimes"]["nvidia"]["path"],
            "/usr/bin/gpu-container-runtime"
        );
        // From 25.0 on CDI must be turned on; from 28.2 on it is on by default.
        assert_eq!(
            json.get("features").is_some(),
            docker.starts_with("26"),
            "{docker}"
        );
        let text = tree.read("etc/docker/daemon.json");
        assert!(
            text.starts_with(DAEMON_JSON.trim_end_matches("\n}\n")),
            "{text}"
        );
        let toml = tree.read("etc/containerd/config.toml");
        for line in CONFIG_TOML.lines() {
            assert!(toml.lines().any(|l| l == line), "{line:?} in\n{toml}");
        }
        let parsed: toml::Table = toml.parse().unwrap();
        let cri = &parsed["plugins"]["io.containerd.grpc.v1.cri"];
        let options = &cri["containerd"]["runtimes"]["nvidia"]["options"];
        assert_eq!(
            options["BinaryName"].as_str(),
            Some("/usr/bin/gpu-container-runtime")
        );
        assert_eq!(options["SystemdCgroup"].as_bool(), Some(true));

        let installed = tree.state();
        let again = tree.run(&["install", "--yes", "--json"]);
        let document: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(
            (again.status.code(), &document["changed"]),
            (Some(0), &Value::Bool(false))
        );
        assert_eq!(tree.state(), installed);

        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.state(), before, "{docker}");
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
    }
}

/// A dry run of undo is for Ansible's check mode and for cautious administrators.
#[test]
fn undo_shows_its_plan_first() {
    let tree = Tree::new("26.1.5", "1.7.24");
    assert_eq!(tree.code(&["undo", "--dry-run"]), 0);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let installed = tree.state();
    let out = tree.run(&["undo", "--dry-run", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (out.status.code(), &document["changed"]),
        (Some(2), &Value::Bool(true))
    );
    assert_eq!(tree.state(), installed);
    let done = tree.run(&["undo", "--yes", "--json"]);
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["diff"], done["diff"]);
    let diff = document["diff"].as_array().unwrap();
    assert!(diff.iter().any(|d| d["after"] == DAEMON_JSON));
}

/// A table of runtimes replaces containerd's own: without runc in it CRI does not load.
#[test]
fn runc_stays_available_if_the_file_names_no_runtime() {
    for text in ["version = 2\n", CONFIG_TOML] {
        let tree = Tree::new("20.10.24", "1.7.24");
        tree.write("etc/containerd/config.toml", text);
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        let parsed: toml::Table = tree.read("etc/containerd/config.toml").parse().unwrap();
        let runtimes = &parsed["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"];
        let runc = runtimes["runc"]["runtime_type"].as_str();
        assert_eq!(runc, Some("io.containerd.runc.v2"));
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.read("etc/containerd/config.toml"), text);
    }
}

#[test]
fn links_and_modes_are_kept() {
    let tree = Tree::new("20.10.24", "1.6.20");
    let json = tree.path("etc/docker/daemon.json");
    fs::rename(&json, tree.path("etc/docker/real.json")).unwrap();
    // An absolute link, which leads to a path within the tree, not on this machine.
    symlink("/etc/docker/real.json", &json).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(tree.path("etc/docker/real.json"), mode).unwrap();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(json.is_symlink());
    assert!(
        tree.read("etc/docker/real.json")
            .contains("gpu-container-runtime")
    );
    assert_eq!(
        fs::metadata(tree.path("etc/docker/real.json"))
            .unwrap()
            .mode()
            & 0o777,
        0o600
    );
}

#[test]
fn undo_keeps_later_changes_and_stops_at_a_conflict() {
    let tree = Tree::new("20.10.24", "1.6.20");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let ours = tree.read("etc/docker/daemon.json");
    tree.write(
        "etc/docker/daemon.json",
        &ours.replace("/usr/bin/gpu-container-runtime", "/x"),
    );
    let installed = tree.state();
    let refused = tree.run(&["undo", "--yes"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("runtimes.nvidia"));
    assert_eq!(tree.state(), installed);

    let changed = ours.replacen("{\n", "{\n\t\"debug\": true,\n", 1);
    tree.write("etc/docker/daemon.json", &changed);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    let wanted = DAEMON_JSON.replacen("{\n", "{\n\t\"debug\": true,\n", 1);
    assert_eq!(tree.read("etc/docker/daemon.json"), wanted);
}

#[test]
fn uneditable_files_are_refused_and_left_alone() {
    let json = [
        "{",
        "[]",
        "{\"a\":1,\"a\":2}",
        "\u{feff}{}",
        "// c\n{}",
        "{\"a\":1,}",
        "{\"runtimes\":3}",
        "{\"runtimes\":{\"nvidia\":{\"path\":\"/x\"}}}",
    ];
    let toml = [
        "version = 9",
        "version = ",
        "version = \"2\"",
        "version = 2\nplugins = 3",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\n",
    ];
    let files = json.iter().map(|t| ("etc/docker/daemon.json", *t));
    for (path, text) in files.chain(toml.iter().map(|t| ("etc/containerd/config.toml", *t))) {
        let tree = Tree::new("20.10.24", "1.6.20");
        tree.write(path, text);
        let before = tree.state();
        let out = tree.run(&["install", "--yes", "--all-or-nothing"]);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{text}: {stderr}");
        assert!(
            stderr.contains(path) && stderr.contains("fix:"),
            "{text}: {stderr}"
        );
        assert_eq!(tree.state(), before, "{text}");
    }
}

#[test]
fn the_next_run_rolls_back_an_interrupted_one() {
    let tree = Tree::new("20.10.24", "1.6.20");
    let before = tree.state();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    // A crash before the receipt leaves the journal and the written files.
    let receipt = "var/lib/gpusetup/receipt.json";
    let journal = fixture::without_checksums(&tree.read(receipt));
    tree.write("var/lib/gpusetup/journal.json", &journal.to_string());
    fs::remove_file(tree.path(receipt)).unwrap();
    assert_eq!(tree.code(&["undo", "--dry-run"]), 2);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    let mut after = tree.state();
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
}

#[test]
fn exit_codes_tell_the_kind_of_failure() {
    let tree = Tree::new("20.10.24", "1.6.20");
    assert_eq!(tree.code(&["install", "--no-such-flag"]), 4);
    assert_eq!(tree.code(&["install"]), 4);
    assert_eq!(tree.code(&["install", "--yes", "--engine", "podman"]), 6);
    tree.write("etc/os-release", "ID=slackware\n");
    assert_eq!(tree.code(&["plan"]), 6);
    tree.write("etc/os-release", "ID=debian\n");
    fs::remove_file(tree.path("usr/sbin/dockerd")).unwrap();
    fs::remove_file(tree.path("usr/bin/containerd")).unwrap();
    assert_eq!(tree.code(&["plan"]), 6);
    assert_eq!(tree.code(&["--version"]), 0);
    assert_eq!(tree.code(&["man"]), 0);
}

#[test]
fn the_refusal_of_a_distribution_names_a_fix() {
    let tree = Tree::new("20.10.24", "1.6.20");
    tree.write("etc/os-release", "ID=nixos\nPRETTY_NAME=\"NixOS 25.05\"\n");
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(6));
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.contains("NixOS 25.05: it makes /etc"), "{stderr}");
    assert!(
        stderr.contains("hardware.nvidia-container-toolkit.enable = true;"),
        "{stderr}"
    );
    let stdout = tree.run(&["detect"]).stdout;
    let text = String::from_utf8_lossy(&stdout);
    assert!(text.contains("hardware.nvidia-container-toolkit"), "{text}");
}

#[test]
fn an_unknown_distribution_with_systemd_is_set_up_with_a_warning() {
    let tree = Tree::new("20.10.24", "1.6.20");
    tree.write(
        "etc/os-release",
        "ID=slackware\nPRETTY_NAME=\"Slackware\"\n",
    );
    assert_eq!(tree.code(&["plan"]), 6);
    tree.write("usr/lib/systemd/systemd", "");
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(2));
    let output = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&output);
    assert!(text.contains("slackware is not in the table"), "{text}");
}

#[test]
fn distributions_of_every_family_are_set_up() {
    for (id, command) in [
        ("ID=rocky\nVERSION_ID=9.5\n", "dnf install podman"),
        ("ID=opensuse-leap\n", "zypper install docker"),
        ("ID=arch\n", "pacman -S docker"),
        ("ID=amzn\nVERSION_ID=2023\n", "dnf install docker"),
        ("ID=flatcar\nID_LIKE=coreos\n", "install one"),
    ] {
        let tree = Tree::new("20.10.24", "1.6.20");
        tree.write("etc/os-release", id);
        assert_eq!(tree.code(&["plan"]), 2, "{id}");
        fs::remove_file(tree.path("usr/sbin/dockerd")).unwrap();
        fs::remove_file(tree.path("usr/bin/containerd")).unwrap();
        let out = tree.run(&["plan"]);
        assert_eq!(out.status.code(), Some(6), "{id}");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(stderr.contains(command), "{stderr}");
    }
}

/// Flatcar's own containerd.service (flatcar/scripts, app-containers/containerd).
const FLATCAR_UNIT: &str = "[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\nExecStart=/usr/bin/containerd --config ${CONTAINERD_CONFIG}\n";

#[test]
fn nothing_is_written_into_a_read_only_usr() {
    let tree = Tree::new("20.10.24", "1.6.20");
    tree.write("etc/os-release", "ID=flatcar\nID_LIKE=coreos\n");
    tree.write("usr/lib/systemd/system/containerd.service", FLATCAR_UNIT);
    tree.write("usr/share/containerd/config.toml", "version = 2\n");
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(6));
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(
        stderr.contains("/usr/share/containerd/config.toml would have to change"),
        "{stderr}"
    );
    assert!(stderr.contains("10-config-in-etc.conf"), "{stderr}");
    assert_eq!(tree.code(&["plan", "--engine", "docker"]), 2);
    tree.write(
        "etc/systemd/system/containerd.service.d/10-config-in-etc.conf",
        "[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n",
    );
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(2));
    let stdout = String::from_utf8_lossy(&out.stdout);
    assert!(stdout.contains("/etc/containerd/config.toml"), "{stdout}");
    assert!(!stdout.contains("${"), "{stdout}");
}

#[test]
fn undo_handles_an_interrupted_refresh() {
    let tree = Tree::new("26.1.5", "1.7.24");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    tree.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06\n",
    );
    // The spec can be written. The link cannot: a directory is in the place where it is made.
    tree.write("dev/nvidiactl", "");
    fs::create_dir_all(tree.path("dev/char/.195:255.gpusetup")).unwrap();
    assert_eq!(tree.code(&["cdi", "refresh"]), 1);
    assert!(tree.path("var/run/cdi/nvidia.yaml").exists());
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert!(!tree.path("var/run/cdi/nvidia.yaml").exists());
}
