//! Tests containerd in all its forms. Each case is a directory in `golden/containerd` with the
//! files `before`, the files `after` that differ, and in `host` what else the tree has:
//!
//! - `containerd VERSION`: the package
//! - `has PATH`: an empty file; `link PATH TARGET`
//! - `args ARGS`: for `install`
//!
//! `GPUSETUP_GOLDEN=write` writes `after` again; review the difference.
#![allow(clippy::unwrap_used)]

mod cases;
mod daemons;
#[path = "../fixture/mod.rs"]
mod fixture;

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use cases::{bare, changed, document, files, install, package};
use fixture::Tree;

const OURS: &str = "/usr/bin/gpu-container-runtime";

#[test]
fn every_golden_case_is_set_up_and_undone() {
    let write = std::env::var("GPUSETUP_GOLDEN").is_ok_and(|v| v == "write");
    let mut wrong = Vec::new();
    for case in cases::all_cases() {
        let before = case.tree.state();
        let out = install(&case);
        assert_eq!(
            out.status.code(),
            Some(0),
            "{}: {}",
            case.name,
            document(&out)
        );
        let after = changed(&case.tree, &before);
        let golden = case.dir.join("after");
        if write {
            let _ = fs::remove_dir_all(&golden);
            for (path, text) in &after {
                let path = golden.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        if files(&golden) != after {
            wrong.push(format!("{}: {after:#?}", case.name));
        }
        let installed = case.tree.state();
        let mut runs = vec![install(&case)];
        if case.args.contains(&"adopt".to_owned()) {
            // The runtime is ours from now on, so the next install needs no flag.
            runs.push(case.tree.run(&["install", "--yes", "--json"]));
        }
        for again in runs {
            assert_eq!(
                document(&again)["changed"],
                Value::Bool(false),
                "{}",
                case.name
            );
            assert_eq!(case.tree.state(), installed, "{}", case.name);
        }
        assert_eq!(case.tree.code(&["undo", "--yes"]), 0, "{}", case.name);
        assert_eq!(case.tree.state(), before, "{}", case.name);
    }
    assert!(wrong.is_empty(), "not as golden: {}", wrong.join("\n"));
}

/// A tree with these files and a containerd of that version.
fn site(version: &str, files: &[(&str, &str)]) -> Tree {
    let tree = bare();
    package(&tree, version);
    for (path, text) in files {
        tree.write(path, text);
    }
    tree
}

const ROOT: &str = "etc/containerd/config.toml";
const CONF_D: &str = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n";
const V2: &str = "plugins.\"io.containerd.grpc.v1.cri\"";
const V3: &str = "plugins.\"io.containerd.cri.v1.runtime\"";

fn runtime(table: &str, name: &str, binary: &str) -> String {
    format!(
        "[{table}.containerd.runtimes.{name}]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [{table}.containerd.runtimes.{name}.options]\nBinaryName = \"{binary}\"\n"
    )
}

/// Installs and expects a refusal that contains these words and changes nothing.
fn is_refused(tree: &Tree, args: &[&str], words: &[&str]) {
    let before = tree.state();
    let out = tree.run(&[&["install", "--yes"], args].concat());
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
    }
    assert!(stderr.contains("fix:"), "{stderr}");
    assert_eq!(tree.state(), before);
}

#[test]
fn another_tools_runtime_is_refused_with_the_options() {
    let ways = ["--existing adopt", "--existing leave", "--mode cdi"];
    for (binary, whose) in [
        (
            "/usr/bin/nvidia-container-runtime",
            "NVIDIA Container Toolkit",
        ),
        (
            "/usr/local/nvidia/toolkit/nvidia-container-runtime",
            "GPU operator",
        ),
        ("/opt/mine", "not ours (/opt/mine)"),
    ] {
        let text = format!("version = 2\n{}", runtime(V2, "nvidia", binary));
        let tree = site("1.7.24", &[(ROOT, &text)]);
        is_refused(&tree, &[], &[&ways[..], &[whose, binary, ROOT]].concat());
    }
    // The refusal names the file that defines the runtime.
    let root = format!("version = 3\n{CONF_D}");
    let operators = format!(
        "version = 3\n{}",
        runtime(
            V3,
            "nvidia",
            "/usr/local/nvidia/toolkit/nvidia-container-runtime"
        )
    );
    let drop_in = "etc/containerd/conf.d/99-nvidia.toml";
    let tree = site("2.1.9", &[(ROOT, &root), (drop_in, &operators)]);
    is_refused(&tree, &[], &[drop_in, "GPU operator"]);
}

#[test]
fn contradicting_files_are_refused_by_name() {
    // Up to 2.2 the last version applies to all files; 2.3 does not start.
    let newer = format!("version = 3\n{}", runtime(V3, "kata", "/opt/kata"));
    let root = format!("version = 2\n{CONF_D}{}", runtime(V2, "runc", ""));
    let path = "etc/containerd/conf.d/90-kata.toml";
    for version in ["2.1.9", "2.3.1"] {
        let tree = site(version, &[(ROOT, &root), (path, &newer)]);
        is_refused(&tree, &[], &[path, "version 3", "version = 2"]);
    }
    let older = format!("{CONF_D}[plugins.cri.containerd.runtimes.runc]\n");
    let tree = site("1.7.24", &[(ROOT, &older), (path, "version = 2\n")]);
    is_refused(&tree, &[], &[path]);
    // containerd 2.3 migrates an older drop-in by itself.
    let two = format!("version = 2\n{}", runtime(V2, "kata", "/opt/kata"));
    let three = format!("version = 3\n{CONF_D}{}", runtime(V3, "runc", ""));
    let tree = site("2.3.1", &[(ROOT, &three), (path, &two)]);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
}

#[test]
fn schema_versions_that_the_daemon_does_not_read_are_refused() {
    for (daemon, version) in [("1.7.24", 3), ("2.1.9", 4), ("2.3.1", 5)] {
        let tree = site(daemon, &[(ROOT, &format!("version = {version}\n"))]);
        is_refused(&tree, &[], &[&format!("schema version {version}")]);
    }
}

/// A later file overrides ours, so that ours would have no effect.
#[test]
fn settings_that_would_be_ignored_are_not_written() {
    let root = format!("version = 3\n{CONF_D}");
    let later = format!("version = 3\n[{V3}]\nenable_cdi = false\n");
    let path = "etc/containerd/conf.d/99-site.toml";
    let tree = site("2.1.9", &[(ROOT, &root), (path, &later)]);
    is_refused(&tree, &[], &[path, "enable_cdi"]);
    assert_eq!(tree.code(&["install", "--yes", "--mode", "runtime"]), 0);
}

#[test]
fn arrays_of_tables_are_kept_and_a_conflicting_one_is_named() {
    let array = "version = 2\n[[site.disk]] # one\na = 1\n[[site.disk]]\na = 2\n";
    let tree = site("1.7.24", &[(ROOT, array)]);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(tree.read(ROOT).starts_with(array), "{}", tree.read(ROOT));
    let text = format!("version = 2\n[[{V2}]]\na = 1\n");
    is_refused(&site("1.7.24", &[(ROOT, &text)]), &[], &[ROOT]);
}

/// A drop-in follows the settings from which it was made.
#[test]
fn a_drop_in_is_updated_after_the_settings_of_runc_change() {
    let text = |cgroup: bool| {
        format!(
            "version = 3\n{CONF_D}[{V3}.containerd.runtimes.runc.options]\nSystemdCgroup = {cgroup}\n"
        )
    };
    let drop_in = "etc/containerd/conf.d/50-gpusetup.toml";
    let tree = site("2.1.9", &[(ROOT, &text(false))]);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(tree.read(drop_in).contains("SystemdCgroup = false"));
    tree.write(ROOT, &text(true));
    let before = tree.state();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(tree.read(drop_in).contains("SystemdCgroup = true"));
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert!(!tree.path(drop_in).exists());
    assert_eq!(tree.read(ROOT), text(true));
    drop(before);
}

const RENDERED: &str = "var/lib/rancher/k3s/agent/etc/containerd/config.toml";
const K3S_V3: &str = "plugins.'io.containerd.cri.v1.runtime'";

fn k3s(files: &[(&str, &str)]) -> Tree {
    let tree = bare();
    tree.write("usr/local/bin/k3s", "");
    tree.write(
        "etc/systemd/system/k3s.service",
        "[Service]\nExecStart=/usr/local/bin/k3s server\n",
    );
    for (path, text) in files {
        tree.write(path, text);
    }
    tree
}

#[test]
fn k3s_defines_its_runtime_once() {
    let vendors = "usr/bin/nvidia-container-runtime";
    let plain = format!("version = 3\n{}", runtime(K3S_V3, "runc", ""));
    let with_nvidia = format!(
        "{plain}{}",
        runtime(K3S_V3, "nvidia", "/usr/bin/nvidia-container-runtime")
    );
    for text in [&with_nvidia, &plain] {
        // Either k3s has already rendered it, or it will at its next start.
        let tree = k3s(&[(RENDERED, text), (vendors, "")]);
        is_refused(
            &tree,
            &[],
            &["NVIDIA Container Toolkit", "--existing leave"],
        );
        is_refused(
            &tree,
            &["--existing", "adopt"],
            &["by itself", "--existing leave"],
        );
    }
    let tree = k3s(&[(RENDERED, &plain)]);
    is_refused(&tree, &["--default-runtime"], &["config.yaml"]);
}

/// After its restart k3s's file has our runtime. The next install must neither add it again nor
/// fail.
/// Its next start puts the flag or key into the file that it generates, whatever that has now.
#[test]
fn the_default_runtime_that_k3s_is_told_decides() {
    const UNIT: &str = "etc/systemd/system/k3s.service";
    let text = format!(
        "version = 3\n{}{}NoPivotRoot = true\n",
        runtime(K3S_V3, "runc", ""),
        runtime(K3S_V3, "site", "")
    );
    let start = |flag: &str| format!("[Service]\nExecStart=/usr/local/bin/k3s server {flag}\n");
    let ways = [
        (UNIT, start("--default-runtime=NAME")),
        (UNIT, start("--default-runtime NAME")),
        (
            "etc/rancher/k3s/config.yaml",
            "default-runtime: NAME\n".into(),
        ),
        (
            "etc/rancher/k3s/config.yaml.d/x.yaml",
            "default-runtime: \"NAME\"\n".into(),
        ),
    ];
    let template = "var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl";
    for (path, way) in ways {
        for (name, is_like) in [("site", true), ("runc", false), ("absent", false)] {
            let tree = k3s(&[(RENDERED, &text), (path, &way.replace("NAME", name))]);
            assert_eq!(tree.code(&["install", "--yes"]), 0);
            let made = tree.read(template);
            assert_eq!(made.contains("NoPivotRoot = true"), is_like, "{way} {made}");
        }
        // It makes ours the default by itself.
        let tree = k3s(&[(RENDERED, &text), (path, &way.replace("NAME", "nvidia"))]);
        assert_eq!(tree.code(&["install", "--yes", "--default-runtime"]), 0);
        assert!(!tree.read(template).contains("default_runtime_name"));
    }
}

#[test]
fn k3s_needs_nothing_more_after_its_restart() {
    let plain =
        format!("version = 3\n[{K3S_V3}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n");
    let tree = k3s(&[(RENDERED, &plain)]);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let template = "var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl";
    let rendered = tree
        .read(template)
        .replace("{{ template \"base\" . }}", &plain);
    let _: toml::Table = rendered.parse().unwrap();
    tree.write(RENDERED, &rendered);
    let installed = tree.state();
    assert_eq!(tree.code(&["plan"]), 0);
    // What the user added to the template stays when our part is removed.
    tree.write(template, &format!("{}# mine\n", tree.read(template)));
    assert_eq!(tree.code(&["plan"]), 0);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.read(template), "{{ template \"base\" . }}\n\n# mine\n");
    drop(installed);
}

