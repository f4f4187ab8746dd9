//! For tests that start real containers: a bundle with a busybox image, a host with two GPUs beside
//! it, and the ways in which a container can get its GPUs.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod canary;
#[path = "../parts/mod.rs"]
pub(crate) mod parts;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use cdi::NodeStat;
use gpu_host::{
    Capabilities, ControlNode, DeviceNode, Driver, DriverFile, FileKind, Inventory, Link,
};
use gpu_inject::generate::{GenerateOptions, cdi_spec};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use skips::Need;

pub(crate) use parts::text;
use parts::{BUSYBOX, PROGRAM, gpu, node};

#[track_caller]
pub(crate) fn can_run() -> bool {
    parts::can_run(&[Need::Runc])
}

/// How a container gets its GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Our OCI runtime.
    Shim,
    /// Our CDI spec, applied as an engine would; it has one hook.
    Cdi,
    /// The hook of `docker run --gpus`.
    Prestart,
}

pub(crate) const WAYS: [Way; 3] = [Way::Shim, Way::Cdi, Way::Prestart];

/// The low-level runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    Runc,
    Crun,
    /// runc where only cgroup v2 is mounted.
    RuncUnified,
}

impl Below {
    fn name(self) -> &'static str {
        match self {
            Self::Runc | Self::RuncUnified => "runc",
            Self::Crun => "crun",
        }
    }

    /// Those that can run on this machine. crun needs cgroup v1 or v2 alone, and gets a mount namespace
    /// with v2 alone where the machine has both.
    pub(crate) fn available() -> &'static [Self] {
        /// crun's error message, if it cannot start a container here.
        static FAILURE: OnceLock<Option<String>> = OnceLock::new();
        if !skips::has(&[Need::Crun]) {
            return &[Self::Runc];
        }
        let failure = FAILURE.get_or_init(|| {
            let place = RuncBundle::new("crun-here");
            place.make_config("void", "echo started", |_| {});
            let output = text(&place.start(Self::Crun, &[]));
            (!output.contains("started")).then_some(output)
        });
        match failure {
            None => &[Self::Runc, Self::Crun],
            Some(said) => {
                skips::skip(Need::CrunStarts, said);
                &[Self::Runc]
            }
        }
    }
}

pub(crate) struct RuncBundle {
    dir: tempfile::TempDir,
    id: String,
}

impl RuncBundle {
    pub(crate) fn new(name: &str) -> Self {
        let place = Self {
            id: format!("gpu-container-{name}-{}", std::process::id()),
            dir: tempfile::tempdir().unwrap(),
        };
        let image = place.path("bundle/rootfs");
        for dir in ["bin", "etc", "tmp"] {
            fs::create_dir_all(image.join(dir)).unwrap();
        }
        fs::copy(BUSYBOX, image.join("bin/busybox")).unwrap();
        for dir in ["host", "canary"] {
            fs::create_dir(place.path(dir)).unwrap();
        }
        let library = place.path("host/libcuda.so.1.2.3");
        fs::write(&library, "a library").unwrap();
        fs::write(place.path("canary/ld.so.cache"), "sings").unwrap();
        let inventory = Inventory {
            schema: gpu_host::inventory::SCHEMA,
            driver: Some(Driver {
                version: "1.2.3".into(),
                cuda: None,
                files: vec![DriverFile {
                    kind: FileKind::Library,
                    path: "/usr/lib/libcuda.so.1.2.3".into(),
                    host_path: library,
                    capabilities: Capabilities::ALL,
                    soname: Some("libcuda.so.1".into()),
                    links: vec![Link {
                        path: "/usr/lib/libcuda.so".into(),
                        target: "libcuda.so.1".into(),
                    }],
                    need: gpu_host::Need::Required,
                }],
            }),
            gpus: vec![gpu(0), gpu(1)],
            control_nodes: vec![ControlNode {
                node: node("nvidiactl", 195, 255),
                capabilities: Capabilities::ALL,
            }],
            ..Inventory::default()
        };
        place.store(&inventory);
        place.write_policy("");
        place
    }

    pub(crate) fn store(&self, inventory: &Inventory) {
        let bytes = serde_json::to_vec(inventory).unwrap();
        fs::write(self.path("inventory.json"), bytes).unwrap();
    }

