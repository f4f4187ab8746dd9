//! Tests hosts that another toolkit has set up: what is found of it, that it is refused, adopted or
//! left as the user decides, and that undo restores the host.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Output;

use serde_json::Value;

use fixture::Tree;

const THEIR_SPEC: &str = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\ncontainerEdits:\n  hooks:\n  - hookName: createContainer\n    path: /usr/bin/nvidia-cdi-hook\n    args: [nvidia-cdi-hook, update-ldcache]\n";
const SPEC: &str = "var/run/cdi/nvidia.yaml";
const UNIT: &str = "usr/lib/systemd/system/nvidia-cdi-refresh.service";
const DROP_IN: &str = "etc/systemd/system/nvidia-cdi-refresh.service.d/50-gpusetup.conf";
const HOOK: &str = "usr/share/containers/oci/hooks.d/oci-nvidia-hook.json";
/// Without the engines' configuration, whose runtimes the engines judge; these tests are about the
/// rest.
const ENGINES_ASIDE: [&str; 3] = ["install", "--yes", "--mode=cdi"];

/// A host with a driver and nothing else of NVIDIA's.
fn plain() -> Tree {
    let tree = Tree::new("26.1.5", "1.7.24");
    tree.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  x\n",
    );
    tree
}

fn package(tree: &Tree, name: &str, version: &str) {
    let status = tree.read("var/lib/dpkg/status");
    let more = format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.write("var/lib/dpkg/status", &(status + &more));
}