#[test]
fn a_distribution_that_has_never_run_is_left_alone() {
    let tree = k3s(&[]);
    package(&tree, "1.7.24");
    tree.write(ROOT, "version = 2\n");
    let out = tree.run(&["install", "--yes", "--json"]);
    assert_eq!(out.status.code(), Some(0));
    let warnings = document(&out)["warnings"].to_string();
    assert!(warnings.contains("k3s is left alone"), "{warnings}");
    assert_eq!(tree.code(&["plan", "--engine", "k3s"]), 6);
}

fn facts(tree: &Tree, engine: &str) -> Value {
    let document = document(&tree.run(&["detect", "--json"]));
    let engines = document["engines"].as_array().unwrap().clone();
    engines
        .into_iter()
        .find(|e| e["name"] == engine)
        .unwrap_or(Value::Null)
}

#[test]
fn facts_include_notes_for_the_operator() {
    let note = |tree: &Tree, words: &str| {
        let facts = facts(tree, "containerd");
        assert!(facts["notes"].to_string().contains(words), "{facts}");
    };
    note(
        &site("1.7.24", &[(ROOT, "disabled_plugins = [\"cri\"]\n")]),
        "CRI is disabled",
    );
    let gone = format!("version = 2\n{}", runtime(V2, "gone", "/opt/gone"));
    note(
        &site("1.7.24", &[(ROOT, &gone)]),
        "/opt/gone, which is not there",
    );
    let old = "[plugins.cri.containerd.runtimes.runc]\n";
    note(
        &site("2.1.9", &[(ROOT, old)]),
        "does not read its [plugins.cri]",
    );
    let root = format!("version = 2\n{CONF_D}[{V2}]\nsandbox_image = \"pause\"\n");
    let hides = format!("version = 2\n[{V2}]\nenable_selinux = true\n");
    let path = "etc/containerd/conf.d/40-site.toml";
    note(&site("1.7.24", &[(ROOT, &root), (path, &hides)]), "#5837");
}

