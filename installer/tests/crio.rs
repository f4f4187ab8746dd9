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
    assert_eq!(list, "[\"/usr/libexec/crio/crun\", \"runc\", \"crun\"]");
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

/// The list of low-level runtimes that the shim goes by.
fn list(tree: &Tree) -> String {
    let text = tree.read_if_there(POLICY).unwrap_or_default();
    let policy: toml::Table = text.parse().unwrap();
    let list = policy
        .get("nvidia-container-runtime")
        .and_then(|t| t.get("runtimes"));
    list.map_or("as usual".into(), ToString::to_string)
}

#[test]
fn the_list_begins_with_the_program_of_the_default_runtime_whatever_is_installed() {
    for name in ["crun", "runc"] {
        let tree = packaged();
        tree.write(&format!("usr/bin/{name}"), "");
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        assert_eq!(
            list(&tree),
            "[\"/usr/libexec/crio/crun\", \"runc\", \"crun\"]"
        );
    }
    // It does already.
    let tree = tree("1.30.2");
    tree.write("usr/bin/runc", "");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert_eq!(list(&tree), "as usual");
}

#[test]
fn a_list_that_others_go_by_stays_with_a_warning() {
    let legacy = "[crio.runtime.runtimes.nvidia-legacy]\nruntime_path = \"/usr/bin/nvidia-container-runtime.legacy\"\n";
    for is_docker in [true, false] {
        let tree = packaged();
        tree.write("usr/bin/runc", "");
        if is_docker {
            tree.write("usr/bin/dockerd", "");
        } else {
            tree.write("etc/crio/crio.conf.d/50-legacy", legacy);
        }
        let warnings = warnings(&tree, &["plan", "--engine", "crio"]);
        let words = "starts /usr/bin/runc where CRI-O's own is /usr/libexec/crio/crun";
        assert!(warnings.contains(words), "{warnings}");
        assert_eq!(tree.code(&["install", "--yes", "--engine", "crio"]), 0);
        assert_eq!(list(&tree), "as usual");
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
        tree.write("usr/bin/crun", "");
        tree.write("etc/crio/crio.conf", text);
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        let made = tree.read(DROP_IN);
        assert!(made.contains("runtime_type = \"oci\""), "{made}");
        // CRI-O has these for it where no file has a table of it.
        for setting in [
            "monitor_env = [\"PATH=/usr",
            "allowed_annotations = [\"io.containers.trace-syscall\", \"io.kubernetes.cri-o.Devices\"]",
            "container_min_memory = \"500KiB\"",
        ] {
            assert!(made.contains(setting), "{setting} in\n{made}");
        }
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
    let tree_with_runc = |version: &str| {
        let tree = tree(version);
        tree.write("usr/bin/runc", "");
        tree
    };
    assert_eq!(notes(&tree_with_runc("1.25.1")), "[]");

    let tree = tree_with_runc("1.17.4");
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
    // The packages' table of it is not read then.
    tree.write("usr/bin/crun", "");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(tree.path("srv/crio.d/99-zz-gpusetup.conf").exists());
    assert!(!tree.path(DROP_IN).exists());
}

/// The toolkit's drop-in, with these lines in its table.
fn toolkits(lines: &str) -> String {
    format!(
        "[crio.runtime]\ndefault_runtime = \"nvidia\"\n[crio.runtime.runtimes.nvidia]\nruntime_path = \"/usr/bin/nvidia-container-runtime\"\nruntime_type = \"oci\"\n{lines}"
    )
}

const TOOLKITS: &str = "etc/crio/crio.conf.d/99-nvidia.toml";
const ADOPT: &[&str] = &["install", "--yes", "--existing", "adopt"];

fn ours(tree: &Tree) -> toml::Table {
    let made: toml::Table = tree.read(DROP_IN).parse().unwrap();
    let runtime = made["crio"]["runtime"]["runtimes"]["nvidia"].clone();
    runtime.as_table().unwrap().clone()
}

/// Running pods are found by the root that they were started with.
#[test]
fn an_adopted_runtime_keeps_all_its_settings() {
    let tree = packaged();
    tree.write("usr/bin/runc", "");
    tree.write("usr/bin/crun", "");
    let lines = "runtime_root = \"/run/runc\"\nmonitor_path = \"/opt/conmon\"\nmonitor_cgroup = \"pod\"\nallowed_annotations = [\"io.site\"]\n";
    tree.write(TOOLKITS, &toolkits(lines));
    tree.write(
        "etc/crio/crio.conf.d/20-site.conf",
        "[crio.runtime]\ndefault_runtime = \"runc\"\n",
    );
    let before = tree.state();
    assert_eq!(tree.code(ADOPT), 0);
    let wanted: toml::Table = format!(
        "runtime_path = \"/usr/bin/gpu-container-runtime\"\nruntime_type = \"oci\"\n{lines}"
    )
    .parse()
    .unwrap();
    assert_eq!(ours(&tree), wanted);
    // runc is below the toolkit's runtime, by the same list.
    assert_eq!(list(&tree), "as usual");
    for again in [&["plan"][..], &["install", "--yes"]] {
        assert_eq!(tree.code(again), 0);
    }
    assert_eq!(ours(&tree), wanted);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.state(), before);
}