    pub(crate) fn inventory(&self) -> Inventory {
        serde_json::from_slice(&fs::read(self.path("inventory.json")).unwrap()).unwrap()
    }

    /// Writes config.toml for each low-level runtime, with `more` in its table `nvidia-container-cli`.
    pub(crate) fn write_policy(&self, more: &str) {
        for below in ["runc", "crun"] {
            // crun runs without cgroups here.
            let cli = if below == "crun" {
                "no-cgroups = true"
            } else {
                ""
            };
            let config = format!(
                "[nvidia-container-cli]\n{cli}\n{more}\n[nvidia-container-runtime]\nruntimes = [\"{below}\"]\n[gpu-container]\ninventory = \"{}\"\n",
                self.path("inventory.json").display()
            );
            let name = match below {
                "runc" => "config.toml",
                _ => "config-crun.toml",
            };
            fs::write(self.path(name), config).unwrap();
        }
    }

    fn policy(&self, below: Below) -> PathBuf {
        self.path(match below {
            Below::Runc | Below::RuncUnified => "config.toml",
            Below::Crun => "config-crun.toml",
        })
    }

    /// The container's ID.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The host's path of `path` in the image.
    pub(crate) fn image(&self, path: &str) -> PathBuf {
        self.path("bundle/rootfs").join(path)
    }

