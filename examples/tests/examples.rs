//! Every example, built and run on a host that a fake driver is laid out in: a tree of its own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fake_driver::describe::Description;
use fake_driver::install::{self, Places};
use gpu_inject::host::{GpuHost, HostOptions};
use serde_json::{Value, json};
use skips::Need;

const DRIVER: &str = "580.65.06";
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06";

/// A host with two GPUs, the second in two slices; `None` where nobody may make its nodes.
fn host() -> Option<tempfile::TempDir> {
    if !skips::has(&[Need::Root, Need::DeviceNodes]) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        root: dir.path().to_owned(),
        driver_root: "/".into(),
        artifacts: None,
    };
    let mut description = Description::of(DRIVER, 2, 2);
    description.gpus[0].mig.clear();
    description.small = true;
    install::install(&places, &description, false).unwrap();
    Some(dir)
}

fn look(host: &tempfile::TempDir) -> GpuHost {
    let look = HostOptions {
        root: host.path().to_owned(),
        ..HostOptions::default()
    };
    GpuHost::load(&look).unwrap()
}

/// Files of the tree by their paths on this machine, for what does more than name them.
fn with_host_paths(value: &mut Value, host: &Path) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().and_then(|path| path.strip_prefix('/')) {
                    Some(path) if key == "host_path" => *value = json!(host.join(path)),
                    _ => with_host_paths(value, host),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| with_host_paths(v, host)),
        _ => {}
    }
}

fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that ends without reading it has said why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn succeed(command: &mut Command, input: &str) -> String {
    let out = run(command, input);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {stderr}");
    String::from_utf8(out.stdout).unwrap()
}

/// It is refused, with a reason and without output.
fn refuse(command: &mut Command, input: &str, why: &str) {
    let out = run(command, input);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && stderr.contains(why),
        "{command:?}: {stderr}"
    );
    assert!(out.stdout.is_empty(), "{command:?}");
}

fn node_paths(config: &str) -> Vec<String> {
    let config: Value = serde_json::from_str(config).unwrap();
    let devices = config["linux"]["devices"].as_array().unwrap();
    let paths = devices
        .iter()
        .map(|d| d["path"].as_str().unwrap().to_owned());
    paths.collect()
}

fn has(list: &[String], path: &str) -> bool {
    list.iter().any(|p| p == path)
}

fn config() -> String {
    json!({"ociVersion": "1.0.2", "process": {"args": ["sh"], "mine": 1}, "root": {"path": "rootfs"}})
        .to_string()
}

#[test]
fn cdi_reader_lists_devices_and_applies_one() {
    let Some(host) = host() else { return };
    let mut spec = look(&host)
        .cdi_spec("/usr/bin/gpu-container-hook".as_ref())
        .unwrap();
    // An engine finds these nodes by their names; here they are in a tree.
    let devices = spec.devices.iter_mut().map(|d| &mut d.container_edits);
    for edits in devices.chain([&mut spec.container_edits]) {
        for node in &mut edits.device_nodes {
            let path = node.path.strip_prefix("/").unwrap();
            node.host_path = Some(host.path().join(path));
        }
    }
    let specs = host.path().join("var/run/cdi");
    fs::create_dir_all(&specs).unwrap();
    fs::write(specs.join("nvidia.yaml"), spec.to_yaml().unwrap()).unwrap();
    let reader = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-reader"));
        command.arg("--spec-dir").arg(&specs);
        command
    };

    let listed = succeed(reader().arg("list"), "");
    for name in [
        "nvidia.com/gpu=0 ",
        "nvidia.com/gpu=1:0 ",
        "nvidia.com/gpu=all ",
    ] {
        assert!(
            listed.lines().any(|l| l.starts_with(name)),
            "{name}: {listed}"
        );
    }

    let edited = succeed(reader().args(["apply", "nvidia.com/gpu=0"]), &config());
    let nodes = node_paths(&edited);
    assert!(
        has(&nodes, "/dev/nvidia0") && !has(&nodes, "/dev/nvidia1"),
        "{nodes:?}"
    );
    assert!(
        edited.contains(LIBRARY) && edited.contains("\"mine\":1"),
        "{edited}"
    );

    let unknown = "nvidia.com/gpu=9";
    refuse(reader().args(["apply", unknown]), &config(), unknown);
    refuse(&mut reader(), "", "Usage: ");
}