/// A run that changes nothing because CRI is off says so.
#[test]
fn a_disabled_cri_is_reported() {
    let tree = site("1.7.24", &[(ROOT, "disabled_plugins = [\"cri\"]\n")]);
    let warnings = document(&tree.run(&["install", "--yes", "--json"]))["warnings"].to_string();
    assert!(warnings.contains("nothing to set up for it"), "{warnings}");
    tree.write("usr/bin/kubelet", "");
    let warnings = document(&tree.run(&["plan", "--json"]))["warnings"].to_string();
    assert!(warnings.contains("no pod gets a GPU"), "{warnings}");
}

#[test]
fn the_file_named_by_the_unit_is_used() {
    for flag in [
        "--config /etc/site/cd.toml",
        "--config=/etc/site/cd.toml",
        "-c /etc/site/cd.toml",
    ] {
        let unit = format!(
            "[Service]\nExecStartPre=/bin/sh -c true\nExecStart=/usr/bin/containerd \\\n  {flag}\n"
        );
        let unit = if flag.starts_with("-c") {
            unit.replace("ExecStartPre=/bin/sh -c true\n", "")
        } else {
            unit
        };
        let tree = site("1.7.24", &[("etc/site/cd.toml", "version = 2\n")]);
        tree.write("usr/lib/systemd/system/containerd.service", &unit);
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        assert!(tree.read("etc/site/cd.toml").contains(OURS), "{flag}");
        assert!(!tree.path(ROOT).exists(), "{flag}");
    }
}

