//! containerd in all its forms: a directory for each case in `golden/containerd`, with what is
//! there `before`, what is there `after` where that differs, and in `host` what else the tree has:
//!
//! - `containerd VERSION`: the package
//! - `has PATH`: an empty file; `link PATH TARGET`
//! - `args ARGS`: for `install`
//!
//! `GPUSETUP_GOLDEN=write` writes `after` anew; look at the difference.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use fixture::{Tree, walk};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/containerd");
const OURS: &str = "/usr/bin/gpu-container-runtime";

struct Case {
    name: String,
    dir: PathBuf,
    tree: Tree,
    args: Vec<String>,
    version: Option<String>,
}

fn cases() -> Vec<Case> {
    let mut names: Vec<_> = fs::read_dir(GOLDEN)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.iter().map(|name| case(name)).collect()
}

fn case(name: &str) -> Case {
    let dir = Path::new(GOLDEN).join(name);
    let tree = bare();
    let mut case = Case {
        name: name.to_owned(),
        args: Vec::new(),
        version: None,
        tree,
        dir,
    };
    for (path, text) in files(&case.dir.join("before")) {
        case.tree.write(&path, &text);
    }
    let host = fs::read_to_string(case.dir.join("host")).unwrap();
    for line in host.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["containerd", version] => {
                package(&case.tree, version);
                case.version = Some(version.to_owned());
            }
            ["has", path] => case.tree.write(path.trim_start_matches('/'), ""),
            ["link", path, target] => {
                symlink(target, case.tree.path(path.trim_start_matches('/'))).unwrap();
            }
            ["args", ..] => case.args = words[1..].iter().map(|w| (*w).to_owned()).collect(),
            _ => panic!("{name}/host: {line}"),
        }
    }
    case
}

/// A tree with neither Docker nor containerd.
fn bare() -> Tree {
    let tree = Tree::new("1", "1");
    for path in ["usr/sbin/dockerd", "usr/bin/containerd"] {
        fs::remove_file(tree.path(path)).unwrap();
    }
    for path in ["etc/docker", "etc/containerd", "var/lib/dpkg"] {
        fs::remove_dir_all(tree.path(path)).unwrap();
    }
    tree
}

fn package(tree: &Tree, version: &str) {
    tree.write("usr/bin/containerd", "");
    let status =
        format!("Package: containerd\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.write("var/lib/dpkg/status", &status);
}

fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if dir.exists() {
        walk(dir, &mut found);
    }
    let relative = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    found
        .iter()
        .filter(|(path, _)| path.is_file())
        .map(|(path, (_, text))| (relative(path), text.clone()))
        .collect()
}

/// Files that differ between two states of a tree, but for gpusetup's own.
fn changed(tree: &Tree, before: &BTreeMap<PathBuf, (u32, String)>) -> BTreeMap<String, String> {
    let root = tree.path("");
    let own = tree.path("var/lib/gpusetup");
    tree.state()
        .into_iter()
        .filter(|(path, state)| {
            path.is_file() && !path.starts_with(&own) && before.get(path) != Some(state)
        })
        .map(|(path, (_, text))| {
            let path = path.strip_prefix(&root).unwrap().display().to_string();
            (path, text)
        })
        .collect()
}

fn install(case: &Case) -> Output {
    let args: Vec<&str> = ["install", "--yes", "--json"]
        .into_iter()
        .chain(case.args.iter().map(String::as_str))
        .collect();
    case.tree.run(&args)
}

