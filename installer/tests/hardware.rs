//! Tests `gpusetup cdi generate`, `cdi transform` and `system` on trees with a fake driver. Needs
//! root, for device nodes.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use cdi::Spec;
use fake_driver::describe::{Description, Other, Platform};
use fake_driver::install::{self, Places};
use fixture::Tree;
use serde_json::Value;
use skips::Need;

fn tree(description: &Description, driver_root: &str) -> Option<Tree> {
    if !skips::has(&[Need::Root, Need::DeviceNodes]) {
        return None;
    }
    let tree = Tree::new("26.1.5", "1.7.24");
    let places = Places {
        root: tree.path(""),
        driver_root: driver_root.into(),
        artifacts: None,
    };
    fs::create_dir_all(tree.path(driver_root.trim_start_matches('/'))).unwrap();
    install::install(&places, description, false).unwrap();
    Some(tree)
}

fn bare() -> Description {
    Description {
        no_nodes: true,
        ..Description::of("580.65.06", 1, 1)
    }
}

fn generated(tree: &Tree, args: &[&str]) -> Result<Spec, String> {
    let out = tree.run(&[&["cdi", "generate"], args].concat());
    if out.status.success() {
        Ok(Spec::parse(&out.stdout).unwrap())
    } else {
        Err(String::from_utf8(out.stderr).unwrap())
    }
}

fn names(spec: &Spec) -> Vec<&str> {
    spec.devices.iter().map(|d| d.name.as_str()).collect()
}

#[test]
fn each_mode_makes_a_spec_of_its_kind() {
    let mut description = Description::of("580.65.06", 1, 0);
    description.features = ["gds", "mofed", "gdrcopy", "nvswitch"]
        .map(Into::into)
        .into();
    description.imex_channels = vec![0];
    description.others = [("amdgpu", "0000:03:00.0", 8), ("xe", "0000:00:02.0", 9)]
        .map(|(driver, pci, card)| Other {
            driver: driver.into(),
            pci: pci.into(),
            card,
        })
        .into();
    let Some(tree) = tree(&description, "/") else {
        return;
    };
    for (mode, kind) in [
        ("auto", "nvidia.com/gpu"),
        ("nvml", "nvidia.com/gpu"),
        ("procfs", "nvidia.com/gpu"),
        ("management", "management.nvidia.com/gpu"),
        ("gds", "nvidia.com/gds"),
        ("mofed", "nvidia.com/mofed"),
        ("nvswitch", "nvidia.com/nvswitch"),
        ("gdrcopy", "nvidia.com/gdrcopy"),
        ("imex", "nvidia.com/imex-channel"),
        ("amd", "amd.com/gpu"),
        ("intel", "intel.com/gpu"),
    ] {
        let spec = generated(&tree, &["--mode", mode]).unwrap();
        assert_eq!(spec.kind, kind, "{mode}");
    }
    let e = generated(&tree, &["--mode", "wsl"]).unwrap_err();
    assert!(e.contains("no NVIDIA driver"), "{e}");
}

#[test]
fn wsl_and_tegra_are_detected_automatically() {
    for (platform, names_there) in [
        (Platform::Wsl, vec!["all"]),
        (Platform::Tegra, vec!["0", "all"]),
    ] {
        let mut description = Description::of("551.76", 0, 0);
        description.platform = platform;
        let Some(tree) = tree(&description, "/") else {
            return;
        };
        let spec = generated(&tree, &[]).unwrap();
        assert_eq!(names(&spec), names_there);
    }
}

#[test]
fn csv_files_can_be_named() {
    let mut description = Description::of("540.4.0", 0, 0);
    description.platform = Platform::Tegra;
    let Some(tree) = tree(&description, "/") else {
        return;
    };
    let dir = "/etc/nvidia-container-runtime/host-files-for-container.d";
    let file = |name: &str| format!("{dir}/{name}.csv");
    let (devices, extra) = (file("devices"), file("extra"));
    let spec = generated(&tree, &["--csv-file", &devices, "--csv.file", &extra]).unwrap();
    let mounts = &spec.container_edits.mounts;
    assert!(
        mounts
            .iter()
            .any(|m| m.container_path.ends_with("libextra.so.1"))
    );
    assert!(
        !mounts
            .iter()
            .any(|m| m.container_path.ends_with("libcuda.so.1.1"))
    );
}