#[test]
fn a_containerd_that_is_k3s_own_is_not_another_engine() {
    let tree = k3s(&[(RENDERED, "version = 3\n")]);
    let own = "var/lib/rancher/k3s/data/current/bin/containerd";
    tree.write(own, "");
    symlink(format!("/{own}"), tree.path("usr/local/bin/containerd")).unwrap();
    assert_eq!(facts(&tree, "containerd"), Value::Null);
    assert_eq!(facts(&tree, "k3s")["name"], "k3s");
}

#[test]
fn a_strictly_confined_microk8s_is_left_alone() {
    let tree = site(
        "1.7.24",
        &[
            (
                "snap/microk8s/current/meta/snap.yaml",
                "confinement: strict\n",
            ),
            (
                "var/snap/microk8s/current/args/containerd-template.toml",
                "version = 2\n",
            ),
        ],
    );
    assert_eq!(facts(&tree, "microk8s")["standing"]["is"], "not-ours");
}

/// `k0s install` writes its unit into /etc; a package does not.
#[test]
fn a_unit_counts_wherever_systemd_reads_units() {
    for dir in ["etc", "run", "usr/local/lib", "usr/lib", "lib"] {
        let tree = bare();
        tree.write("usr/local/bin/k0s", "");
        tree.write("etc/k0s/containerd.toml", "version = 3\n");
        let unit = format!("{dir}/systemd/system/k0sworker.service");
        tree.write(&unit, "[Service]\nExecStart=/usr/local/bin/k0s worker\n");
        let document = document(&tree.run(&["plan", "--json"]));
        let services = document["restart_required"].to_string();
        assert_eq!(services, "[\"k0sworker.service\"]", "{unit}");
    }
}

