//! Tests CRI-O on directory trees: what the drop-in contains, whose settings it takes over, and
//! what is refused.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;

use serde_json::Value;

use fixture::Tree;

const DROP_IN: &str = "etc/crio/crio.conf.d/99-zz-gpusetup.conf";
const POLICY: &str = "etc/nvidia-container-runtime/config.toml";

/// The file that CRI-O's own packages install (packaging of the Kubernetes project,
/// crio.conf.d/10-crio.conf).
const PACKAGED: &str = "[crio.image]\nsignature_policy = \"/etc/crio/policy.json\"\n\n[crio.runtime]\ndefault_runtime = \"crun\"\n\n[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/libexec/crio/crun\"\nruntime_root = \"/run/crun\"\nmonitor_path = \"/usr/libexec/crio/conmon\"\nallowed_annotations = [\n    \"io.containers.trace-syscall\",\n]\n\n[crio.runtime.runtimes.runc]\nruntime_path = \"/usr/libexec/crio/runc\"\nruntime_root = \"/run/runc\"\nmonitor_path = \"/usr/libexec/crio/conmon\"\n";

/// A tree with only that version of CRI-O.
fn tree(version: &str) -> Tree {
    let tree = Tree::new("20.10.24", "1.6.20");
    for path in ["usr/sbin/dockerd", "usr/bin/containerd"] {
        fs::remove_file(tree.path(path)).unwrap();
    }
    tree.write("usr/bin/crio", "");
    let status = format!("Package: cri-o\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.write("var/lib/dpkg/status", &status);
    tree
}

fn packaged() -> Tree {
    let tree = tree("1.34.1");
    tree.write("etc/crio/crio.conf.d/10-crio.conf", PACKAGED);
    tree.write("usr/libexec/crio/crun", "");
    tree.write("usr/libexec/crio/runc", "");
    tree
}

fn warnings(tree: &Tree, args: &[&str]) -> String {
    let out = tree.run(&[args, &["--json"]].concat());
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    document["warnings"].to_string()
}

#[test]
fn the_runtime_has_the_settings_of_the_packaged_default() {
    let tree = packaged();
    let before = tree.state();
    assert_eq!(tree.code(&["plan"]), 2);
    assert_eq!(tree.state(), before);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let wanted = "# Written by gpusetup.\n[crio.runtime.runtimes.nvidia]\nruntime_path = \"/usr/bin/gpu-container-runtime\"\nruntime_type = \"oci\"\nruntime_root = \"/run/crun\"\nmonitor_path = \"/usr/libexec/crio/conmon\"\nallowed_annotations = [\n    \"io.containers.trace-syscall\",\n]\n";
    assert_eq!(tree.read(DROP_IN), wanted);
    // The shim could not find CRI-O's runtimes by name: they are in a directory of CRI-O's own.
    let policy: toml::Table = tree.read(POLICY).parse().unwrap();
    let list = policy["nvidia-container-runtime"]["runtimes"].to_string();
    assert_eq!(list, "[\"runc\", \"crun\", \"/usr/libexec/crio/crun\"]");
    let installed = tree.state();
    assert_eq!(tree.code(&["plan"]), 0);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert_eq!(tree.state(), installed);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

#[test]
fn the_users_policy_keeps_its_comments_and_is_restored() {
    let tree = packaged();
    let text = "# mine\ndisable-require = true # why\n\n[nvidia-container-runtime]\nlog-level = \"debug\"\n";
    tree.write(POLICY, text);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let policy = tree.read(POLICY);
    for line in text.lines() {
        assert!(policy.lines().any(|l| l == line), "{line:?} in\n{policy}");
    }
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.read(POLICY), text);
}

#[test]
fn a_runtime_on_the_path_needs_no_policy() {
    for (name, differs) in [("crun", false), ("runc", true)] {
        let tree = packaged();
        tree.write(&format!("usr/bin/{name}"), "");
        let warnings = warnings(&tree, &["plan"]);
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        assert!(!tree.path(POLICY).exists());
        // This is a warning because the policy that decides it applies to every engine.
        assert_eq!(
            warnings.contains("CRI-O's own default is /usr/libexec/crio/crun"),
            differs,
            "{warnings}"
        );
    }
}

#[test]
fn the_last_table_of_the_default_runtime_replaces_earlier_ones() {
    let tree = tree("1.34.1");
    tree.write("usr/bin/runc", "");
    tree.write(
        "etc/crio/crio.conf",
        "[crio.runtime]\ndefault_runtime = \"crun\"\n[crio.runtime.runtimes.runc]\nmonitor_cgroup = \"pod\"\nruntime_root = \"/run/first\"\n",
    );
    tree.write(
        "etc/crio/crio.conf.d/20-b/any-name",
        "[crio.runtime]\ndefault_runtime = \"runc\"\n[crio.runtime.runtimes.runc]\nruntime_root = \"/run/second\"\nplatform_runtime_paths = { \"linux/arm64\" = \"/x\" }\ninherit_default_runtime = true\n",
    );
    tree.write(
        "etc/crio/crio.conf.d/10-a.conf",
        "[crio.runtime]\ndefault_runtime = \"kata\"\n",
    );
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let made: toml::Table = tree.read(DROP_IN).parse().unwrap();
    let ours = made["crio"]["runtime"]["runtimes"]["nvidia"]
        .as_table()
        .unwrap();
    assert_eq!(ours["runtime_root"].as_str(), Some("/run/second"));
    assert_eq!(
        ours["runtime_path"].as_str(),
        Some("/usr/bin/gpu-container-runtime")
    );
    // Nothing of the first table is left, and a key that would override our path is not taken over.
    assert_eq!(ours.len(), 3, "{ours}");
}

#[test]
fn a_default_runtime_for_virtual_machines_or_without_a_table_is_replaced_by_the_built_in_one() {
    let vm = "[crio.runtime]\ndefault_runtime = \"kata\"\n[crio.runtime.runtimes.kata]\nruntime_type = \"vm\"\nruntime_path = \"/usr/bin/containerd-shim-kata-v2\"\nruntime_config_path = \"/etc/kata.toml\"\n";
    for text in [vm, ""] {
        let tree = tree("1.34.1");
        tree.write("etc/crio/crio.conf", text);
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        let made = tree.read(DROP_IN);
        assert!(made.contains("runtime_type = \"oci\""), "{made}");
        assert!(made.contains("monitor_env = [\"PATH=/usr"), "{made}");
        assert!(!made.contains("kata"), "{made}");
    }
}

#[test]
fn the_default_runtime_is_set_only_on_request() {
    let tree = packaged();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(!tree.read(DROP_IN).contains("default_runtime"));
    assert_eq!(tree.code(&["install", "--yes", "--default-runtime"]), 0);
    let made: toml::Table = tree.read(DROP_IN).parse().unwrap();
    let runtime = &made["crio"]["runtime"];
    assert_eq!(runtime["default_runtime"].as_str(), Some("nvidia"));
    // It is still modelled on crun, not on itself.
    let ours = &runtime["runtimes"]["nvidia"];
    assert_eq!(ours["runtime_root"].as_str(), Some("/run/crun"));
    assert_eq!(tree.code(&["plan", "--default-runtime"]), 0);
}

#[test]
fn a_runtime_of_the_vendor_is_refused_adopted_or_left() {
    let theirs = "etc/crio/crio.conf.d/99-nvidia.toml";
    let text = "[crio.runtime]\ndefault_runtime = \"nvidia\"\n[crio.runtime.runtimes.nvidia]\nruntime_path = \"/usr/bin/nvidia-container-runtime\"\nruntime_type = \"oci\"\n";
    let tree = packaged();
    tree.write(theirs, text);
    let before = tree.state();
    let out = tree.run(&["install", "--yes"]);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stderr.contains(theirs) && stderr.contains("--existing adopt"),
        "{stderr}"
    );
    assert_eq!(tree.state(), before);

    assert_eq!(tree.code(&["install", "--yes", "--existing", "leave"]), 0);
    assert!(!tree.path(DROP_IN).exists());

    assert_eq!(tree.code(&["install", "--yes", "--existing", "adopt"]), 0);
    assert!(tree.path(DROP_IN).file_name() > tree.path(theirs).file_name());
    assert_eq!(tree.read(theirs), text);
    // Once it is adopted, the flag is not needed again.
    assert_eq!(tree.code(&["plan"]), 0);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

#[test]
fn unsafe_edits_are_refused() {
    let later =
        "[crio.runtime.runtimes.nvidia]\nruntime_path = \"/usr/bin/gpu-container-runtime\"\n";
    for (path, text) in [
        ("etc/crio/crio.conf", "[crio"),
        ("etc/crio/crio.conf.d/.30-mine.conf.swp", "\u{1}[["),
        ("etc/crio/crio.conf.d/zzz.conf", later),
    ] {
        let tree = packaged();
        tree.write(path, text);
        let before = tree.state();
        let out = tree.run(&["install", "--yes", "--default-runtime"]);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{path}: {stderr}");
        assert!(stderr.contains(path) && stderr.contains("fix:"), "{stderr}");
        assert_eq!(tree.state(), before, "{path}");
    }
}

#[test]
fn mode_cdi_changes_nothing_and_reports_what_hides_the_spec() {
    let tree = packaged();
    let before = tree.state();
    assert_eq!(tree.code(&["plan", "--mode", "cdi"]), 0);
    assert_eq!(tree.state(), before);
    for (dirs, hides) in [
        ("[\"/etc/cdi\"]", true),
        ("[\"/etc/cdi\", \"/run/cdi\"]", false),
        ("[\"/var/run/cdi/\"]", false),
    ] {
        tree.write(
            "etc/crio/crio.conf.d/50-cdi.conf",
            &format!("[crio.runtime]\ncdi_spec_dirs = {dirs}\n"),
        );
        let warnings = warnings(&tree, &["plan", "--mode", "cdi"]);
        assert_eq!(
            warnings.contains("50-cdi.conf: cdi_spec_dirs leaves out"),
            hides,
            "{dirs}: {warnings}"
        );
    }
}

#[test]
fn missing_features_of_old_versions_are_reported() {
    // A version without CDI gets a note. For a version without drop-ins the runtime goes into
    // crio.conf, with comments kept, and out of it again.
    let notes = |tree: &Tree| {
        let out = tree.run(&["detect", "--json"]);
        let document: Value = serde_json::from_slice(&out.stdout).unwrap();
        document["engines"][0]["notes"].to_string()
    };
    assert!(notes(&tree("1.23.5")).contains("too old for CDI"));
    assert!(notes(&tree("1.24.6")).contains("crio 1.25 reads it"));
    assert_eq!(notes(&tree("1.25.1")), "[]");

    let tree = tree("1.17.4");
    let text = "# mine\n[crio.runtime]\nmanage_ns_lifecycle = true # keep\n\n[crio.runtime.runtimes.runc]\nruntime_path = \"/usr/bin/runc\"\nruntime_root = \"/run/runc\"\n";
    tree.write("etc/crio/crio.conf", text);
    let before = tree.state();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(!tree.path(DROP_IN).exists());
    let made = tree.read("etc/crio/crio.conf");
    for line in text.lines() {
        assert!(made.lines().any(|l| l == line), "{line:?} in\n{made}");
    }
    let parsed: toml::Table = made.parse().unwrap();
    let ours = &parsed["crio"]["runtime"]["runtimes"]["nvidia"];
    assert_eq!(ours["runtime_root"].as_str(), Some("/run/runc"));
    assert_eq!(tree.code(&["plan"]), 0);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

#[test]
fn flags_of_the_unit_locate_the_configuration() {
    let tree = packaged();
    tree.write(
        "usr/lib/systemd/system/crio.service",
        "[Service]\nEnvironmentFile=-/etc/sysconfig/crio\nExecStart=/usr/bin/crio $CRIO_CONFIG_OPTIONS\n",
    );
    tree.write(
        "etc/sysconfig/crio",
        "CRIO_CONFIG_OPTIONS=\"--config-dir=/srv/crio.d\"\n",
    );
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(tree.path("srv/crio.d/99-zz-gpusetup.conf").exists());
    assert!(!tree.path(DROP_IN).exists());
}
