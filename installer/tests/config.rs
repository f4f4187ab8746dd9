//! Tests `gpusetup config` on a file with comments, and with a script written for `nvidia-ctk`.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use fixture::Tree;

const PATH: &str = "etc/nvidia-container-runtime/config.toml";
const RECEIPT: &str = "var/lib/gpusetup/receipt.json";
const MINE: &str = "# ours since 2019\ndisable-require = true # kept\nodd-key = 7\n\n\
    [nvidia-container-runtime]\nruntimes = [ \"runc\" ]   # only\n";

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn config_set_keeps_comments_and_unknown_keys() {
    let tree = Tree::new("26.1.5", "1.7.24");
    tree.write(PATH, MINE);
    let set = [
        "config",
        "set",
        "disable-require=false",
        "nvidia-container-runtime.mode=cdi",
    ];
    let out = tree.run(&set);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let wanted = MINE
        .replace("= true # kept", "= false # kept")
        .replace("# only\n", "# only\nmode = \"cdi\"\n");
    assert_eq!(tree.read(PATH), wanted);
    let again = tree.run(&["config", "set", "--json", "disable-require=false"]);
    assert!(
        text(&again).contains("\"changed\":false"),
        "{}",
        text(&again)
    );
    let out = tree.run(&["config", "get", "nvidia-container-runtime.runtimes"]);
    assert_eq!(text(&out).trim(), "[ \"runc\" ]");
}

#[test]
fn config_of_a_host_without_the_file_is_the_default() {
    let tree = Tree::new("26.1.5", "1.7.24");
    let shown = text(&tree.run(&["config", "show"]));
    assert_eq!(shown, text(&tree.run(&["config", "default"])));
    let out = tree.run(&["config", "get", "nvidia-container-runtime.mode"]);
    assert_eq!(text(&out), "auto\n");
    let dry = tree.run(&[
        "config",
        "set",
        "--dry-run",
        "nvidia-container-runtime.mode=cdi",
    ]);
    assert_eq!(dry.status.code(), Some(2));
    assert_eq!(
        text(&dry),
        shown.replace("mode = \"auto\"", "mode = \"cdi\"")
    );
    assert_eq!(tree.read_if_there(PATH), None);
    tree.run(&["config", "set", "nvidia-container-cli.no-cgroups"]);
    let written = tree.read(PATH);
    assert!(written.contains("no-cgroups = true") && written.contains("# Leave the device cgroup"));
}

#[test]
fn config_refuses_what_the_start_path_would_refuse() {
    let tree = Tree::new("26.1.5", "1.7.24");
    tree.write(PATH, MINE);
    for setting in [
        "nvidia-container-runtime.moed=cdi",
        "disable-require=perhaps",
        "supported-driver-capabilities=gpu",
        "odd-key.below=1",
    ] {
        let out = tree.run(&["config", "set", setting]);
        assert!(
            matches!(out.status.code(), Some(1 | 4)),
            "{setting}: {}",
            text(&out)
        );
        assert_eq!(tree.read(PATH), MINE, "{setting}");
    }
    tree.write(PATH, "[broken");
    let out = tree.run(&["config", "set", "disable-require=false"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert_eq!(tree.read(PATH), "[broken");
}

#[test]
fn nvidia_ctk_config_follows_our_rules() {
    let tree = Tree::new("26.1.5", "1.7.24");
    // The program acts as nvidia-ctk because of its name alone. The tree stands in for the host.
    let ctk = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_gpusetup"))
            .arg0("/usr/lib/gpu-container/bin/nvidia-ctk")
            .args(args)
            .output()
            .unwrap()
    };
    let out = ctk(&["runtime", "configure", "--runtime=podman"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out).contains("Podman needs none"), "{}", text(&out));
    let out = ctk(&["--version"]);
    assert!(text(&out).starts_with("gpusetup "), "{}", text(&out));
    let out = ctk(&["config", "default"]);
    assert_eq!(text(&out), text(&tree.run(&["config", "default"])));
}

/// With two playbooks at once, each setting that was reported as done is there.
#[test]
fn concurrent_settings_are_both_kept() {
    let tree = Tree::new("26.1.5", "1.7.24");
    let keys = ["disable-require", "nvidia-container-cli.no-cgroups"];
    for round in 0..20 {
        tree.write(PATH, "");
        let done = std::thread::scope(|scope| {
            let runs = keys.map(|key| {
                let tree = &tree;
                scope.spawn(move || tree.code(&["config", "set", key]))
            });
            runs.map(|run| run.join().unwrap())
        });
        for (key, code) in keys.iter().zip(done) {
            // Exit code 5: the other run had the lock.
            assert!(matches!(code, 0 | 5), "{key}: {code}");
            let value = text(&tree.run(&["config", "get", key]));
            assert!(
                code == 5 || value == "true\n",
                "{key} is lost in round {round}"
            );
        }
    }
}

/// A setting is the user's own, even if gpusetup made the file.
#[test]
fn undo_does_not_revert_a_setting() {
    let tree = Tree::new("26.1.5", "1.7.24");
    assert_eq!(tree.code(&["config", "set", "disable-require"]), 0);
    assert!(!tree.path("var/lib/gpusetup").exists());
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let receipt = tree.read(RECEIPT);
    assert_eq!(tree.code(&["config", "set", "disable-require=false"]), 0);
    assert_eq!(tree.read(RECEIPT), receipt);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert!(tree.read(PATH).contains("disable-require = false"));
}

/// Otherwise its journal would be overwritten, and with it what is needed to roll back that run.
#[test]
fn an_unfinished_run_is_rolled_back_before_a_setting_is_written() {
    let tree = Tree::new("26.1.5", "1.7.24");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let journal = fixture::without_checksums(&tree.read(RECEIPT));
    tree.write("var/lib/gpusetup/journal.json", &journal.to_string());
    std::fs::remove_file(tree.path(RECEIPT)).unwrap();
    assert_ne!(tree.read("etc/docker/daemon.json"), fixture::DAEMON_JSON);
    let out = tree.run(&["config", "set", "disable-require"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert_eq!(tree.read("etc/docker/daemon.json"), fixture::DAEMON_JSON);
    assert!(tree.read(PATH).contains("disable-require = true"));
    assert!(!tree.path("var/lib/gpusetup").exists());
}

/// What doctor and refresh know a policy by that disappears.
#[test]
fn a_policy_is_kept_beside_its_file() {
    const COPY: &str = "var/lib/gpu-container/policy.toml";
    let strict = "accept-nvidia-visible-devices-envvar-when-unprivileged";
    let tree = Tree::new("26.1.5", "1.7.24");
    assert_eq!(tree.code(&["config", "set", "disable-require=false"]), 0);
    assert_eq!(tree.read_if_there(COPY), None);
    let set = format!("{strict}=false");
    assert_eq!(tree.code(&["config", "set", &set]), 0);
    assert_eq!(tree.read(COPY), tree.read(PATH));
    let set = format!("{strict}=true");
    assert_eq!(tree.code(&["config", "set", &set]), 0);
    assert_eq!(tree.read_if_there(COPY), None);
}