#[test]
fn inject_gives_a_container_made_by_hand_one_gpu() {
    if !skips::has(&[Need::Unshare]) {
        return;
    }
    let Some(host) = host() else { return };
    let mut inventory = serde_json::to_value(look(&host).inventory()).unwrap();
    with_host_paths(&mut inventory, host.path());
    let stored = host.path().join("inventory.json");
    fs::write(&stored, inventory.to_string()).unwrap();
    let config = host.path().join("config.toml");
    let text = format!("[gpu-container]\ninventory = {stored:?}\n");
    fs::write(&config, text).unwrap();
    let rootfs = tempfile::tempdir().unwrap();
    let inject = |devices: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inject"));
        command.arg("--config").arg(&config);
        command.arg(rootfs.path()).arg(devices);
        command
    };
    let shown = succeed(&mut inject("0"), "");
    for wanted in [
        "/dev/nvidia0",
        "/dev/nvidiactl",
        LIBRARY,
        "/etc/ld.so.cache is written",
    ] {
        assert!(shown.lines().any(|l| l == wanted), "{wanted}: {shown}");
    }
    assert!(!shown.contains("/dev/nvidia1"), "{shown}");
    // All of it was in the container's own mount namespace.
    let ours = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!ours.contains(rootfs.path().to_str().unwrap()));
    assert!(fs::read_dir(rootfs.path()).unwrap().next().is_none());

    refuse(&mut inject("9"), "", "9");
    fs::write(rootfs.path().join("file"), "").unwrap();
    refuse(&mut inject("0"), "", "is not empty");
}

fn top() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    top.canonicalize().unwrap()
}

/// The program in C, by its own Makefile against the library as its package lays it out.
fn build_gpus(dir: &Path) -> Command {
    let (bin, stage) = (dir.join("bin"), dir.join("stage"));
    let library = top().join("packaging/build-library.sh");
    succeed(Command::new(library).arg(&bin).env("PROFILE", "dev"), "");
    let staging = top().join("packaging/stage-library.sh");
    let libdir = "/usr/lib/test";
    succeed(
        Command::new(staging)
            .arg(&stage)
            .arg(&bin)
            .env("LIBDIR", libdir),
        "",
    );
    let libdir = stage.join("usr/lib/test");
    for file in ["Makefile", "gpus.c"] {
        fs::copy(top().join("examples/c").join(file), dir.join(file)).unwrap();
    }
    succeed(
        Command::new("make")
            .arg("-C")
            .arg(dir)
            .env("PKG_CONFIG_LIBDIR", libdir.join("pkgconfig"))
            .env("PKG_CONFIG_SYSROOT_DIR", &stage)
            .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
            .env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1"),
        "",
    );
    let mut command = Command::new(dir.join("gpus"));
    command.env("LD_LIBRARY_PATH", libdir);
    command
}

#[test]
fn the_c_program_lists_gpus_and_edits_a_config() {
    if !skips::has(&[Need::CCompiler]) {
        return;
    }
    let Some(host) = host() else { return };
    let dir = tempfile::tempdir().unwrap();
    let program = build_gpus(dir.path());
    let gpus = |args: &[&str]| {
        let mut command = Command::new(program.get_program());
        let envs = program.get_envs().filter_map(|(k, v)| Some((k, v?)));
        command.envs(envs);
        command.arg("--root").arg(host.path()).args(args);
        command
    };

    let listed = succeed(&mut gpus(&["list"]), "");
    assert!(
        listed.starts_with(&format!("driver {DRIVER}\n0 GPU-")),
        "{listed}"
    );
    assert!(
        listed.contains("/dev/nvidia1") && listed.contains("\n  1:1 "),
        "{listed}"
    );

    let edits = succeed(&mut gpus(&["edits", "0"]), "");
    assert!(
        edits.contains("/dev/nvidia0") && !edits.contains("/dev/nvidia1"),
        "{edits}"
    );
    let edited = succeed(&mut gpus(&["apply", "0"]), &config());
    assert!(has(&node_paths(&edited), "/dev/nvidia0"), "{edited}");
    assert!(edited.contains("\"mine\":1"), "{edited}");

    refuse(&mut gpus(&["edits", "9"]), "", "9");
    refuse(&mut gpus(&["apply", "0"]), "no JSON", "gpus: ");
    refuse(&mut gpus(&["edits"]), "", "Usage: ");
}