/// The library that fails states facts only; the program knows which of its flags helps.
#[test]
fn an_error_of_the_library_names_the_flag_that_helps() {
    let said = |tree: &Tree, args: &[&str]| generated(tree, args).unwrap_err();
    let mut tegra = Description::of("540.4.0", 0, 0);
    tegra.platform = Platform::Tegra;
    let Some(tegra) = tree(&tegra, "/") else {
        return;
    };
    let no_csv = said(&tegra, &["--csv-file", "/none.csv"]);
    assert!(no_csv.contains("/none.csv"), "{no_csv}");
    assert!(
        no_csv.contains("fix: give an existing file to --csv-file"),
        "{no_csv}"
    );
    let Some(tree) = tree(&Description::of("580.65.06", 1, 1), "/") else {
        return;
    };
    for (args, fix) in [
        (
            &["--driver-root", "/nowhere"][..],
            "usr/lib with --driver-root",
        ),
        (
            &["--device-name-strategy", "uuid"],
            "fix: add --device-name-strategy index",
        ),
        (
            &["--mode", "gds"],
            "fix: `gpusetup cdi generate --help` tells which nodes each mode needs",
        ),
    ] {
        let said = said(&tree, args);
        assert!(said.contains(fix), "{said}");
    }
}

#[test]
fn flags_set_names_devices_vendor_and_class() {
    let Some(tree) = tree(&Description::of("580.65.06", 2, 0), "/") else {
        return;
    };
    let spec = generated(
        &tree,
        &[
            "--device-name-strategy=type-index,index",
            "--device-id=1",
            "--no-all-device",
            "--vendor=example.com",
            "--class=card",
        ],
    )
    .unwrap();
    assert_eq!(
        (spec.kind.as_str(), names(&spec)),
        ("example.com/card", vec!["gpu1", "1"])
    );
    let out = tree.run(&[
        "cdi",
        "generate",
        "--device-id",
        "none",
        "--device-name-strategy",
        "index",
    ]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("warning"));
    assert_eq!(names(&Spec::parse(&out.stdout).unwrap()), ["0", "1"]);
}

#[test]
fn the_output_file_has_a_name_that_engines_read() {
    let Some(tree) = tree(&Description::of("580.65.06", 1, 0), "/") else {
        return;
    };
    let written = |output: &str, format: &[&str], name: &str| {
        let output = tree.path(output);
        let args = [&["--output", output.to_str().unwrap()], format].concat();
        assert_eq!(
            tree.code(&[&["cdi", "generate"], args.as_slice()].concat()),
            0
        );
        let text = tree.read(name);
        Spec::parse(text.as_bytes()).unwrap();
        text.starts_with('{')
    };
    assert!(!written("a", &[], "a.yaml"));
    assert!(written("b", &["--format", "json"], "b.json"));
    assert!(written("c.json", &[], "c.json"));
    assert!(!written("d.yml", &[], "d.yml.yaml"));
    assert!(written("e.yaml", &["--format", "json"], "e.yaml"));
}

#[test]
fn a_driver_root_is_removed_from_container_paths() {
    let Some(tree) = tree(&Description::of("580.65.06", 1, 0), "/run/nvidia/driver") else {
        return;
    };
    fs::rename(tree.path("dev"), tree.path("run/nvidia/driver/dev")).unwrap();
    let spec = generated(&tree, &["--driver-root", "/run/nvidia/driver"]).unwrap();
    let node = &spec.devices[0].container_edits.device_nodes[0];
    assert_eq!(node.path.to_str(), Some("/dev/nvidia0"));
    assert_eq!(
        node.host_path.as_ref().unwrap().to_str(),
        Some("/run/nvidia/driver/dev/nvidia0")
    );
    let out = tree.run(&["cdi", "generate"]);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        stderr.contains("--driver-root /run/nvidia/driver"),
        "{stderr}"
    );
}