/// The node images of AKS with a GPU: NVIDIA's runtime is the default, and there is no table of runc.
#[test]
fn ours_is_like_the_default_runtime_that_is_nvidias() {
    for (version, table, schema) in [("1.7.24", V2, 2), ("2.1.9", V3, 3)] {
        let default = runtime(
            table,
            "nvidia-container-runtime",
            "/usr/bin/nvidia-container-runtime",
        );
        let text = format!(
            "version = {schema}\n[{table}.containerd]\ndefault_runtime_name = \"nvidia-container-runtime\"\n{default}SystemdCgroup = true\n"
        );
        let tree = site(version, &[(ROOT, &text)]);
        tree.write("usr/bin/nvidia-container-runtime", "");
        for args in [
            &["install", "--yes"][..],
            &["install", "--yes", "--default-runtime"],
        ] {
            for _ in 0..2 {
                assert_eq!(tree.code(args), 0);
                let made: toml::Table = tree.read(ROOT).parse().unwrap();
                let key = table.trim_start_matches("plugins.").trim_matches('"');
                let options = &made["plugins"][key]["containerd"]["runtimes"]["nvidia"]["options"];
                assert_eq!(options["SystemdCgroup"].as_bool(), Some(true), "{version}");
                assert_eq!(options["BinaryName"].as_str(), Some(OURS));
            }
        }
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.read(ROOT), text);
    }
}

/// EKS's older node images: schema 1, with a table that names the default runtime.
#[test]
fn ours_is_like_the_runtime_of_a_default_runtime_table() {
    let text = |kind: &str| {
        format!(
            "[plugins.cri.containerd.default_runtime]\nruntime_type = \"{kind}\"\nprivileged_without_host_devices = true\n[plugins.cri.containerd.default_runtime.options]\nSystemdCgroup = true\nNoPivotRoot = true\nBinaryName = \"/usr/bin/site\"\n"
        )
    };
    for (kind, has_all) in [
        ("io.containerd.runc.v2", true),
        ("io.containerd.runtime.v1.linux", false),
    ] {
        let tree = site("1.6.20", &[(ROOT, &text(kind)), ("usr/bin/site", "")]);
        is_refused(
            &tree,
            &["--default-runtime"],
            &["default_runtime_name has no effect", ROOT],
        );
        assert_eq!(tree.code(&["install", "--yes"]), 0);
        let made: toml::Table = tree.read(ROOT).parse().unwrap();
        let ours = &made["plugins"]["cri"]["containerd"]["runtimes"]["nvidia"];
        assert_eq!(ours["options"]["SystemdCgroup"].as_bool(), Some(true));
        assert_eq!(ours["options"].get("NoPivotRoot").is_some(), has_all);
        assert_eq!(
            ours.get("privileged_without_host_devices").is_some(),
            has_all
        );
        assert_eq!(ours["options"]["BinaryName"].as_str(), Some(OURS));
    }
}