/// With the version's built-in runtime not installed.
#[test]
fn what_is_below_the_adopted_runtime_decides_not_the_version() {
    for (version, has) in [("1.37.0", "runc"), ("1.30.2", "crun")] {
        let tree = tree(version);
        tree.write(&format!("usr/bin/{has}"), "");
        tree.write(TOOLKITS, &toolkits(""));
        assert_eq!(tree.code(ADOPT), 0);
        assert_eq!(ours(&tree).len(), 2, "{version}: {:?}", ours(&tree));
        assert_eq!(list(&tree), "as usual");
    }
    // The GPU operator's runtime has a list of its own.
    let tree = tree("1.37.0");
    tree.write("opt/site/runc", "");
    let dir = "usr/local/nvidia/toolkit";
    let text = toolkits("").replace("/usr/bin", "/usr/local/nvidia/toolkit");
    tree.write(TOOLKITS, &text);
    tree.write(&format!("{dir}/nvidia-container-runtime"), "");
    tree.write(
        &format!("{dir}/.config/nvidia-container-runtime/config.toml"),
        "[nvidia-container-runtime]\nruntimes = [\"/opt/site/runc\", \"crun\"]\n",
    );
    assert_eq!(tree.code(ADOPT), 0);
    assert_eq!(list(&tree), "[\"/opt/site/runc\", \"runc\", \"crun\"]");
}

#[test]
fn a_low_level_program_that_is_not_there_is_an_error_before_anything_is_written() {
    let own = "[crio.runtime]\ndefault_runtime = \"site\"\n[crio.runtime.runtimes.site]\nruntime_path = \"/opt/site\"\n";
    for (version, text, words) in [
        ("1.37.0", toolkits(""), "runc, crun"),
        (
            "1.30.2",
            String::new(),
            "crio runs containers by its built-in runtime \"runc\", whose program is not installed: runc",
        ),
        ("1.37.0", own.into(), "not installed: /opt/site"),
    ] {
        let tree = tree(version);
        tree.write(TOOLKITS, &text);
        let before = tree.state();
        for args in [ADOPT, &["plan", "--existing", "adopt"]] {
            let out = tree.run(args);
            let stderr = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.code(), Some(1), "{stderr}");
            assert!(
                stderr.contains(words) && stderr.contains("fix:"),
                "{stderr}"
            );
            // No file says what is built in.
            assert!(!stderr.contains("crio.conf:"), "{stderr}");
        }
        assert_eq!(tree.state(), before);
    }
}

/// Their state is found by our runtime from then on, or not.
#[test]
fn the_plan_names_the_pods_that_are_taken_over() {
    let tree = packaged();
    tree.write("usr/bin/runc", "");
    let pod = |id: &str, handler: &str| {
        let text = format!(
            "{{\"annotations\": {{\"io.kubernetes.cri-o.RuntimeHandler\": \"{handler}\", \"io.kubernetes.cri-o.KubeName\": \"{id}\", \"io.kubernetes.cri-o.Namespace\": \"ml\"}}}}"
        );
        let path = format!("run/crio-state/overlay-containers/{id}/userdata/config.json");
        tree.write(&path, &text);
    };
    pod("train", "nvidia");
    pod("web", "");
    tree.write(
        "etc/crio/crio.conf.d/05-root.conf",
        "[crio]\nrunroot = \"/run/crio-state\"\n",
    );
    let plan = |args: &[&str]| warnings(&tree, &[&["plan"], args].concat());
    assert!(!plan(&[]).contains("pods that run now"));
    assert!(plan(&["--default-runtime"]).contains("restart on: ml/web\""));
    tree.write(TOOLKITS, &toolkits(""));
    let adopting = plan(&["--existing", "adopt"]);
    assert!(
        adopting.contains("ml/train (runtime nvidia), ml/web"),
        "{adopting}"
    );
    assert!(!plan(&["--existing", "leave"]).contains("pods that run now"));
}