#[test]
fn every_command_uses_the_policys_driver_root() {
    let Some(tree) = tree(&Description::of("580.65.06", 1, 0), "/run/nvidia/driver") else {
        return;
    };
    let stderr = |args: &[&str]| String::from_utf8(tree.run(args).stderr).unwrap();
    let without = stderr(&["plan"]);
    let set = "nvidia-container-cli.root=/run/nvidia/driver";
    assert!(without.contains(set), "{without}");
    assert!(tree.run(&["config", "set", set]).status.success());
    let spec = generated(&tree, &[]).unwrap();
    let mounts = &spec.container_edits.mounts;
    let is_cuda = |m: &cdi::Mount| m.host_path.starts_with("/run/nvidia/driver/usr/lib");
    assert!(mounts.iter().any(is_cuda), "{mounts:?}");
    assert!(!stderr(&["plan"]).contains("no libraries"));
    // A flag overrides the policy.
    assert!(stderr(&["--driver-root", "/", "plan"]).contains(set));
}

#[test]
fn a_version_mismatch_is_a_warning_and_a_problem() {
    let mut description = Description::of("580.65.06", 1, 0);
    description.loaded_version = Some("570.10.01".into());
    let Some(tree) = tree(&description, "/") else {
        return;
    };
    let output = |args: &[&str]| {
        let out = tree.run(args);
        format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        )
    };
    for args in [["cdi", "generate"], ["cdi", "check"]] {
        let output = output(&args);
        assert!(
            output.contains("570.10.01") && output.contains("580.65.06"),
            "{output}"
        );
    }
}

#[test]
fn transform_moves_the_driver_root_and_back() {
    let Some(tree) = tree(&Description::of("580.65.06", 1, 0), "/run/nvidia/driver") else {
        return;
    };
    let spec = tree.path("spec.yaml");
    let spec = spec.to_str().unwrap();
    let root = [
        "--driver-root",
        "/run/nvidia/driver",
        "cdi",
        "generate",
        "--output",
        spec,
    ];
    assert_eq!(tree.code(&root), 0);
    let before = tree.read("spec.yaml");
    let transform = |from: &str, to: &str| {
        let args = ["cdi", "transform", "root", "--from", from, "--to", to];
        assert_eq!(
            tree.code(&[&args[..], &["--input", spec, "--output", spec]].concat()),
            0
        );
        tree.read("spec.yaml")
    };
    let moved = transform("/run/nvidia/driver", "/host/driver");
    assert!(
        !moved.contains("/run/nvidia/driver") && moved.contains("/host/driver/usr/bin/nvidia-smi")
    );
    assert_eq!(transform("/host/driver", "/run/nvidia/driver"), before);
    assert_eq!(
        tree.code(&["cdi", "transform", "root", "--from", "a", "--to", "/"]),
        4
    );
}