    pub(crate) fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("bundle/config.json")).unwrap()).unwrap()
    }

    /// Runs a script in a container with this request, through our runtime.
    pub(crate) fn run(&self, visible: &str, script: &str) -> Output {
        self.make_config(visible, script, |_| {});
        self.start_by(Way::Shim, Below::Runc)
    }

    /// The same through plain runc, with our hook where dockerd puts it for `--gpus`.
    pub(crate) fn run_with_hook(&self, script: &str, edit: impl FnOnce(&mut Value)) -> Output {
        self.make_config("1", script, edit);
        self.start_by(Way::Prestart, Below::Runc)
    }

    /// Starts the container that config.json describes, with its GPUs this way.
    pub(crate) fn start_by(&self, way: Way, below: Below) -> Output {
        match way {
            Way::Shim => {
                let is_foreign = std::env::var_os("GPU_CONTAINER_FOREIGN_HOOK").is_some();
                if is_foreign || self.path("injection").exists() {
                    self.trace_hook_of_shim();
                }
                return self.start(below, &[PROGRAM, "runtime"]);
            }
            Way::Cdi => self.apply_cdi(),
            Way::Prestart => self.add_prestart_hook(below),
        }
        self.start(below, &[])
    }

    /// Like `start_by`, started by the command `host`, which sets up namespaces that serve as the host.
    pub(crate) fn start_on(&self, host: &[&str], way: Way, below: Below) -> Output {
        let before: &[&str] = match way {
            Way::Shim => &[PROGRAM, "runtime"],
            Way::Cdi => {
                self.apply_cdi();
                &[]
            }
            Way::Prestart => {
                self.add_prestart_hook(below);
                &[]
            }
        };
        self.command(host, below, before).output().unwrap()
    }

    /// Starts the container by the low-level runtime, without our shim.
    pub(crate) fn start_plain(&self, below: Below) -> Output {
        self.start(below, &[])
    }

    pub(crate) fn add_prestart_hook(&self, below: Below) {
        let mut config = self.config();
        let hook = self.hook("nvidia-container-runtime-hook");
        config["hooks"] = json!({"prestart": [{
            "path": hook,
            "args": ["nvidia-container-runtime-hook", "-config", self.policy(below), "prestart"],
        }]});
        self.put_config(&config);
    }

    /// `nvidia-container-cli` as NVIDIA's own hook runs it, told of the container by its state.
    pub(crate) fn add_cli_hook(&self) {
        let mut config = self.config();
        let cli = self.hook("nvidia-container-cli");
        let policy = self.policy(Below::Runc);
        config["hooks"] = json!({"prestart": [{
            "path": cli,
            "args": [
                "nvidia-container-cli", format!("--config={}", policy.display()),
                "configure", "--oci-state", "--device=1", "--compute", "--utility",
            ],
        }]});
        self.put_config(&config);
    }

    /// A hook of the vendor's name, for libraries that are in the image, besides that of our CDI spec.
    pub(crate) fn add_vendor_hook(&self, args: &[&str]) {
        let mut config = self.config();
        let hook = self.hook("nvidia-cdi-hook");
        let all: Vec<&str> = ["nvidia-cdi-hook"].iter().chain(args).copied().collect();
        config["hooks"] = json!({"createContainer": [{"path": hook, "args": all}]});
        self.put_config(&config);
    }

    fn apply_cdi(&self) {
        let options = GenerateOptions {
            hook_path: self.hook("gpu-container-hook"),
            ..GenerateOptions::default()
        };
        let spec = cdi_spec(&self.inventory(), &options).unwrap();
        let mut config = self.config();
        let requested = config["process"]["env"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|v| v.as_str()?.strip_prefix("NVIDIA_VISIBLE_DEVICES="))
            .unwrap()
            .to_owned();
        let device = spec.devices.iter().find(|d| d.name == requested).unwrap();
        let edits = [&device.container_edits, &spec.container_edits];
        cdi::apply_to_value(&mut config, &edits, &|path| {
            let metadata = nix::sys::stat::stat(path)?;
            Ok(NodeStat {
                kind: 'c',
                major: nix::sys::stat::major(metadata.st_rdev).try_into().unwrap(),
                minor: nix::sys::stat::minor(metadata.st_rdev).try_into().unwrap(),
                mode: metadata.st_mode & 0o7777,
                uid: metadata.st_uid,
                gid: metadata.st_gid,
            })
        })
        .unwrap();
        self.put_config(&config);
    }

    /// Path of our program under the name `name`; that of another machine and its emulator if `GPU_CONTAINER_FOREIGN_HOOK`
    /// names both (`/path/qemu-aarch64-static /path/gpu-container`); run under strace if [`RuncBundle::lacks`] or
    /// [`RuncBundle::slow_down`] was called.
    pub(crate) fn hook(&self, name: &str) -> PathBuf {
        let hook = self.path(name);
        let injection = fs::read_to_string(self.path("injection")).unwrap_or_default();
        let _ = fs::remove_file(&hook);
        if let Ok(foreign) = std::env::var("GPU_CONTAINER_FOREIGN_HOOK") {
            // `-0` is the name that the program is started by.
            let (emulator, program) = foreign.split_once(' ').unwrap();
            let script = format!(
                "#!/bin/sh\nexec {emulator} -0 {} {program} \"$@\"\n",
                hook.display()
            );
            parts::program(&hook, &script);
        } else if injection.is_empty() {
            symlink(PROGRAM, &hook).unwrap();
        } else {
            let inner = self.path(&format!("inner/{name}"));
            fs::create_dir_all(inner.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&inner);
            symlink(PROGRAM, &inner).unwrap();
            let script = format!(
                "#!/bin/sh\nexec strace -f -o {log} {injection} {inner} \"$@\"\n",
                log = self.path("strace.log").display(),
                inner = inner.display()
            );
            parts::program(&hook, &script);
        }
        hook
    }

    /// The shim names itself as the hook, so a wrapper for runc, first on PATH, replaces that by [`RuncBundle::hook`].
    fn trace_hook_of_shim(&self) {
        let hook = self.hook("gpu-container-hook");
        let script = format!(
            "#!/bin/sh\nsed -i 's|\"path\":\"{PROGRAM}\"|\"path\":\"{}\"|' {}\nPATH=${{PATH#*:}} exec runc \"$@\"\n",
            hook.display(),
            self.path("bundle/config.json").display()
        );
        fs::create_dir_all(self.path("inner")).unwrap();
        parts::program(&self.path("inner/runc"), &script);
    }

    /// Makes the hooks run as on a kernel without these system calls, from now on, or as in a sandbox that refuses them
    /// with another error.
    pub(crate) fn lacks(&self, calls: &str, error: &str) {
        // -D: strace is a grandchild, so the hook's parent is still the runtime.
        self.inject(&format!(
            "-D -e trace={calls} -e inject={calls}:error={error}"
        ));
    }

    /// Makes the hooks wait `by` microseconds before each of these system calls, from now on.
    pub(crate) fn slow_down(&self, calls: &str, by: u32) {
        self.inject(&format!(
            "-e trace={calls} -e inject={calls}:delay_enter={by}"
        ));
    }

    /// Makes the `n`th call of `call` in a hook fail with `error`, from now on.
    pub(crate) fn fails(&self, call: &str, n: u32, error: &str) {
        self.inject(&format!(
            "-e trace={call} -e inject={call}:error={error}:when={n}"
        ));
    }

    /// Runs the hooks under strace with these options, from now on.
    pub(crate) fn inject(&self, options: &str) {
        fs::write(self.path("injection"), options).unwrap();
    }

    pub(crate) fn make_config(&self, visible: &str, script: &str, edit: impl FnOnce(&mut Value)) {
        let bundle = self.path("bundle");
        let _ = fs::remove_file(bundle.join("config.json"));
        let made = Command::new("runc")
            .arg("spec")
            .arg("--bundle")
            .arg(&bundle)
            .status();
        assert!(made.unwrap().success());
        let mut config = self.config();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/busybox", "sh", "-c", script]);
        // Without CAP_SYS_RESOURCE a lowered limit cannot be raised again.
        config["process"]["rlimits"] = json!([]);
        config["root"]["readonly"] = json!(false);
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.push(json!(format!("NVIDIA_VISIBLE_DEVICES={visible}")));
        for set in ["bounding", "effective", "permitted"] {
            let set = &mut config["process"]["capabilities"][set];
            set.as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
        edit(&mut config);
        self.put_config(&config);
    }

    pub(crate) fn edit_config(&self, edit: impl FnOnce(&mut Value)) {
        let mut config = self.config();
        edit(&mut config);
        self.put_config(&config);
    }

    fn put_config(&self, config: &Value) {
        let bytes = serde_json::to_vec(config).unwrap();
        fs::write(self.path("bundle/config.json"), bytes).unwrap();
    }

    /// Starts the container by the command `before`, or by the low-level runtime if that is empty.
    fn start(&self, below: Below, before: &[&str]) -> Output {
        self.command(&[], below, before).output().unwrap()
    }

    /// The command that starts the container, as an argument of the command `host`.
    pub(crate) fn command(&self, host: &[&str], below: Below, before: &[&str]) -> Command {
        let mut command = self.beginning(host, below, before);
        command
            .args(["run", "--bundle"])
            .arg(self.path("bundle"))
            .arg(&self.id);
        command
    }

    /// The same without what is to be done.
    pub(crate) fn beginning(&self, host: &[&str], below: Below, before: &[&str]) -> Command {
        let mut path = std::env::var("PATH").unwrap();
        if self.path("inner/runc").exists() {
            path = format!("{}:{path}", self.path("inner").display());
        }
        // By its whole path, as ours is: std starts a name that it has to look up by fork(2), and others by posix_spawn(3),
        // after which glibc's own signals are ignored.
        let runtime = path
            .split(':')
            .map(|dir| Path::new(dir).join(below.name()))
            .find(|program| program.exists())
            .unwrap();
        let mut words: Vec<&str> = host.to_vec();
        if below != Below::Runc {
            words.extend([
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec \"$@\"",
                "sh",
            ]);
        }
        words.extend(before);
        if before.is_empty() {
            words.push(runtime.to_str().unwrap());
        }
        if below == Below::Crun {
            words.push("--cgroup-manager=disabled");
        }
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env("PATH", path)
            .arg("--root")
            .arg(self.path("state"))
            .env("NVIDIA_CTK_CONFIG_FILE_PATH", self.policy(below));
        command
    }
}

/// Makes the host's device nodes, which injection into an existing container mounts.
pub(crate) fn make_nodes(place: &RuncBundle) {
    let mut inventory = place.inventory();
    let make = |node: &mut DeviceNode| {
        let path = place.path("host").join(node.path.file_name().unwrap());
        let mode = Mode::from_bits_truncate(0o666);
        let number = makedev(195, node.minor.into());
        mknod(&path, SFlag::S_IFCHR, mode, number).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        node.host_path = path;
    };
    for gpu in &mut inventory.gpus {
        make(&mut gpu.node);
    }
    for control in &mut inventory.control_nodes {
        make(&mut control.node);
    }
    place.store(&inventory);
}