/// A tree whose unit starts CRI-O with what is in this file.
fn started_with(file: &str, text: &str) -> Tree {
    let tree = packaged();
    let unit = format!(
        "[Service]\nEnvironmentFile=-/{file}\nExecStart=/usr/bin/crio $CRIO_CONFIG_OPTIONS $CRIO_RUNTIME_OPTIONS\n"
    );
    tree.write("usr/lib/systemd/system/crio.service", &unit);
    tree.write(file, text);
    tree
}

#[test]
fn a_default_runtime_by_flag_or_variable_is_the_one_ours_is_like() {
    for file in ["etc/sysconfig/crio", "etc/default/crio"] {
        for text in [
            "CRIO_RUNTIME_OPTIONS=\"--default-runtime runc\"\n",
            "CRIO_CONFIG_OPTIONS=--default-runtime=runc\n",
            "CONTAINER_DEFAULT_RUNTIME=runc\n",
        ] {
            let tree = started_with(file, text);
            assert_eq!(tree.code(&["install", "--yes"]), 0);
            assert_eq!(
                ours(&tree)["runtime_root"].as_str(),
                Some("/run/runc"),
                "{text}"
            );
            // Ours cannot become the default by a file.
            let out = tree.run(&["plan", "--default-runtime"]);
            let stderr = String::from_utf8_lossy(&out.stderr);
            assert_eq!(out.status.code(), Some(1), "{stderr}");
            assert!(
                stderr.contains(file) && stderr.contains("counts before"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn a_runtime_by_flag_is_like_one_in_a_file_and_ours_does_not_hide_it() {
    let flag = |name: &str| {
        format!(
            "CRIO_RUNTIME_OPTIONS=\"--runtimes {name}:/usr/bin/site-runc:/run/site:oci --default-runtime site\"\n"
        )
    };
    let tree = started_with("etc/sysconfig/crio", &flag("site"));
    tree.write("usr/bin/site-runc", "");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert_eq!(ours(&tree)["runtime_root"].as_str(), Some("/run/site"));
    assert_eq!(list(&tree), "[\"/usr/bin/site-runc\", \"runc\", \"crun\"]");

    let tree = started_with("etc/sysconfig/crio", &flag("nvidia"));
    let before = tree.state();
    for args in [&["install", "--yes"][..], ADOPT] {
        let out = tree.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("etc/sysconfig/crio: has --runtimes"),
            "{stderr}"
        );
        assert_eq!(tree.state(), before);
    }
    assert_eq!(tree.code(&["install", "--yes", "--existing", "leave"]), 0);
    assert!(!tree.path(DROP_IN).exists());
}

#[test]
fn hooks_are_looked_for_where_crio_is_told_to() {
    let by_file =
        "[crio.runtime]\nhooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"/srv/hooks\"]\n";
    for (file, text) in [
        ("etc/crio/crio.conf.d/50-hooks.conf", by_file),
        (
            "etc/sysconfig/crio",
            "CRIO_RUNTIME_OPTIONS=\"--hooks-dir /a --hooks-dir /srv/hooks\"\n",
        ),
        ("etc/sysconfig/crio", "CONTAINER_HOOKS_DIR=/a,/srv/hooks\n"),
    ] {
        let tree = started_with("etc/sysconfig/crio", "");
        tree.write(file, text);
        tree.write(
            "srv/hooks/nv.json",
            "{\"hook\": {\"path\": \"/usr/bin/nvidia-container-runtime-hook\"}}",
        );
        let warnings = warnings(&tree, &["plan"]);
        assert!(
            warnings.contains("/srv/hooks/nv.json makes CRI-O run"),
            "{warnings}"
        );
    }
}