#[test]
fn device_nodes_are_created_once_and_as_the_driver_would() {
    let Some(tree) = tree(&bare(), "/") else {
        return;
    };
    let made = |args: &[&str]| -> Value {
        let all = [&["system", "create-device-nodes", "--json"], args].concat();
        serde_json::from_slice(&tree.run(&all).stdout).unwrap()
    };
    let dry = made(&["--control-devices", "--dry-run"]);
    assert_eq!(
        (&dry["changed"], dry["nodes"].as_array().unwrap().len()),
        (&Value::Bool(false), 4)
    );
    assert!(!tree.path("dev/nvidiactl").exists());
    assert_eq!(
        made(&["--control-devices"])["nodes"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert!(!tree.path("dev/nvidia0").exists());
    // The nodes of the GPU, of MIG's config and monitor, and the two of the slice.
    assert_eq!(made(&[])["nodes"].as_array().unwrap().len(), 5);
    for (node, major, minor, mode) in [
        ("nvidiactl", 195, 255, 0o666),
        ("nvidia0", 195, 0, 0o666),
        ("nvidia-uvm-tools", 389, 1, 0o666),
        ("nvidia-caps/nvidia-cap1", 388, 1, 0o400),
    ] {
        let metadata = tree.path(&format!("dev/{node}")).metadata().unwrap();
        assert!(metadata.file_type().is_char_device());
        let number = nix::sys::stat::makedev(major, minor);
        assert_eq!(
            (metadata.rdev(), metadata.mode() & 0o777),
            (number, mode),
            "{node}"
        );
    }
    let again = made(&[]);
    assert_eq!(again["changed"], Value::Bool(false));
    assert!(again["nodes"].as_array().unwrap().is_empty());
}

#[test]
fn a_module_that_is_not_loaded_is_named() {
    let Some(tree) = tree(&bare(), "/") else {
        return;
    };
    fs::remove_file(tree.path("proc/devices")).unwrap();
    tree.write("proc/devices", "Character devices:\n195 nvidia\n");
    let out = tree.run(&["system", "create-device-nodes", "--control-devices"]);
    let stdout = String::from_utf8(out.stdout).unwrap();
    assert!(
        stdout.contains("modprobe nvidia-uvm") && stdout.contains("/dev/nvidiactl c 195:255"),
        "{stdout}"
    );
    let nothing = Tree::new("26.1.5", "1.7.24");
    assert_eq!(nothing.code(&["system", "create-device-nodes"]), 1);
}

#[test]
fn dev_char_links_are_created_for_every_existing_node() {
    let mut description = Description::of("580.65.06", 1, 1);
    description.imex_channels = vec![5];
    let Some(tree) = tree(&description, "/") else {
        return;
    };
    let run = |args: &[&str]| -> Value {
        let all = [&["system", "create-dev-char-symlinks", "--json"], args].concat();
        serde_json::from_slice(&tree.run(&all).stdout).unwrap()
    };
    let dry = run(&["--dry-run"]);
    assert!(!tree.path("dev/char").exists());
    let done = run(&[]);
    assert_eq!(dry["links"], done["links"]);
    for (link, target) in [
        ("195:0", "../nvidia0"),
        ("195:255", "../nvidiactl"),
        ("388:1", "../nvidia-caps/nvidia-cap1"),
        ("391:5", "../nvidia-caps-imex-channels/channel5"),
    ] {
        let linked_to = fs::read_link(tree.path(&format!("dev/char/{link}"))).unwrap();
        assert_eq!(linked_to.to_str(), Some(target));
    }
    assert_eq!(run(&[])["changed"], Value::Bool(false));
}

#[test]
fn later_nodes_do_not_make_a_spec_stale() {
    let Some(tree) = tree(&bare(), "/") else {
        return;
    };
    let stale = || {
        let out = tree.run(&["cdi", "check"]);
        String::from_utf8(out.stdout).unwrap().contains("is stale")
    };
    assert_eq!(tree.code(&["cdi", "refresh"]), 0);
    assert!(tree.read("var/run/cdi/nvidia.yaml").contains("major: 195"));
    assert!(!stale());
    assert_eq!(tree.code(&["system", "create-device-nodes"]), 0);
    // Each node still lacks the link by which systemd knows it.
    assert_eq!(tree.code(&["system", "create-dev-char-symlinks"]), 0);
    assert!(!stale());
    // If a node goes instead, the spec is stale: it names a path that is gone.
    fs::remove_dir_all(tree.path("run/gpusetup")).unwrap();
    assert_eq!(tree.code(&["cdi", "refresh"]), 0);
    assert!(!tree.read("var/run/cdi/nvidia.yaml").contains("major: 195"));
    fs::remove_file(tree.path("dev/nvidia0")).unwrap();
    assert!(stale());
}

#[test]
fn detect_names_libraries_that_are_not_of_the_loaded_module() {
    let description = Description {
        loaded_version: Some("570.10.01".into()),
        ..Description::of("580.65.06", 1, 0)
    };
    let Some(tree) = tree(&description, "/") else {
        return;
    };
    let out = tree.run(&["detect"]);
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        stdout.contains("570.10.01") && stdout.contains("580.65.06") && stdout.contains("reboot"),
        "{stdout}"
    );
    let out = tree.run(&["detect", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(document["driver_mismatch"].is_string(), "{document}");
}
