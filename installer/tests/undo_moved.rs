//! Tests that undo finds what gpusetup wrote by what it means, wherever it stands by then, and that
//! "as it was before gpusetup" is said only where no file of an engine names our programs.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::process::Output;

use fixture::Tree;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

const ROOT: &str = "etc/containerd/config.toml";
const DROP_IN: &str = "etc/containerd/conf.d/50-gpusetup.toml";
const DAEMON_JSON: &str = "etc/docker/daemon.json";
const OURS: &str = "gpu-container";
const V: [&str; 3] = [
    "cri",
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.runtime",
];

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned()
}

fn installed(tree: &Tree, args: &[&str]) {
    let out = tree.run(&[&["install", "--yes"], args].concat());
    assert!(out.status.success(), "{}", said(&out));
}

/// A tree with a containerd that has this root file.
fn containerd(version: &str, text: &str) -> Tree {
    let tree = Tree::new("26.1.5", version);
    tree.write(ROOT, text);
    driver(&tree, "580.65.06");
    tree
}

fn driver(tree: &Tree, version: &str) {
    let line = format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  x\n");
    tree.write("proc/driver/nvidia/version", &line);
}

fn upgraded(tree: &Tree, version: &str) {
    let status = tree.read("var/lib/dpkg/status");
    let (docker, _) = status.split_once("Package: containerd\n").unwrap();
    let package =
        format!("Package: containerd\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.write("var/lib/dpkg/status", &format!("{docker}{package}"));
}

/// The files of engines that name our programs.
fn naming(tree: &Tree) -> Vec<String> {
    let state = tree.state();
    let etc = tree.path("etc");
    let named = state.iter().filter(|(path, (_, text))| {
        path.starts_with(&etc) && path.is_file() && text.contains(OURS)
    });
    named
        .map(|(path, _)| {
            path.strip_prefix(tree.root())
                .unwrap()
                .display()
                .to_string()
        })
        .collect()
}

/// Undo leaves nothing of ours, or says where with exit code 3.
fn is_true(tree: &Tree) -> Result<i32, String> {
    let out = tree.run(&["undo", "--yes"]);
    let text = said(&out);
    let left = naming(tree);
    match out.status.code() {
        Some(0) if left.is_empty() => Ok(0),
        Some(3)
            if left.iter().all(|path| text.contains(&format!("/{path}"))) && !left.is_empty() =>
        {
            Ok(3)
        }
        // Refused as changed since: nothing is done, and the place is named.
        Some(1) if text.contains("changed by somebody else since") && !text.contains("Done") => {
            Ok(1)
        }
        code => Err(format!("{code:?}, left {left:?}: {text}")),
    }
}

const REPORTED: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"registry.k8s.io/pause:3.9\"\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n    runtime_type = \"io.containerd.runc.v2\"\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n    SystemdCgroup = true\n";

/// awslabs/amazon-eks-ami, nodeadm: the same values in single quotes.
#[test]
fn values_in_other_quotes_are_the_same_to_every_command() {
    for (version, args) in [
        ("1.7.24", &[][..]),
        ("2.1.9", &[]),
        ("1.7.24", &["--default-runtime"]),
    ] {
        let tree = containerd(version, REPORTED);
        installed(&tree, args);
        let text = tree.read(ROOT);
        tree.write(ROOT, &text.replace('"', "'"));
        let plan = tree.run(&[&["plan"], args].concat());
        assert_eq!(plan.status.code(), Some(0), "{version}: {}", said(&plan));
        let doctor = said(&tree.run(&["doctor"]));
        assert!(!doctor.contains("lacks what gpusetup wrote"), "{doctor}");
        assert_eq!(is_true(&tree), Ok(0));
        let kept: toml::Table = tree.read(ROOT).parse().unwrap();
        assert_eq!(kept, REPORTED.parse().unwrap());
    }
}

#[test]
fn a_drop_in_in_other_quotes_is_the_same_to_every_command() {
    let root = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    for header in [true, false] {
        let tree = containerd("2.1.9", root);
        installed(&tree, &[]);
        let text = tree.read(DROP_IN).replace('"', "'");
        let text = if header {
            text
        } else {
            text.replace("# Written by gpusetup.\n", "")
        };
        tree.write(DROP_IN, &text);
        assert_eq!(tree.code(&["plan"]), 0);
        assert_eq!(is_true(&tree), Ok(0));
        assert!(!tree.path(DROP_IN).exists());
        assert_eq!(tree.read(ROOT), root);
    }
    let tree = Tree::empty().with_engines("26.1.5", "1.7.24");
    tree.write("usr/bin/crio", "");
    tree.write("usr/bin/crun", "");
    installed(&tree, &["--engine", "crio"]);
    let drop_ins = tree.path("etc/crio/crio.conf.d");
    let drop_in = fs::read_dir(drop_ins)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(
        &drop_in,
        fs::read_to_string(&drop_in).unwrap().replace('"', "'"),
    )
    .unwrap();
    assert_eq!(tree.code(&["plan", "--engine", "crio"]), 0);
    assert_eq!(is_true(&tree), Ok(0));
    assert!(!drop_in.exists());
}

/// What `containerd config migrate` of 2.1 makes of it.
const MIGRATED: &str = "version = 3\nroot = '/var/lib/containerd'\ndisabled_plugins = []\n\n[plugins]\n  [plugins.'io.containerd.cri.v1.images']\n    [plugins.'io.containerd.cri.v1.images'.pinned_images]\n      sandbox = 'registry.k8s.io/pause:3.9'\n\n  [plugins.'io.containerd.cri.v1.runtime']\n    enable_cdi = true\n\n    [plugins.'io.containerd.cri.v1.runtime'.containerd]\n      default_runtime_name = 'DEFAULT'\n\n      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes]\n        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n          runtime_type = 'io.containerd.runc.v2'\n          sandboxer = 'podsandbox'\n\n          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]\n            BinaryName = '/usr/bin/gpu-container-runtime'\n            SystemdCgroup = true\n\n        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n          runtime_type = 'io.containerd.runc.v2'\n          sandboxer = 'podsandbox'\n\n          [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\n            BinaryName = ''\n            SystemdCgroup = true\n";

#[test]
fn what_was_migrated_to_another_schema_is_taken_out_there() {
    for (args, default) in [(&[][..], "runc"), (&["--default-runtime"], "nvidia")] {
        let tree = containerd("1.7.24", REPORTED);
        installed(&tree, args);
        upgraded(&tree, "2.1.5");
        tree.write(ROOT, &MIGRATED.replace("DEFAULT", default));
        assert_eq!(
            tree.code(&[&["plan", "--engine=containerd"], args].concat()),
            0
        );
        let doctor = said(&tree.run(&["doctor"]));
        assert!(!doctor.contains("lacks what gpusetup wrote"), "{doctor}");
        assert_eq!(is_true(&tree), Ok(0), "{default}");
        let left: toml::Table = tree.read(ROOT).parse().unwrap();
        let cri = left["plugins"]["io.containerd.cri.v1.runtime"]
            .as_table()
            .unwrap();
        let runtimes = cri["containerd"]["runtimes"].as_table().unwrap();
        assert_eq!(runtimes.keys().collect::<Vec<_>>(), ["runc"]);
        // The runtime of the host stays whole.
        assert_eq!(runtimes["runc"].as_table().unwrap().len(), 3);
        let default = cri["containerd"].get("default_runtime_name");
        assert_ne!(default.and_then(toml::Value::as_str), Some("nvidia"));
    }
}

#[test]
fn a_runtime_that_the_user_completed_is_taken_out_whole() {
    // `containerd config dump > config.toml` adds defaults; without runtime_type no containerd starts.
    let tree = containerd("2.1.9", "version = 3\n");
    installed(&tree, &[]);
    let text = tree.read(ROOT);
    let table = "runtimes.nvidia]\n";
    assert!(text.contains(table), "{text}");
    tree.write(
        ROOT,
        &text.replace(table, &format!("{table}sandboxer = 'podsandbox'\n")),
    );
    assert_eq!(is_true(&tree), Ok(0));
    assert!(!tree.read(ROOT).contains("nvidia"), "{}", tree.read(ROOT));
}

#[test]
fn the_built_in_runtime_stays_while_others_need_it() {
    // Before 2.0, a table of runtimes without runc leaves CRI without its default.
    let tree = containerd("1.7.24", "version = 2\n");
    installed(&tree, &[]);
    let cri = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mine";
    let mine = format!("[{cri}]\nruntime_type = \"io.containerd.runc.v2\"\n");
    tree.write(ROOT, &format!("{}\n{mine}", tree.read(ROOT)));
    assert_eq!(is_true(&tree), Ok(0));
    let left = tree.read(ROOT);
    assert!(
        left.contains("runtimes.runc]") && !left.contains("nvidia"),
        "{left}"
    );
}

#[test]
fn what_others_wrote_is_named_and_left() {
    let tree = containerd("1.7.24", REPORTED);
    installed(&tree, &[]);
    let ansible = "etc/systemd/system/docker.service.d/ansible.conf";
    tree.write(
        ansible,
        "[Service]\n# managed\nEnvironment=PATH=/usr/lib/gpu-container/bin:/usr/bin\n",
    );
    let look = tree.run(&["undo", "--dry-run"]);
    assert!(
        said(&look).contains("ansible.conf, line 3"),
        "{}",
        said(&look)
    );
    let out = tree.run(&["undo", "--yes", "--json"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["exit_code"], 3);
    assert!(
        document["left"][0]
            .as_str()
            .unwrap()
            .contains("ansible.conf, line 3"),
        "{document}"
    );
    assert!(tree.path(ansible).exists());
    assert!(!tree.read(ROOT).contains(OURS) && !tree.read(DAEMON_JSON).contains(OURS));
    // Nothing of gpusetup's is left, which does not make it true.
    assert_eq!(tree.code(&["undo", "--yes"]), 3);
    fs::remove_file(tree.path(ansible)).unwrap();
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
}

#[test]
fn an_imported_file_and_an_import_elsewhere_are_searched() {
    let root = "version = 2\nimports = [\"/srv/site/*.toml\"]\n";
    let tree = containerd("1.7.24", root);
    installed(&tree, &[]);
    tree.write("srv/site/z.toml", "# /usr/bin/gpu-container-runtime\n[plugins.\"x\"]\nhook = \"/usr/bin/gpu-container-hook\"\n");
    let out = tree.run(&["undo", "--yes"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(
        said(&out).contains("/srv/site/z.toml, line 3, names gpu-container-hook"),
        "{}",
        said(&out)
    );
}

#[test]
fn a_broken_daemon_json_is_named_with_our_keys_and_an_empty_one_has_none() {
    let tree = Tree::new("26.1.5", "1.7.24");
    installed(&tree, &[]);
    let text = tree.read(DAEMON_JSON);
    tree.write(DAEMON_JSON, &text.replacen('}', "},,", 1));
    let before = tree.state();
    let out = tree.run(&["undo", "--yes"]);
    let message = said(&out);
    assert_eq!(out.status.code(), Some(1), "{message}");
    for word in ["daemon.json", "runtimes.nvidia", "features.cdi", "fix:"] {
        assert!(message.contains(word), "{word} in {message}");
    }
    assert_eq!(tree.state(), before);
    tree.write(DAEMON_JSON, "");
    assert_eq!(is_true(&tree), Ok(0));
    assert_eq!(tree.read(DAEMON_JSON), "");
}

/// awslabs/amazon-eks-ami#1329.
#[test]
fn a_table_default_runtime_is_refused_by_name_and_its_cgroup_driver_taken_over() {
    let text = "[plugins.cri.containerd.default_runtime]\nruntime_type = \"io.containerd.runtime.v1.linux\"\n[plugins.cri.containerd.default_runtime.options]\nRuntime = \"/etc/docker-runtimes.d/nvidia\"\nSystemdCgroup = true\n";
    let tree = containerd("1.6.20", text);
    let out = tree.run(&["plan", "--default-runtime", "--engine", "containerd"]);
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(
        said(&out).contains("table default_runtime"),
        "{}",
        said(&out)
    );
    installed(&tree, &[]);
    let set: toml::Table = tree.read(ROOT).parse().unwrap();
    let ours = &set["plugins"]["cri"]["containerd"]["runtimes"]["nvidia"]["options"];
    assert_eq!(ours["SystemdCgroup"].as_bool(), Some(true));
    assert_eq!(ours.get("Runtime"), None);
    assert_eq!(is_true(&tree), Ok(0));
    assert_eq!(tree.read(ROOT), text);
}

const SPEC: &str = "var/run/cdi/nvidia.yaml";
const INVENTORY: &str = "run/gpusetup/inventory.json";
const UNIT: &str = "usr/lib/systemd/system/gpusetup-cdi.service";

/// What the package's service makes is no user's: it stays up to date with the service, whatever it
/// said at install.
#[test]
fn generated_files_are_made_anew_where_their_maker_stays() {
    let tree = containerd("1.7.24", REPORTED);
    tree.write(UNIT, "");
    // The package has described the GPUs before anybody set up an engine.
    assert_eq!(tree.code(&["cdi", "refresh"]), 0);
    let old = tree.read(INVENTORY);
    driver(&tree, "581.1");
    installed(&tree, &[]);
    driver(&tree, "582.2");
    assert_eq!(is_true(&tree), Ok(0));
    assert!(
        tree.read(INVENTORY).contains("582.2"),
        "{}",
        tree.read(INVENTORY)
    );
    assert_ne!(tree.read(INVENTORY), old);
    assert!(tree.path(SPEC).exists());
    // After a reboot they are the boot's, which undo does not remove either.
    installed(&tree, &[]);
    happens(&tree, Meanwhile::Rebooted);
    assert_eq!(is_true(&tree), Ok(0));
    assert!(tree.path(SPEC).exists() && tree.path(INVENTORY).exists());
}

#[test]
fn generated_files_go_where_nothing_makes_them() {
    for masked in [false, true] {
        let tree = containerd("1.7.24", REPORTED);
        assert_eq!(tree.code(&["cdi", "refresh"]), 0);
        driver(&tree, "581.1");
        installed(&tree, &[]);
        if masked {
            tree.write(UNIT, "");
            fs::create_dir_all(tree.path("etc/systemd/system")).unwrap();
            let mask = tree.path("etc/systemd/system/gpusetup-cdi.service");
            std::os::unix::fs::symlink("/dev/null", mask).unwrap();
        }
        assert_eq!(is_true(&tree), Ok(0));
        assert!(!tree.path(SPEC).exists() && !tree.path(INVENTORY).exists());
    }
}

#[test]
fn another_tool_s_spec_is_put_back_only_for_its_driver() {
    let spec = |version: &str| {
        format!(
            "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    mounts:\n    - {{hostPath: /usr/lib/libcuda.so.{version}, containerPath: /usr/lib/libcuda.so.{version}}}\n"
        )
    };
    for (theirs, there) in [("580.65.06", true), ("550.1.2", false)] {
        let tree = containerd("1.7.24", REPORTED);
        tree.write(SPEC, &spec(theirs));
        installed(&tree, &["--existing", "adopt"]);
        assert!(tree.read(SPEC).contains(OURS));
        let out = tree.run(&["undo", "--yes"]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        assert_eq!(tree.read_if_there(SPEC), there.then(|| spec(theirs)));
        assert_eq!(
            said(&out).contains("make it anew"),
            !there,
            "{}",
            said(&out)
        );
    }
    // One that took our place since stays.
    let tree = containerd("1.7.24", REPORTED);
    installed(&tree, &[]);
    tree.write(SPEC, &spec("580.65.06"));
    assert_eq!(is_true(&tree), Ok(0));
    assert_eq!(tree.read(SPEC), spec("580.65.06"));
}

/// moby#47633: the library that engines read specs with refuses the whole spec.
#[test]
fn cdi_check_and_list_judge_specs_as_engines_do() {
    let tree = containerd("1.7.24", REPORTED);
    let spec = "cdiVersion: 0.6.0\nkind: spidernet.io/test\ncontainerEdits:\n  env:\n  - LD=\"test\"\ndevices:\n  - name: demo1\n";
    tree.write("var/run/cdi/test.yaml", spec);
    let check = tree.run(&["cdi", "check"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(
        said(&check).contains("test.yaml") && said(&check).contains("demo1"),
        "{}",
        said(&check)
    );
    let list = tree.run(&["cdi", "list"]);
    let listed = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(!listed.contains("spidernet"), "{listed}");
    assert!(said(&tree.run(&["doctor"])).contains("demo1"));
    let hook = "cdiVersion: 0.6.0\nkind: amd.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    hooks:\n    - {hookName: createContainer, path: /opt/amd/hook}\n";
    tree.write("var/run/cdi/test.yaml", hook);
    let check = said(&tree.run(&["cdi", "check"]));
    assert!(check.contains("/opt/amd/hook is not there"), "{check}");
    assert!(said(&tree.run(&["doctor"])).contains("/opt/amd/hook"));
}

#[test]
fn what_was_set_up_in_a_removed_engine_is_named() {
    let tree = containerd("1.7.24", REPORTED);
    installed(&tree, &[]);
    fs::remove_file(tree.path("usr/sbin/dockerd")).unwrap();
    for command in ["plan", "doctor"] {
        let text = said(&tree.run(&[command]));
        assert!(
            text.contains("/etc/docker/daemon.json"),
            "{command}: {text}"
        );
        assert!(text.contains("gpusetup undo"), "{command}: {text}");
    }
    assert_eq!(is_true(&tree), Ok(0));
}

/// zzzhouuu/truenas-nvidia-drivers#11: its os-release is Debian's.
#[test]
fn an_appliance_is_refused_with_what_to_do() {
    let tree = containerd("1.7.24", REPORTED);
    tree.write("usr/bin/midclt", "");
    tree.write("etc/version", "TrueNAS-25.10.4");
    let out = tree.run(&["plan"]);
    assert_eq!(out.status.code(), Some(6), "{}", said(&out));
    for word in ["TrueNAS-25.10.4", "Install NVIDIA Drivers"] {
        assert!(said(&out).contains(word), "{word} in {}", said(&out));
    }
    assert!(said(&tree.run(&["detect"])).contains("TrueNAS-25.10.4"));
}

/// What happens to files between install and undo.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    MigratedFrom1To2,
    MigratedFrom2To3,
    DropInToRoot,
    RootToDropIn,
    OtherQuotes,
    OtherLayout,
    Inline,
    Sorted,
    Renamed,
    EngineRemoved,
    Rebooted,
    TheirsAdded,
}

const ALL: [Meanwhile; 12] = [
    Meanwhile::MigratedFrom1To2,
    Meanwhile::MigratedFrom2To3,
    Meanwhile::DropInToRoot,
    Meanwhile::RootToDropIn,
    Meanwhile::OtherQuotes,
    Meanwhile::OtherLayout,
    Meanwhile::Inline,
    Meanwhile::Sorted,
    Meanwhile::Renamed,
    Meanwhile::EngineRemoved,
    Meanwhile::Rebooted,
    Meanwhile::TheirsAdded,
];

fn tomls(tree: &Tree) -> Vec<String> {
    [ROOT, DROP_IN]
        .into_iter()
        .filter(|path| tree.path(path).exists())
        .map(str::to_owned)
        .collect()
}

/// The table as another writer writes it.
fn rewritten(tree: &Tree, write: impl Fn(&toml::Table) -> String) {
    for path in tomls(tree) {
        let table: toml::Table = tree.read(&path).parse().unwrap();
        tree.write(&path, &write(&table));
    }
}

fn migrated(tree: &Tree, from: usize, to: usize) {
    rewritten(tree, |table| {
        let mut table = table.clone();
        let plugins = table.get_mut("plugins").and_then(toml::Value::as_table_mut);
        if let Some(cri) = plugins.and_then(|p| Some((p.remove(V[from])?, p))) {
            cri.1.insert(V[to].into(), cri.0);
            table.insert(
                "version".into(),
                toml::Value::Integer(i64::try_from(to).unwrap() + 1),
            );
        }
        table.to_string()
    });
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn happens(tree: &Tree, what: Meanwhile) {
    match what {
        Meanwhile::MigratedFrom1To2 => migrated(tree, 0, 1),
        Meanwhile::MigratedFrom2To3 => migrated(tree, 1, 2),
        Meanwhile::DropInToRoot => {
            if let Some(text) = tree.read_if_there(DROP_IN) {
                let mut root: toml::Table = tree.read(ROOT).parse().unwrap();
                merge(&mut root, text.parse().unwrap());
                tree.write(ROOT, &root.to_string());
                fs::remove_file(tree.path(DROP_IN)).unwrap();
            }
        }
        Meanwhile::RootToDropIn => {
            let root: toml::Table = tree.read(ROOT).parse().unwrap();
            if tree.read(ROOT).contains(OURS) {
                tree.write("etc/containerd/conf.d/10-site.toml", &root.to_string());
                tree.write(ROOT, "imports = ['/etc/containerd/conf.d/*.toml']\n");
            }
        }
        Meanwhile::OtherQuotes => {
            for path in tomls(tree) {
                let text = tree.read(&path);
                tree.write(&path, &text.replace('"', "'"));
            }
        }
        Meanwhile::OtherLayout => rewritten(tree, |table| toml::to_string_pretty(table).unwrap()),
        Meanwhile::Inline => rewritten(tree, |table| {
            let members = table
                .iter()
                .map(|(k, v)| format!("'{k}' = {}\n", inline(v)));
            members.collect()
        }),
        Meanwhile::Sorted => {
            rewritten(tree, |table| {
                let sorted: std::collections::BTreeMap<_, _> = table.iter().collect();
                toml::to_string(&sorted).unwrap()
            });
            let json: Value = serde_json::from_str(&tree.read(DAEMON_JSON)).unwrap();
            let sorted: std::collections::BTreeMap<String, Value> = json
                .as_object()
                .unwrap()
                .clone()
                .into_iter()
                .rev()
                .collect();
            tree.write(DAEMON_JSON, &serde_json::to_string_pretty(&sorted).unwrap());
        }
        Meanwhile::Renamed => {
            for path in tomls(tree) {
                let text = tree.read(&path);
                tree.write(&path, &text.replace("nvidia", "gpus"));
            }
            let text = tree.read(DAEMON_JSON);
            tree.write(DAEMON_JSON, &text.replace("\"nvidia\"", "\"gpus\""));
        }
        Meanwhile::EngineRemoved => {
            for program in ["usr/bin/containerd", "usr/sbin/dockerd"] {
                let _ = fs::remove_file(tree.path(program));
            }
        }
        Meanwhile::Rebooted => {
            for dir in ["run", "var/run", "dev/char"] {
                let _ = fs::remove_dir_all(tree.path(dir));
            }
            assert_eq!(tree.code(&["cdi", "refresh"]), 0);
        }
        Meanwhile::TheirsAdded => {
            for path in tomls(tree) {
                let text = tree.read(&path);
                if !text.contains("[timeouts]") {
                    tree.write(&path, &format!("{text}\n[timeouts]\nsite = \"1s\"\n"));
                }
            }
        }
    }
}

fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            let members: Vec<String> = table
                .iter()
                .map(|(k, v)| format!("'{k}' = {}", inline(v)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
        other => other.to_string(),
    }
}

const BEFORE: [(&str, &str); 5] = [
    (
        "1.6.20",
        "[plugins.cri.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n",
    ),
    ("1.6.20", "version = 2\n"),
    ("1.7.24", REPORTED),
    (
        "2.1.9",
        "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
    ),
    (
        "2.1.9",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"runc\"\n",
    ),
];

/// "This host is as it was before gpusetup" is true, or it is not said.
#[test]
fn whatever_happened_meanwhile_undo_says_what_is_true() {
    let config = Config {
        cases: 120,
        failure_persistence: None,
        ..Config::default()
    };
    let events = prop::collection::vec(prop::sample::select(&ALL[..]), 0..4);
    let seen = std::sync::Mutex::new([0u32; 4]);
    let result = TestRunner::new(config).run(
        &(0..BEFORE.len(), any::<bool>(), events),
        |(n, default, events)| {
            let (version, text) = BEFORE[n];
            let tree = containerd(version, text);
            installed(&tree, if default { &["--default-runtime"] } else { &[] });
            for event in &events {
                happens(&tree, *event);
            }
            let ended = is_true(&tree).map_err(TestCaseError::fail)?;
            seen.lock().unwrap()[usize::try_from(ended).unwrap()] += 1;
            Ok(())
        },
    );
    assert!(result.is_ok(), "{}", result.unwrap_err());
    let seen = *seen.lock().unwrap();
    // Most of this is ours to find; a refusal is the exception.
    assert!(seen[0] > seen[1] + seen[3], "{seen:?}");
}

/// Each alone is taken back, whatever the file was.
#[test]
fn each_thing_that_happens_meanwhile_is_undone() {
    for event in ALL {
        for (version, text) in BEFORE {
            let tree = containerd(version, text);
            installed(&tree, &[]);
            happens(&tree, event);
            assert_eq!(is_true(&tree), Ok(0), "{event:?} of {text}");
        }
    }
}