/// nvidia-container-toolkit 1.18 as its packages and `nvidia-ctk runtime configure` leave it.
fn toolkit() -> Tree {
    let tree = plain();
    for name in [
        "nvidia-container-toolkit",
        "nvidia-container-toolkit-base",
        "libnvidia-container-tools",
        "libnvidia-container1",
    ] {
        package(&tree, name, "1.18.0-1");
    }
    for program in [
        "nvidia-container-runtime",
        "nvidia-container-runtime-hook",
        "nvidia-ctk",
    ] {
        tree.write(&format!("usr/bin/{program}"), "");
    }
    tree.write(
        "etc/docker/daemon.json",
        "{\n    \"runtimes\": {\n        \"nvidia\": {\n            \"args\": [],\n            \"path\": \"nvidia-container-runtime\"\n        }\n    }\n}\n",
    );
    tree.write(
        "etc/containerd/conf.d/99-nvidia.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/bin/nvidia-container-runtime\"\n",
    );
    tree.write(
        UNIT,
        "[Service]\nExecStart=/usr/bin/nvidia-ctk cdi generate\n",
    );
    let wants = tree.path("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    let link = wants.join("nvidia-cdi-refresh.service");
    symlink("/usr/lib/systemd/system/nvidia-cdi-refresh.service", link).unwrap();
    tree.write(SPEC, THEIR_SPEC);
    tree.write("etc/cdi/nvidia.yaml", THEIR_SPEC);
    tree.write(
        "etc/cdi/amd.json",
        "{\"cdiVersion\":\"0.6.0\",\"kind\":\"amd.com/gpu\",\"devices\":[]}",
    );
    tree
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

fn message(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap()
}

/// The places where traces of other toolkits were found.
fn places(document: &Value) -> Vec<String> {
    let list = document["foreign"].as_array().unwrap().iter();
    list.map(|f| f["at"].as_str().unwrap().to_owned()).collect()
}

fn is_refused(tree: &Tree, names: &[&str]) {
    let before = tree.state();
    let out = tree.run(&["install", "--yes", "--mode=cdi"]);
    let message = message(&out);
    assert_eq!(out.status.code(), Some(1), "{message}");
    for name in names {
        assert!(message.contains(name), "{name} in {message}");
    }
    assert!(
        message.contains("--existing adopt") && message.contains("--existing leave"),
        "{message}"
    );
    assert_eq!(tree.state(), before);
}

/// Adopts the other toolkit. The next run has nothing to do, and undo restores every byte.
fn adopted_and_back(tree: &Tree) {
    let before = tree.state();
    let out = tree.run(&with(&ENGINES_ASIDE, &["--existing=adopt"]));
    assert_eq!(out.status.code(), Some(0), "{}", message(&out));
    let installed = tree.state();
    assert_ne!(installed, before);
    let again = tree.run(&with(&ENGINES_ASIDE, &["--json"]));
    assert_eq!(json(&again)["changed"], false, "{}", message(&again));
    assert_eq!(tree.state(), installed);
    let undone = tree.run(&["undo", "--yes"]);
    assert_eq!(undone.status.code(), Some(0), "{}", message(&undone));
    assert_eq!(tree.state(), before);
}

#[test]
fn a_host_without_other_tools_shows_none() {
    let tree = plain();
    assert!(places(&json(&tree.run(&["detect", "--json"]))).is_empty());
    assert_eq!(tree.code(&ENGINES_ASIDE), 0);
    // Our own setup is not taken for another toolkit's.
    assert!(places(&json(&tree.run(&["detect", "--json"]))).is_empty());
}

#[test]
fn all_parts_of_the_vendors_toolkit_are_reported() {
    let tree = toolkit();
    let out = tree.run(&["detect"]);
    let text = String::from_utf8_lossy(&out.stdout);
    for line in [
        "Others   nvidia-container-toolkit 1.18.0-1 and 3 more packages",
        "/etc/docker/daemon.json: has the runtime nvidia-container-runtime",
        "/etc/containerd/conf.d/99-nvidia.toml: has the runtime /usr/bin/nvidia-container-runtime",
        "nvidia-cdi-refresh.service: writes /var/run/cdi/nvidia.yaml",
        "/etc/cdi/nvidia.yaml: a CDI spec of nvidia.com/gpu; ours would hide",
        "/var/run/cdi/nvidia.yaml: a CDI spec of nvidia.com/gpu, where ours is",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert!(!text.contains("amd"), "{text}");
    let plan = json(&tree.run(&["plan", "--mode=cdi", "--existing=adopt", "--json"]));
    assert!(places(&plan).contains(&"nvidia-cdi-refresh.service".to_owned()));
    let warnings = plan["warnings"].to_string();
    assert!(
        warnings.contains("found nvidia-container-toolkit 1.18.0-1"),
        "{warnings}"
    );
}

#[test]
fn the_vendors_toolkit_is_refused_without_a_decision_of_the_user() {
    is_refused(
        &toolkit(),
        &[
            "nvidia-cdi-refresh.service",
            "/etc/cdi/nvidia.yaml",
            "/var/run/cdi/nvidia.yaml",
        ],
    );
}

#[test]
fn the_vendors_toolkit_is_adopted_and_restored() {
    let tree = toolkit();
    adopted_and_back(&tree);
    // Twice, because what undo restores can be adopted again.
    adopted_and_back(&tree);

    assert_eq!(tree.code(&with(&ENGINES_ASIDE, &["--existing=adopt"])), 0);
    assert!(tree.read(SPEC).contains("gpu-container-hook"));
    assert!(!tree.path("etc/cdi/nvidia.yaml").exists());
    assert!(tree.path("etc/cdi/amd.json").exists());
    let drop_in = tree.read(DROP_IN);
    assert!(
        drop_in.contains("ConditionPathExists=!/var/lib/gpusetup/receipt.json"),
        "{drop_in}"
    );
    // The vendor's text is restored although our spec was regenerated since.
    fs::remove_file(tree.path(SPEC)).unwrap();
    assert_eq!(tree.code(&["cdi", "refresh"]), 0);
    assert!(tree.read(SPEC).contains("gpu-container-hook"));
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.read(SPEC), THEIR_SPEC);
    assert!(!tree.path(DROP_IN).parent().unwrap().exists());
}

#[test]
fn the_vendors_toolkit_is_left_alone_on_request() {
    let tree = toolkit();
    let before = tree.state();
    let specs = [SPEC, "etc/cdi/nvidia.yaml", UNIT];
    let out = tree.run(&with(&ENGINES_ASIDE, &["--existing=leave"]));
    assert_eq!(out.status.code(), Some(0), "{}", message(&out));
    assert!(
        message(&out).contains("left: nvidia-cdi-refresh.service"),
        "{}",
        message(&out)
    );
    for path in specs {
        assert_eq!(
            before[&tree.path(path)],
            tree.state()[&tree.path(path)],
            "{path}"
        );
    }
    assert!(
        tree.read("etc/docker/daemon.json")
            .contains("\"cdi\": true")
    );
    assert!(!tree.path(DROP_IN).exists());
    let detected = json(&tree.run(&["detect", "--json"]));
    assert_eq!(
        detected["foreign"].as_array().unwrap().len(),
        12,
        "{detected}"
    );
    // At the next boot, before the vendor's unit has run, we must not write the spec.
    fs::remove_file(tree.path(SPEC)).unwrap();
    assert_eq!(tree.code(&["cdi", "refresh"]), 0);
    assert!(!tree.path(SPEC).exists());
    tree.write(SPEC, THEIR_SPEC);
    let check = tree.run(&["cdi", "check"]);
    assert!(!String::from_utf8_lossy(&check.stdout).contains("stale"));
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

/// nvidia-docker2 owns the whole daemon.json and contains nothing that conflicts with CDI.
#[test]
fn nvidia_docker2_is_found_by_its_package_and_its_runtime() {
    let tree = plain();
    package(&tree, "nvidia-docker2", "2.13.0-1");
    package(&tree, "nvidia-container-runtime", "3.13.0-1");
    for program in ["nvidia-docker", "nvidia-container-runtime"] {
        tree.write(&format!("usr/bin/{program}"), "");
    }
    tree.write(
        "etc/docker/daemon.json",
        "{\n    \"runtimes\": {\n        \"nvidia\": {\n            \"path\": \"nvidia-container-runtime\",\n            \"runtimeArgs\": []\n        }\n    }\n}\n",
    );
    let text = String::from_utf8(tree.run(&["detect"]).stdout).unwrap();
    assert!(
        text.contains("nvidia-docker2 2.13.0-1 and 1 more package\n"),
        "{text}"
    );
    assert!(
        text.contains("has the runtime nvidia-container-runtime\n"),
        "{text}"
    );
    let before = tree.state();
    for existing in ["refuse", "adopt", "leave"] {
        let existing = format!("--existing={existing}");
        assert_eq!(
            tree.code(&with(&ENGINES_ASIDE, &[&existing])),
            0,
            "{existing}"
        );
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.state(), before, "{existing}");
    }
}

#[test]
fn a_partly_removed_toolkit_is_reported_and_no_conflict() {
    let tree = toolkit();
    fs::remove_file(tree.path("usr/bin/nvidia-container-runtime")).unwrap();
    fs::remove_file(tree.path("usr/bin/nvidia-container-runtime-hook")).unwrap();
    fs::remove_file(tree.path("usr/bin/nvidia-ctk")).unwrap();
    // The link that started the unit is left behind, and so are the configuration files.
    fs::remove_file(tree.path(UNIT)).unwrap();
    fs::remove_file(tree.path(SPEC)).unwrap();
    fs::remove_file(tree.path("etc/cdi/nvidia.yaml")).unwrap();
    let status = tree.read("var/lib/dpkg/status");
    let removed: String = status
        .split_inclusive("\n\n")
        .map(|p| {
            if p.contains("nvidia") {
                p.replace("install ok installed", "deinstall ok config-files")
            } else {
                p.into()
            }
        })
        .collect();
    tree.write("var/lib/dpkg/status", &removed);
    let document = json(&tree.run(&["detect", "--json"]));
    assert_eq!(
        places(&document),
        [
            "/etc/docker/daemon.json",
            "/etc/containerd/conf.d/99-nvidia.toml"
        ]
    );
    assert!(
        document["foreign"].to_string().contains("which is gone"),
        "{document}"
    );
    let before = tree.state();
    assert_eq!(tree.code(&ENGINES_ASIDE), 0);
    assert!(tree.read(SPEC).contains("gpu-container-hook"));
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

#[test]
fn the_gpu_operator_is_distinguished_from_the_toolkit() {
    let tree = plain();
    tree.write("usr/local/nvidia/toolkit/nvidia-container-runtime", "");
    tree.write(
        "etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/local/nvidia/toolkit/nvidia-container-runtime\"\n",
    );
    // The operator's own spec, which is not of our kind.
    tree.write(
        "var/run/cdi/management.nvidia.com-gpu.yaml",
        &THEIR_SPEC.replace("nvidia.com/gpu", "management.nvidia.com/gpu"),
    );
    is_refused(
        &tree,
        &["/usr/local/nvidia/toolkit", "toolkit.enabled=false"],
    );
    adopted_and_back(&tree);
    let before = tree.state();
    let out = tree.run(&with(&ENGINES_ASIDE, &["--existing=leave"]));
    assert_eq!(out.status.code(), Some(0), "{}", message(&out));
    assert!(
        message(&out).contains("left: /usr/local/nvidia/toolkit"),
        "{}",
        message(&out)
    );
    // The operator has no spec of our kind, so ours is written.
    assert!(tree.read(SPEC).contains("gpu-container-hook"));
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

#[test]
fn other_specs_and_hooks_are_removed_and_restored() {
    let tree = plain();
    tree.write("var/run/cdi/gpus.json", "{\"cdiVersion\": \"0.5.0\", \"kind\": \"nvidia.com/gpu\", \"devices\": [], \"unheard-of\": 1}\n");
    tree.write(HOOK, "{\"version\": \"1.0.0\"}\n");
    is_refused(&tree, &["/var/run/cdi/gpus.json", "oci-nvidia-hook.json"]);
    adopted_and_back(&tree);
    assert_eq!(tree.code(&with(&ENGINES_ASIDE, &["--existing=adopt"])), 0);
    assert!(!tree.path("var/run/cdi/gpus.json").exists());
    assert!(!tree.path(HOOK).exists());
    // Somebody else has made a new file: undo leaves it alone.
    tree.write(HOOK, "new\n");
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.read(HOOK), "new\n");
}

#[test]
fn a_masked_unit_is_no_conflict() {
    let tree = toolkit();
    for path in [SPEC, "etc/cdi/nvidia.yaml"] {
        fs::remove_file(tree.path(path)).unwrap();
    }
    symlink(
        "/dev/null",
        tree.path("etc/systemd/system/nvidia-cdi-refresh.service"),
    )
    .unwrap();
    assert_eq!(tree.code(&ENGINES_ASIDE), 0);
    assert!(!tree.path(DROP_IN).exists());
    assert!(tree.read(SPEC).contains("gpu-container-hook"));
}

#[test]
fn links_in_usr_bin_that_lead_to_ours_are_ours() {
    let tree = plain();
    tree.write("usr/lib/gpu-container/gpu-container", "");
    symlink(
        "/usr/lib/gpu-container/gpu-container",
        tree.path("usr/bin/nvidia-ctk"),
    )
    .unwrap();
    assert!(places(&json(&tree.run(&["detect", "--json"]))).is_empty());
}

/// All parts of a setup at once: runtimes in Docker and containerd, the CDI spec and its writer.
#[test]
fn another_tool_is_adopted_or_left_as_a_whole() {
    const DOCKER: &str = "etc/docker/daemon.json";
    const CONTAINERD: &str = "etc/containerd/conf.d/99-nvidia.toml";
    const OURS: &str = "/usr/bin/gpu-container-runtime";
    let whole = || {
        let tree = toolkit();
        tree.write(
            "etc/containerd/config.toml",
            "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
        );
        tree.write(
            CONTAINERD,
            "version = 2\n# theirs\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\nruntime_type = \"io.containerd.runc.v2\"\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.options]\nBinaryName = \"/usr/bin/nvidia-container-runtime\"\n",
        );
        tree
    };
    let tree = whole();
    let before = tree.state();
    let refused = tree.run(&["install", "--yes"]);
    assert_eq!(refused.status.code(), Some(1), "{}", message(&refused));
    assert_eq!(tree.state(), before);

    for (way, is_ours) in [("adopt", true), ("leave", false)] {
        let tree = whole();
        let before = tree.state();
        let install = ["install", "--yes", "--json", "--existing", way];
        let out = tree.run(&install);
        assert_eq!(out.status.code(), Some(0), "{way}: {}", message(&out));
        for file in [DOCKER, CONTAINERD] {
            let text = tree.read(file);
            assert_eq!(text.contains(OURS), is_ours, "{way}: {text}");
            assert_eq!(
                text.contains("nvidia-container-runtime\""),
                !is_ours,
                "{way}: {text}"
            );
        }
        // CDI for Docker 26 and containerd 1.7 is set up in both cases.
        assert!(tree.read(DOCKER).contains("\"cdi\": true"), "{way}");
        let installed = tree.state();
        let again = tree.run(&install);
        assert_eq!(json(&again)["changed"], false, "{way}: {}", message(&again));
        assert_eq!(tree.state(), installed, "{way}");
        assert_eq!(tree.code(&["undo", "--yes"]), 0, "{way}");
        assert_eq!(tree.state(), before, "{way}");
    }
}

/// With gpusetup-nvidia-compat, engines that were set up for NVIDIA's programs start ours by the
/// same names.
#[test]
fn our_own_programs_are_not_taken_for_another_tools() {
    let tree = plain();
    tree.write("usr/lib/gpu-container/gpu-container", "");
    for (link, target) in [
        (
            "usr/bin/gpu-container-runtime",
            "../lib/gpu-container/gpu-container",
        ),
        (
            "usr/bin/nvidia-container-runtime",
            "../lib/gpu-container/gpu-container",
        ),
    ] {
        let _ = fs::remove_file(tree.path(link));
        symlink(target, tree.path(link)).unwrap();
    }
    let daemon = "{\n    \"runtimes\": {\n        \"nvidia\": {\n            \"path\": \"nvidia-container-runtime\"\n        }\n    }\n}\n";
    tree.write("etc/docker/daemon.json", daemon);
    let out = tree.run(&["install", "--yes", "--mode=runtime"]);
    assert!(out.status.success(), "{out:?}");
    assert_eq!(tree.read("etc/docker/daemon.json"), daemon);
    // Without the links, the runtime is another toolkit's.
    fs::remove_file(tree.path("usr/bin/nvidia-container-runtime")).unwrap();
    tree.write("usr/bin/nvidia-container-runtime", "");
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    let out = tree.run(&["install", "--yes", "--mode=runtime"]);
    assert!(!out.status.success(), "{out:?}");
}

/// What was left alone on purpose is not a lost part of the setup and needs no repair.
#[test]
fn a_runtime_that_was_left_is_not_outdated() {
    let tree = plain();
    tree.write("usr/bin/nvidia-container-runtime", "");
    let theirs = "{\"runtimes\": {\"nvidia\": {\"path\": \"nvidia-container-runtime\"}}}\n";
    tree.write("etc/docker/daemon.json", theirs);
    tree.write(
        "etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\n\
         runtime_type = \"io.containerd.runc.v2\"\n\
         options.BinaryName = \"/usr/bin/nvidia-container-runtime\"\n",
    );
    assert_eq!(tree.code(&["install", "--yes", "--existing=leave"]), 0);
    let json = |args: &[&str]| -> Value { serde_json::from_slice(&tree.run(args).stdout).unwrap() };
    let document = json(&["detect", "--json"]);
    let engines = document["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 2, "{document}");
    for engine in engines {
        assert_eq!(engine["configured"], true, "{engine}");
        assert_eq!(engine["outdated"], Value::Array(Vec::new()), "{engine}");
    }
    let problems = json(&["doctor", "--json"])["problems"].to_string();
    assert!(!problems.contains("runtime-unknown"), "{problems}");
    // The parts that were set up beside it are still checked.
    tree.write("etc/docker/daemon.json", theirs);
    let engines = json(&["detect", "--json"])["engines"].to_string();
    assert!(engines.contains("/etc/docker/daemon.json\"]"), "{engines}");
}