/// Ours starts the program of the runtime that it is like.
#[test]
fn a_low_level_program_that_is_not_there_is_an_error_before_anything_is_written() {
    let cri = "plugins.\"io.containerd.grpc.v1.cri\".containerd";
    for (name, binary) in [("runc", "/opt/crun"), ("site", "crun"), ("site", "/opt/x")] {
        let text = format!(
            "version = 2\n[{cri}]\ndefault_runtime_name = \"{name}\"\n[{cri}.runtimes.{name}]\nruntime_type = \"io.containerd.runc.v2\"\n[{cri}.runtimes.{name}.options]\nBinaryName = \"{binary}\"\n"
        );
        let tree = site("1.7.24", &[(ROOT, &text)]);
        let said = format!("runtime {name:?}, whose program is not installed: {binary}");
        is_refused(&tree, &[], &[&said, ROOT]);
        let program = binary.strip_prefix('/').unwrap_or("usr/bin/crun");
        tree.write(program, "");
        assert_eq!(tree.code(&["install", "--yes"]), 0, "{binary}");
        assert_eq!(tree.code(&["undo", "--yes"]), 0);
        assert_eq!(tree.read(ROOT), text);
    }
}

/// k3s reads a template at each start, and our change needs one.
#[test]
fn a_template_that_k3s_has_not_read_yet_decides() {
    const DIR: &str = "var/lib/rancher/k3s/agent/etc/containerd";
    let import = format!("imports = [\"/{DIR}/config-v3.toml.d/*.toml\"]\n");
    for with_import in ["", import.as_str()] {
        let rendered = format!("version = 3\n{with_import}{}", runtime(K3S_V3, "runc", ""));
        let with = |name: &str, text: &str| {
            k3s(&[(RENDERED, &rendered), (&format!("{DIR}/{name}"), text)])
        };
        let bare = "version = 3\n[debug]\nlevel = \"debug\"\n";
        // Without the built-in template, nobody knows whether the node would come up.
        for name in ["config-v3.toml.tmpl", "config.toml.tmpl"] {
            is_refused(
                &with(name, bare),
                &[],
                &[name, "has not read yet", "template \"base\""],
            );
        }
        // It has a runtime of our name, so that doctor would take it for whole.
        let bare = format!("version = 3\n{}", runtime(K3S_V3, "nvidia", OURS));
        let tree = with("config-v3.toml.tmpl", &bare);
        let found = String::from_utf8(tree.run(&["doctor", "--json"]).stdout).unwrap();
        assert!(found.contains("has not been made of it yet"), "{found}");
        // It has been read.
        let read = with("config-v3.toml.tmpl", &rendered);
        assert_eq!(read.code(&["install", "--yes"]), 0);
        // It adds to the built-in one, and has a runtime of our name.
        let theirs = runtime(K3S_V3, "nvidia", "/opt/theirs");
        let adds = with(
            "config-v3.toml.tmpl",
            &format!("{{{{ template \"base\" . }}}}\n{theirs}"),
        );
        is_refused(&adds, &[], &["config-v3.toml.tmpl", "has a runtime"]);
        assert_eq!(adds.code(&["install", "--yes", "--existing", "leave"]), 0);
        // It adds something else.
        let adds = with(
            "config-v3.toml.tmpl",
            "{{ template \"base\" . }}\n[debug]\nlevel = \"debug\"\n",
        );
        assert_eq!(adds.code(&["install", "--yes"]), 0);
    }
}

#[test]
fn what_a_unit_says_counts_before_the_files() {
    let tree = k3s(&[(RENDERED, "version = 3\n")]);
    let endpoint = "container-runtime-endpoint";
    for (file, text) in [
        (
            "etc/systemd/system/k3s.service",
            format!(
                "[Service]\nEnvironmentFile=-/etc/sysconfig/k3s\nExecStart=/usr/local/bin/k3s agent --{endpoint}=unix:///run/containerd/containerd.sock\n"
            ),
        ),
        (
            "etc/rancher/k3s/config.yaml",
            format!("{endpoint}: unix:///run/containerd/containerd.sock\n"),
        ),
    ] {
        let before = tree.read_if_there(file);
        tree.write(file, &text);
        let facts = facts(&tree, "k3s");
        assert_eq!(facts["standing"]["is"], "not-ours", "{facts}");
        match before {
            Some(before) => tree.write(file, &before),
            None => std::fs::remove_file(tree.path(file)).unwrap(),
        }
    }
    // Its own, by its full name.
    let own = format!("{endpoint}: unix:///run/k3s/containerd/containerd.sock\n");
    tree.write("etc/rancher/k3s/config.yaml", &own);
    assert_eq!(facts(&tree, "k3s")["standing"]["is"], "ours");
}
