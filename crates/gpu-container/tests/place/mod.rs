//! For tests without a real runtime: a bundle, a host with two GPUs beside it, and a config.toml for both.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use gpu_host::{
    Capabilities, Capability, ControlNode, Driver, DriverFile, Feature, FeatureFiles, FileKind,
    Gpu, ImexChannel, Inventory, MigControl, MigDevice,
};
use serde_json::{Value, json};

pub(crate) use parts::text;
use parts::{PROGRAM, node};

#[path = "../parts/mod.rs"]
pub(crate) mod parts;

pub(crate) struct StubbedBundle {
    pub(crate) dir: tempfile::TempDir,
}

fn gpu(index: u32, slices: u32) -> Gpu {
    let slice = |n| MigDevice {
        index: n,
        uuid: Some(format!("MIG-{index}{n}")),
        gpu_instance: n + 1,
        compute_instance: 0,
        profile: None,
        nodes: vec![node(&format!("nvidia-caps/nvidia-cap{n}0"), 240, n + 10)],
        access_files: Vec::new(),
    };
    Gpu {
        brand: Some("Tesla".into()),
        compute_capability: Some((9, 0)),
        pci: format!("0000:3{index}:00.0").parse().unwrap(),
        mig_enabled: slices > 0,
        mig: (0..slices).map(slice).collect(),
        ..parts::gpu(index)
    }
}

impl StubbedBundle {
    /// GPU 0 whole, GPU 1 in two slices; driver 550.54.
    pub(crate) fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in ["bundle/rootfs/etc", "bundle/rootfs/tmp", "host", "specs"] {
            fs::create_dir_all(place.path(dir)).unwrap();
        }
        let library = place.path("host/libcuda.so.550.54");
        fs::write(&library, "the driver's").unwrap();
        let inventory = Inventory {
            schema: gpu_host::inventory::SCHEMA,
            driver: Some(Driver {
                version: "550.54".into(),
                cuda: Some((12, 4)),
                files: vec![DriverFile {
                    kind: FileKind::Library,
                    path: "/usr/lib/libcuda.so.550.54".into(),
                    host_path: library,
                    capabilities: Capabilities::of(&[Capability::Compute]),
                    soname: Some("libcuda.so.1".into()),
                    links: Vec::new(),
                    need: gpu_host::Need::Required,
                }],
            }),
            gpus: vec![gpu(0, 0), gpu(1, 2)],
            control_nodes: vec![ControlNode {
                node: node("nvidiactl", 195, 255),
                capabilities: Capabilities::ALL,
            }],
            mig_control: MigControl {
                config: Some(node("nvidia-caps/nvidia-cap1", 240, 1)),
                monitor: Some(node("nvidia-caps/nvidia-cap2", 240, 2)),
            },
            features: vec![FeatureFiles {
                feature: Feature::Gds,
                nodes: vec![node("nvidia-fs0", 250, 0)],
                files: Vec::new(),
            }],
            imex_channels: vec![ImexChannel {
                id: 3,
                node: node("nvidia-caps-imex-channels/channel3", 241, 3),
            }],
            ..Inventory::default()
        };
        let inventory = serde_json::to_vec(&inventory).unwrap();
        fs::write(place.path("inventory.json"), inventory).unwrap();
        // A low-level runtime that prints its arguments and does nothing.
        place.program("fakerunc", "#!/bin/sh\necho low-level \"$@\"\n");
        place.policy("");
        place
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn program(&self, name: &str, text: &str) {
        parts::program(&self.path(name), text);
    }

    /// Writes config.toml with these keys at its top.
    pub(crate) fn policy(&self, keys: &str) {
        let runtime = self.path("fakerunc");
        self.policy_of(keys, &format!("runtimes = [\"{}\"]", runtime.display()));
    }

