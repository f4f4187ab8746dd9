//! Has real containerd daemons read the golden cases, if there are any.

use std::process::Command;

use skips::Need;

use crate::cases::{self, Case, case, files, install};
use crate::fixture::Tree;
use crate::{OURS, RENDERED, ROOT};

/// Real daemons read every case of a plain containerd: the `containerd` on this machine, and those
/// that `GPUSETUP_CONTAINERDS` names, separated by colons.
#[test]
fn real_daemons_read_our_configuration_as_intended() {
    let named = std::env::var("GPUSETUP_CONTAINERDS").unwrap_or_default();
    let programs = std::iter::once("containerd").chain(named.split(':').filter(|p| !p.is_empty()));
    let (mut read, mut daemons) = (0, 0);
    for program in programs {
        if program == "containerd" && !skips::has(&[Need::Containerd]) {
            continue;
        }
        let daemon = version_of(program).unwrap_or_else(|| panic!("{program} tells no version"));
        daemons += 1;
        for case in cases::all_cases() {
            let wanted = case.version.as_deref().map(numbers);
            // 1.6 and 1.7 read the same files, and so do 2.0 to 2.2; 2.3 differs from both.
            let kind = |(major, minor): (u32, u32)| (major, major == 2 && minor >= 3);
            if wanted.is_some_and(|w| kind(w) == kind(daemon)) {
                read += usize::from(reads(program, daemon, &case));
            }
        }
    }
    println!("{read} cases read by {daemons} real daemons");
    assert!(daemons == 0 || read > 0, "no case is for the daemons here");
}

/// A containerd 2.x reads the files that distributions of Kubernetes import.
#[test]
fn real_daemons_read_the_imports_of_distributions() {
    let named = std::env::var("GPUSETUP_CONTAINERDS").unwrap_or_default();
    let is_2 = |program: &&str| version_of(program).is_some_and(|v| v >= (2, 0));
    let Some(program) = named.split(':').find(is_2) else {
        skips::skip(Need::Containerd2, "GPUSETUP_CONTAINERDS names none");
        return;
    };
    let rke2 = RENDERED.replace("k3s", "rke2");
    let elsewhere = "data/k3s/agent/etc/containerd/config.toml";
    let k0s = "etc/k0s/containerd.toml";
    for (name, config, cgroup) in [
        ("k3s-drop-in", RENDERED, true),
        ("k3s-adopt-in-a-drop-in", RENDERED, true),
        ("k3s-template-v3", RENDERED, true),
        ("k3s-agent-with-data-elsewhere", elsewhere, true),
        ("rke2-agent", &rke2, true),
        ("k0s-1.36", k0s, false),
        ("k0s-of-the-users", k0s, true),
    ] {
        let case = case(name);
        assert_eq!(install(&case).status.code(), Some(0), "{name}");
        let template = RENDERED.replace("config.toml", "config-v3.toml.tmpl");
        if let Some(template) = case.tree.read_if_there(&template) {
            let rendered = case.tree.read(RENDERED);
            let made = template.replace("{{ template \"base\" . }}", &rendered);
            case.tree.write(RENDERED, &made);
        }
        let runtimes = runtimes(&dump(program, &case.tree, config));
        let options = &runtimes["nvidia"]["options"];
        assert_eq!(
            options["BinaryName"].as_str(),
            Some(OURS),
            "{name}: {runtimes}"
        );
        let systemd_cgroup = options.get("SystemdCgroup").and_then(toml::Value::as_bool);
        assert_eq!(systemd_cgroup.unwrap_or_default(), cgroup, "{name}");
        assert!(runtimes.contains_key("runc"), "{name}");
    }
}

fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn version_of(program: &str) -> Option<(u32, u32)> {
    let out = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let version = text.split_whitespace().nth(2)?;
    Some(numbers(version.trim_start_matches('v')))
}

/// A daemon's own dump of its configuration from the files in a tree.
fn dump(program: &str, tree: &Tree, config: &str) -> toml::Table {
    // Paths within the files are relative to the tree's root, so make them real paths.
    let root = tree.path("").display().to_string();
    let root = root.trim_end_matches('/');
    for (path, text) in files(&tree.path("")) {
        if text.contains("imports = ") {
            tree.write(&path, &text.replace("[\"/", &format!("[\"{root}/")));
        }
    }
    let out = Command::new(program)
        .arg("--config")
        .arg(tree.path(config))
        .args(["config", "dump"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program}: {stderr}");
    String::from_utf8(out.stdout).unwrap().parse().unwrap()
}

fn runtimes(dump: &toml::Table) -> toml::Table {
    let cri = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"];
    let plugins = &dump["plugins"];
    let runtimes = |name: &&str| {
        plugins
            .get(name)?
            .get("containerd")?
            .get("runtimes")?
            .as_table()
    };
    cri.iter().find_map(runtimes).cloned().unwrap_or_default()
}

fn reads(program: &str, daemon: (u32, u32), case: &Case) -> bool {
    assert_eq!(install(case).status.code(), Some(0), "{}", case.name);
    let after = case.tree.read_if_there(ROOT);
    let what = || format!("{} read by {daemon:?}", case.name);
    // A daemon's dump does not contain a plugin that is off.
    let is_on = |text: &String| !text.contains("disabled_plugins = [\"");
    let Some(after) = after.filter(is_on) else {
        return false;
    };
    let is_left = case.args.contains(&"leave".to_owned());
    let runtimes = runtimes(&dump(program, &case.tree, ROOT));
    let nvidia = runtimes
        .get("nvidia")
        .unwrap_or_else(|| panic!("{}: {runtimes}\n{after}", what()));
    assert_eq!(
        nvidia["runtime_type"].as_str(),
        Some("io.containerd.runc.v2"),
        "{}",
        what()
    );
    let options = nvidia["options"].as_table().unwrap();
    if !is_left {
        assert_eq!(
            options["BinaryName"].as_str(),
            Some(OURS),
            "{}: {after}",
            what()
        );
    }
    // The usual runtime is still there, and ours differs from it only in the program.
    let usual = if case.name.contains("default-runtime") {
        "crun"
    } else {
        "runc"
    };
    let usual = runtimes
        .get(usual)
        .unwrap_or_else(|| panic!("{}: {runtimes}", what()));
    let cgroup = |table: &toml::Table| {
        table
            .get("SystemdCgroup")
            .and_then(toml::Value::as_bool)
            .unwrap_or_default()
    };
    let of_usual = usual
        .get("options")
        .and_then(toml::Value::as_table)
        .cloned();
    // One that ours takes the place of keeps its own.
    let adopted = files(&case.dir.join("before"))
        .into_values()
        .find_map(|text| {
            let file: toml::Table = text.parse().ok()?;
            file.get("plugins")?;
            let theirs = self::runtimes(&file).get("nvidia")?.get("options")?.clone();
            theirs.as_table().cloned()
        });
    assert_eq!(
        cgroup(options),
        adopted.or(of_usual).as_ref().is_some_and(cgroup),
        "{}",
        what()
    );
    for key in [
        "base_runtime_spec",
        "privileged_without_host_devices",
        "pod_annotations",
        "cni_conf_dir",
    ] {
        assert_eq!(nvidia.get(key), usual.get(key), "{}: {key}", what());
    }
    true
}