fn said(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn every_case_is_set_up_as_it_should_be_and_comes_back() {
    let write = std::env::var("GPUSETUP_GOLDEN").is_ok_and(|v| v == "write");
    let mut wrong = Vec::new();
    for case in cases() {
        let before = case.tree.state();
        let out = install(&case);
        assert_eq!(out.status.code(), Some(0), "{}: {}", case.name, said(&out));
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
            // It is ours from now on, and needs no flag.
            runs.push(case.tree.run(&["install", "--yes", "--json"]));
        }
        for again in runs {
            assert_eq!(said(&again)["changed"], Value::Bool(false), "{}", case.name);
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

/// Installs, and expects a refusal with these words in it and nothing changed.
fn is_refused(tree: &Tree, args: &[&str], words: &[&str]) {
    let before = tree.state();
    let out = tree.run(&[&["install", "--yes"], args].concat());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(said.contains("fix:"), "{said}");
    assert_eq!(tree.state(), before);
}

#[test]
fn a_runtime_of_anothers_is_told_with_the_ways_out() {
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
    // In the file that has it.
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
fn files_that_do_not_fit_each_other_are_refused_by_name() {
    // Up to 2.2 the last version wins for all files; 2.3 does not start.
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
    // An older one is migrated by itself in 2.3.
    let two = format!("version = 2\n{}", runtime(V2, "kata", "/opt/kata"));
    let three = format!("version = 3\n{CONF_D}{}", runtime(V3, "runc", ""));
    let tree = site("2.3.1", &[(ROOT, &three), (path, &two)]);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
}

#[test]
fn versions_the_daemon_does_not_read_are_refused() {
    for (daemon, version) in [("1.7.24", 3), ("2.1.9", 4), ("2.3.1", 5)] {
        let tree = site(daemon, &[(ROOT, &format!("version = {version}\n"))]);
        is_refused(&tree, &[], &[&format!("schema version {version}")]);
    }
}

/// What a later file says counts, so that ours would be without effect.
#[test]
fn what_would_not_count_is_not_written() {
    let root = format!("version = 3\n{CONF_D}");
    let later = format!("version = 3\n[{V3}]\nenable_cdi = false\n");
    let path = "etc/containerd/conf.d/99-site.toml";
    let tree = site("2.1.9", &[(ROOT, &root), (path, &later)]);
    is_refused(&tree, &[], &[path, "enable_cdi"]);
    assert_eq!(tree.code(&["install", "--yes", "--mode", "runtime"]), 0);
}

#[test]
fn arrays_of_tables_stay_and_one_in_the_way_is_named() {
    let array = "version = 2\n[[site.disk]] # one\na = 1\n[[site.disk]]\na = 2\n";
    let tree = site("1.7.24", &[(ROOT, array)]);
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(tree.read(ROOT).starts_with(array), "{}", tree.read(ROOT));
    let text = format!("version = 2\n[[{V2}]]\na = 1\n");
    is_refused(&site("1.7.24", &[(ROOT, &text)]), &[], &[ROOT]);
}

/// A drop-in follows the settings it was made of.
#[test]
fn a_drop_in_is_made_anew_when_runc_has_changed() {
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
    let found = format!(
        "{plain}{}",
        runtime(K3S_V3, "nvidia", "/usr/bin/nvidia-container-runtime")
    );
    for text in [&found, &plain] {
        // Rendered already, or to be at the next start.
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

/// After its restart k3s' file has our runtime; that is no reason to add it again or to stop.
#[test]
fn k3s_after_its_restart_is_as_wanted() {
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
    // What the user adds to the template stays when ours goes.
    tree.write(template, &format!("{}# mine\n", tree.read(template)));
    assert_eq!(tree.code(&["plan"]), 0);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.read(template), "{{ template \"base\" . }}\n\n# mine\n");
    drop(installed);
}

#[test]
fn what_has_not_run_yet_is_left_alone() {
    let tree = k3s(&[]);
    package(&tree, "1.7.24");
    tree.write(ROOT, "version = 2\n");
    let out = tree.run(&["install", "--yes", "--json"]);
    assert_eq!(out.status.code(), Some(0));
    let warnings = said(&out)["warnings"].to_string();
    assert!(warnings.contains("k3s is left alone"), "{warnings}");
    assert_eq!(tree.code(&["plan", "--engine", "k3s"]), 6);
}

fn facts(tree: &Tree, engine: &str) -> Value {
    let said = said(&tree.run(&["detect", "--json"]));
    let engines = said["engines"].as_array().unwrap().clone();
    engines
        .into_iter()
        .find(|e| e["name"] == engine)
        .unwrap_or(Value::Null)
}

#[test]
fn facts_say_what_an_operator_must_know() {
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

/// A run that changes nothing because nobody would read it says so.
#[test]
fn nothing_to_do_for_cri_is_said() {
    let tree = site("1.7.24", &[(ROOT, "disabled_plugins = [\"cri\"]\n")]);
    let warnings = said(&tree.run(&["install", "--yes", "--json"]))["warnings"].to_string();
    assert!(warnings.contains("nothing to set up for it"), "{warnings}");
    tree.write("usr/bin/kubelet", "");
    let warnings = said(&tree.run(&["plan", "--json"]))["warnings"].to_string();
    assert!(warnings.contains("no pod gets a GPU"), "{warnings}");
}

#[test]
fn the_file_is_the_one_that_the_unit_names() {
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

/// Every case that is a plain containerd's, read by a real one: `containerd` here, and those that
/// `GPUSETUP_CONTAINERDS` names, with a colon between two.
#[test]
fn real_daemons_make_of_it_what_they_should() {
    let named = std::env::var("GPUSETUP_CONTAINERDS").unwrap_or_default();
    let programs = std::iter::once("containerd").chain(named.split(':').filter(|p| !p.is_empty()));
    let mut read = 0;
    for program in programs {
        let Some(daemon) = version_of(program) else {
            println!("skipped: {program} is not here");
            continue;
        };
        for case in cases() {
            let wanted = case.version.as_deref().map(numbers);
            // A file for 1.6 is one for 1.7 too; 2.0 to 2.2 read the same, and 2.3 for itself.
            let kind = |(major, minor): (u32, u32)| (major, major == 2 && minor >= 3);
            if wanted.is_some_and(|w| kind(w) == kind(daemon)) {
                read += usize::from(reads(program, daemon, &case));
            }
        }
    }
    println!("{read} cases read by real daemons");
}

/// What distributions of Kubernetes have their containerd read, read by one of 2.x.
#[test]
fn real_daemons_take_in_what_distributions_import() {
    let named = std::env::var("GPUSETUP_CONTAINERDS").unwrap_or_default();
    let is_2 = |program: &&str| version_of(program).is_some_and(|v| v >= (2, 0));
    let Some(program) = named.split(':').find(is_2) else {
        println!("skipped: GPUSETUP_CONTAINERDS names no containerd 2.x");
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
        let found = runtimes(&dump(program, &case.tree, config));
        let options = &found["nvidia"]["options"];
        assert_eq!(
            options["BinaryName"].as_str(),
            Some(OURS),
            "{name}: {found}"
        );
        let said = options.get("SystemdCgroup").and_then(toml::Value::as_bool);
        assert_eq!(said.unwrap_or_default(), cgroup, "{name}");
        assert!(found.contains_key("runc"), "{name}");
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

/// What a daemon makes of the files in a tree: its own dump, as a table.
fn dump(program: &str, tree: &Tree, config: &str) -> toml::Table {
    // The paths within files are the tree's.
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
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program}: {said}");
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
    // Of a plugin that is off a daemon tells nothing.
    let is_on = |text: &String| !text.contains("disabled_plugins = [\"");
    let Some(after) = after.filter(is_on) else {
        return false;
    };
    let is_left = case.args.contains(&"leave".to_owned());
    let found = runtimes(&dump(program, &case.tree, ROOT));
    let nvidia = found
        .get("nvidia")
        .unwrap_or_else(|| panic!("{}: {found}\n{after}", what()));
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
    // The usual runtime is still there, and ours is like it in all but its program.
    let usual = if case.name.contains("default-runtime") {
        "crun"
    } else {
        "runc"
    };
    let usual = found
        .get(usual)
        .unwrap_or_else(|| panic!("{}: {found}", what()));
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
    assert_eq!(
        cgroup(options),
        of_usual.as_ref().is_some_and(cgroup),
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