    /// Like `policy`, also with other keys in the runtime's table.
    pub(crate) fn policy_of(&self, keys: &str, runtime_keys: &str) {
        let text = format!(
            "{keys}\n[nvidia-container-runtime]\nmodes.cdi.spec-dirs = [\"{}\"]\n{runtime_keys}\n\
             [gpu-container]\ninventory = \"{}\"\n",
            self.path("specs").display(),
            self.path("inventory.json").display()
        );
        fs::write(self.path("config.toml"), text).unwrap();
    }

    /// Writes a policy that also lets containers name CDI devices of that kind.
    pub(crate) fn allow(&self, kind: &str) {
        let mut text = fs::read_to_string(self.path("config.toml")).unwrap();
        text += &format!("allowed-cdi-kinds = [\"{kind}\"]\n");
        fs::write(self.path("config.toml"), text).unwrap();
    }

    pub(crate) fn write_config(&self, config: &Value) {
        let text = serde_json::to_vec(config).unwrap();
        fs::write(self.path("bundle/config.json"), text).unwrap();
    }

    pub(crate) fn config(&self) -> Value {
        let text = fs::read(self.path("bundle/config.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Our program under that name.
    pub(crate) fn named(&self, name: &str) -> Command {
        let link = self.path(name);
        if !link.exists() {
            symlink(PROGRAM, &link).unwrap();
        }
        let mut command = Command::new(link);
        command.env("NVIDIA_CTK_CONFIG_FILE_PATH", self.path("config.toml"));
        command
    }

    /// Runs `create` under that program name, for a container with this environment.
    pub(crate) fn create_as(
        &self,
        name: &str,
        env: &[&str],
        edit: impl FnOnce(&mut Value),
    ) -> Output {
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["sh"], "env": env, "cwd": "/"},
            "root": {"path": "rootfs"},
        });
        edit(&mut config);
        self.write_config(&config);
        self.named(name)
            .arg("--log")
            .arg(self.path("log.json"))
            .args(["create", "--bundle"])
            .arg(self.path("bundle"))
            .arg("id")
            .output()
            .unwrap()
    }

    pub(crate) fn create(&self, env: &[&str]) -> Output {
        self.create_as("nvidia-container-runtime", env, |_| {})
    }

    /// Paths of the nodes in config.json, sorted.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let config = self.config();
        let devices = config.pointer("/linux/devices").and_then(Value::as_array);
        let mut paths: Vec<String> = devices
            .into_iter()
            .flatten()
            .map(|d| d["path"].as_str().unwrap().to_owned())
            .collect();
        paths.sort();
        paths
    }

    /// Arguments of our hook in config.json.
    pub(crate) fn hook(&self) -> Vec<String> {
        let config = self.config();
        let args = config.pointer("/hooks/createContainer/0/args");
        let args = args.and_then(Value::as_array).into_iter().flatten();
        args.map(|a| a.as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log.json")).unwrap_or_default()
    }

    /// Runs the vendor's hook of that name on the bundle's root file system.
    pub(crate) fn vendor_hook(&self, args: &[&str]) -> Output {
        self.write_config(&json!({"root": {"path": "rootfs"}}));
        let state = self.path("state.json");
        let text = json!({"bundle": self.path("bundle"), "pid": 0});
        fs::write(&state, serde_json::to_vec(&text).unwrap()).unwrap();
        self.named("nvidia-cdi-hook")
            .args(args)
            .arg("--container-spec")
            .arg(state)
            .output()
            .unwrap()
    }

    pub(crate) fn image(&self, path: &str) -> PathBuf {
        self.path("bundle/rootfs").join(path)
    }

    /// The path at which the image's loader cache has this SONAME.
    pub(crate) fn loads(&self, soname: &str) -> Option<PathBuf> {
        let cache = fs::read(self.image("etc/ld.so.cache")).ok()?;
        let entries = gpu_host::ldcache::parse(&cache).ok()?;
        let entry = entries.into_iter().find(|e| e.soname == soname)?;
        Some(entry.path)
    }
}

#[track_caller]
pub(crate) fn can_run() -> bool {
    parts::can_run(&[skips::Need::Runc])
}
