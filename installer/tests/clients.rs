//! Tests of clients, the programs that need no configuration: each is found, its needs are
//! reported, and one alone is enough for a CDI spec to be written.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use fixture::Tree;

/// A tree with this program, from a package of that version, and no engine.
fn tree(program: &str, package: &str, version: &str) -> Tree {
    let tree = Tree::new("20.10.24", "1.6.20");
    for path in ["usr/sbin/dockerd", "usr/bin/containerd"] {
        fs::remove_file(tree.path(path)).unwrap();
    }
    if !program.is_empty() {
        tree.write(&format!("usr/bin/{program}"), "");
    }
    let status =
        format!("Package: {package}\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.write("var/lib/dpkg/status", &status);
    tree
}

/// Names and notes of the clients that were found.
fn clients(tree: &Tree) -> Vec<(String, String)> {
    let out = tree.run(&["detect", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let engines = document["engines"].as_array().unwrap();
    let one = |e: &Value| {
        (
            e["name"].as_str().unwrap().to_owned(),
            e["notes"].to_string(),
        )
    };
    engines.iter().map(one).collect()
}

fn notes(tree: &Tree, name: &str) -> String {
    let clients = clients(tree);
    let one = clients.iter().find(|(n, _)| n == name);
    one.unwrap_or_else(|| panic!("{name} in {clients:?}"))
        .1
        .clone()
}

#[test]
fn cdi_is_supported_from_the_listed_version_on() {
    for (program, name, package, old, new) in [
        ("nerdctl", "nerdctl", "nerdctl", "2.0.5", "2.1.0"),
        ("buildkitd", "buildkit", "buildkit", "0.19.0", "0.20.0"),
        ("apptainer", "apptainer", "apptainer", "1.4.5", "1.5.0"),
        (
            "singularity",
            "singularity",
            "singularity-ce",
            "3.11.1",
            "4.0.0",
        ),
    ] {
        let before = notes(&tree(program, package, old), name);
        assert!(before.contains("too old for CDI"), "{before}");
        let after = notes(&tree(program, package, new), name);
        assert!(after.contains("uses CDI, needs a spec"), "{after}");
        assert!(after.contains("nvidia.com/gpu=all"), "{after}");
    }
}

#[test]
fn a_missing_nvidia_container_cli_is_reported() {
    for (program, name) in [
        ("incusd", "incus"),
        ("lxd", "lxd"),
        ("lxc-start", "lxc"),
        ("apptainer", "apptainer"),
        ("singularity", "singularity"),
        ("enroot", "enroot"),
    ] {
        let tree = tree(program, program, "9.9");
        let without = notes(&tree, name);
        assert!(
            without.contains("needs nvidia-container-cli") && without.contains(", not here"),
            "{without}"
        );
        tree.write("usr/bin/nvidia-container-cli", "");
        tree.write("usr/share/lxc/hooks/nvidia", "");
        let with = notes(&tree, name);
        assert!(
            with.contains("runs nvidia-container-cli, which is here"),
            "{with}"
        );
    }
    // LXC also needs its hook, which is a separate file.
    let tree = tree("lxc-start", "lxc", "5.0.2");
    tree.write("usr/bin/nvidia-container-cli", "");
    assert!(notes(&tree, "lxc").contains("needs /usr/share/lxc/hooks/nvidia, not here"));
}

#[test]
fn what_makes_a_client_find_ours_is_said() {
    const OURS: &str = "/usr/lib/gpu-container/bin/nvidia-container-cli";
    let conf = "etc/apptainer/apptainer.conf";
    for (program, name, file) in [
        ("incusd", "incus", None),
        ("lxd", "lxd", None),
        ("lxc-start", "lxc", None),
        ("enroot", "enroot", None),
        ("apptainer", "apptainer", Some(conf)),
        (
            "singularity",
            "singularity",
            Some("etc/singularity/singularity.conf"),
        ),
    ] {
        let tree = tree(program, program, "9.9");
        tree.write(&OURS[1..], "");
        tree.write("usr/share/lxc/hooks/nvidia", "");
        let said = notes(&tree, name);
        let Some(file) = file else {
            let link =
                format!("does not find {OURS}; this serves it: ln -s {OURS} /usr/local/bin/");
            assert!(said.contains(&link), "{said}");
            continue;
        };
        let line = format!("nvidia-container-cli path = {OURS}");
        assert!(
            said.contains(&format!("needs a line in /{file}: {line}")),
            "{said}"
        );
        // As it is shipped, and where it names a program that is not here.
        for text in [
            "# nvidia-container-cli path =\n",
            "nvidia-container-cli path =\n",
            "nvidia-container-cli path = /gone\n",
        ] {
            tree.write(file, text);
            assert!(notes(&tree, name).contains("needs a line"), "{text}");
        }
        tree.write(file, &format!("allow pid ns = yes\n{line}\n"));
        let said = notes(&tree, name);
        assert!(
            said.contains(&format!("runs {OURS}, which is here")),
            "{said}"
        );
    }
}

#[test]
fn nerdctl_needs_nvidia_container_cli_before_2_3() {
    let at = |version| notes(&tree("nerdctl", "nerdctl", version), "nerdctl");
    assert!(at("2.2.0").contains("nerdctl run --gpus needs nvidia-container-cli"));
    assert!(!at("2.3.0").contains("nvidia-container-cli"));
}

#[test]
fn a_singularity_link_of_apptainer_is_not_counted() {
    let tree = tree("apptainer", "apptainer", "1.5.0");
    symlink("apptainer", tree.path("usr/bin/singularity")).unwrap();
    let clients = clients(&tree);
    let names: Vec<&str> = clients.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["apptainer"]);
}

#[test]
fn a_spec_is_written_if_there_is_at_least_one_client() {
    let tree = self::tree("apptainer", "apptainer", "1.5.0");
    tree.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n",
    );
    tree.write(
        "proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-0\nDevice Minor: \t 0\n",
    );
    let library = fs::read(std::env::current_exe().unwrap()).unwrap();
    let dir = tree.path("usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("libcuda.so.580.65.06"), library).unwrap();
    assert_eq!(tree.code(&["plan"]), 2);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let spec = tree.read("var/run/cdi/nvidia.yaml");
    // The version that the oldest readers know which accept device names that begin with a digit.
    assert!(spec.contains("cdiVersion: 0.5.0"), "{spec}");
    assert_eq!(tree.code(&["plan"]), 0);
    assert_eq!(tree.code(&["plan", "--engine", "apptainer"]), 0);
    assert!(notes(&tree, "apptainer").contains("--nvccli"));
    // A client that reads no spec does not count as set up because there is one.
    tree.write("usr/bin/enroot", "");
    let out = tree.run(&["detect", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let state = |n: usize| {
        (
            document["engines"][n]["name"].as_str(),
            document["engines"][n]["configured"].as_bool(),
        )
    };
    assert_eq!(state(0), (Some("apptainer"), Some(true)));
    assert_eq!(state(1), (Some("enroot"), Some(false)));
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert!(!tree.path("var/run/cdi/nvidia.yaml").exists());

    let none = self::tree("", "apptainer", "1.5.0");
    assert_eq!(none.code(&["install", "--yes"]), 6);
    assert_eq!(none.code(&["plan"]), 6);
}

#[test]
fn a_file_that_hides_the_spec_is_named() {
    let warnings = |tree: &Tree| {
        let out = tree.run(&["plan", "--json"]);
        let document: Value = serde_json::from_slice(&out.stdout).unwrap();
        document["warnings"].to_string()
    };
    let tree = tree("buildkitd", "buildkit", "0.32.0");
    let file = "etc/buildkit/buildkitd.toml";
    tree.write(file, "[cdi]\ndisabled = true\n");
    assert!(warnings(&tree).contains("buildkitd.toml: cdi.disabled turns CDI off"));
    tree.write(file, "[cdi]\ndisabled = false\nspecDirs = [\"/etc/cdi\"]\n");
    let text = warnings(&tree);
    assert!(
        text.contains("cdi.specDirs leaves out /var/run/cdi"),
        "{text}"
    );
    assert!(!text.contains("turns CDI off"), "{text}");

    let tree = self::tree("nerdctl", "nerdctl", "2.1.2");
    tree.write(
        "etc/nerdctl/nerdctl.toml",
        "cdi_spec_dirs = [\"/etc/cdi\"]\n",
    );
    assert!(warnings(&tree).contains("nerdctl.toml: cdi_spec_dirs"));
    tree.write("etc/nerdctl/nerdctl.toml", "not = [toml");
    assert!(!warnings(&tree).contains("nerdctl.toml"));
}
