//! Hosts for the doctor tests: healthy ones, each a directory tree with a driver, an engine and
//! gpusetup's setup, and ways to break them. Needs root, for device nodes.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by test programs that use parts of it"
)]

pub mod breaks;
#[path = "../fixture/mod.rs"]
pub mod fixture;

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use fake_driver::describe::{Description, Platform};
use fake_driver::install::{self, Places};
use serde_json::Value;

use fixture::Tree;

pub const VERSION: &str = "580.65.06";
pub const OTHER: &str = "570.133.20";
pub const LIB: &str = "usr/lib/x86_64-linux-gnu";
pub const SPEC: &str = "var/run/cdi/nvidia.yaml";
pub const DROP_IN: &str = "etc/systemd/system/docker.service.d/50-gpusetup.conf";
pub const POLICY: &str = "etc/nvidia-container-runtime/config.toml";
pub const STATUS: &str = "var/lib/dpkg/status";
pub const DAEMON_JSON: &str = "etc/docker/daemon.json";
pub const CONFIG_TOML: &str = "etc/containerd/config.toml";
pub const PCI: &str = "sys/bus/pci/devices";

/// A kind of healthy host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Debian with Docker, containerd 1.7 and Podman, set up by gpusetup.
    Debian,
    /// A node of Kubernetes with containerd 2.1.
    Node,
    /// A node with CRI-O.
    Crio,
    /// k3s.
    K3s,
    /// An agent of rke2.
    Rke2,
    /// k0s.
    K0s,
    /// `MicroK8s`.
    Microk8s,
    /// Docker in WSL.
    Wsl,
    /// Docker on a Jetson.
    Jetson,
    /// Docker set up by NVIDIA's toolkit, not by gpusetup.
    Toolkit,
    /// Docker with only CDI: `install --mode cdi`.
    CdiOnly,
    /// Docker and a user's rootless Docker, as root sees them.
    Rootless,
    /// No GPU, no engine.
    Bare,
}

impl Base {
    /// Hosts with a GPU that gpusetup has set up completely.
    pub const SET_UP: [Self; 9] = [
        Self::Debian,
        Self::Node,
        Self::Crio,
        Self::K3s,
        Self::Rke2,
        Self::K0s,
        Self::Microk8s,
        Self::Wsl,
        Self::Jetson,
    ];
    /// Hosts that are set up only in part, by another tool, or not at all.
    pub const OTHERS: [Self; 4] = [Self::CdiOnly, Self::Rootless, Self::Toolkit, Self::Bare];
}

pub const CRI2: &str = "plugins.\"io.containerd.grpc.v1.cri\".containerd";
pub const CRI3: &str = "plugins.\"io.containerd.cri.v1.runtime\".containerd";

/// A runtime's table in containerd's configuration.
pub fn runtime(cri: &str, name: &str, binary: &str) -> String {
    format!(
        "[{cri}.runtimes.{name}]\nruntime_type = \"io.containerd.runc.v2\"\n[{cri}.runtimes.{name}.options]\nBinaryName = \"{binary}\"\nSystemdCgroup = true\n"
    )
}

/// A spec of another tool that mounts one file.
pub fn their_spec(kind: &str, file: &str) -> String {
    format!(
        "cdiVersion: 0.5.0\nkind: {kind}\ndevices:\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\ncontainerEdits:\n  mounts:\n  - hostPath: {file}\n    containerPath: {file}\n    options: [ro, bind]\n"
    )
}

pub struct Host(Tree);

impl Deref for Host {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.0
    }
}

impl Host {
    /// A host of that kind; `None` if device nodes cannot be made.
    pub fn new(base: Base) -> Option<Self> {
        let host = Self::untouched(base)?;
        match base {
            Base::Bare => {}
            Base::Toolkit => host.toolkit(),
            Base::CdiOnly => host.must(&["install", "--yes", "--mode", "cdi"]),
            _ => host.must(&["install", "--yes"]),
        }
        Some(host)
    }

    /// Such a host before gpusetup has done anything.
    pub fn untouched(base: Base) -> Option<Self> {
        Self::untouched_in(Tree::empty(), base)
    }

    /// Such a host, made in an empty tree.
    pub fn untouched_in(tree: Tree, base: Base) -> Option<Self> {
        if !skips::has(&[skips::Need::Root, skips::Need::DeviceNodes]) {
            return None;
        }
        let host = Self(tree);
        host.system();
        if base == Base::Bare {
            return Some(host);
        }
        host.driver(base);
        host.engines(base);
        Some(host)
    }

    /// Writes what every running host has.
    fn system(&self) {
        self.write(
            "etc/os-release",
            "ID=debian\nVERSION_ID=13\nPRETTY_NAME=\"Debian 13\"\n",
        );
        self.write("proc/sys/kernel/osrelease", "6.12.9-amd64\n");
        self.write("proc/1/comm", "systemd\n");
        self.write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
        self.write("usr/lib/systemd/systemd", "");
        fs::create_dir_all(self.path("run/systemd/system")).unwrap();
        self.write(
            "lib/modules/6.12.9-amd64/modules.dep",
            "updates/dkms/nvidia.ko.xz:\n",
        );
        self.write(STATUS, "");
        // The programs of our package.
        for program in [
            "usr/bin/gpu-container-runtime",
            "usr/bin/gpu-container-hook",
            "usr/bin/runc",
        ] {
            self.write(program, "");
        }
        self.write(
            "usr/lib/gpu-container/bin/nvidia-container-runtime-hook",
            "",
        );
        let units = "usr/lib/systemd/system";
        self.write(
            &format!("{units}/gpusetup-cdi.service"),
            "[Service]\nExecStart=/usr/bin/gpusetup cdi refresh\n",
        );
        self.link(
            &format!("{units}/multi-user.target.wants/gpusetup-cdi.service"),
            "../gpusetup-cdi.service",
        );
    }

    fn driver(&self, base: Base) {
        let mut description = Description::of(VERSION, 2, 0);
        match base {
            Base::Wsl => description.platform = Platform::Wsl,
            Base::Jetson => description.platform = Platform::Tegra,
            _ => {}
        }
        let places = Places {
            root: self.root().to_owned(),
            driver_root: "/".into(),
            artifacts: None,
        };
        install::install(&places, &description, false).unwrap();
        match base {
            Base::Wsl => self.write(
                "proc/sys/kernel/osrelease",
                "6.6.87.2-microsoft-standard-WSL2\n",
            ),
            Base::Jetson => {}
            _ => {
                for gpu in self.gpus() {
                    self.link(
                        &format!("{PCI}/{gpu}/driver"),
                        "../../../../bus/pci/drivers/nvidia",
                    );
                }
                fs::create_dir_all(self.path("sys/module/nvidia_uvm")).unwrap();
                // The fake driver includes the program too.
                self.write("proc/77/comm", "nvidia-persiste\n");
            }
        }
    }

    fn engines(&self, base: Base) {
        let docker = || {
            self.write("usr/sbin/dockerd", "");
            self.package("docker.io", "28.5.2+dfsg1-1");
            self.write(
                "usr/lib/systemd/system/docker.service",
                "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock\n",
            );
            self.write(DAEMON_JSON, "{\n  \"log-driver\": \"journald\"\n}\n");
        };
        match base {
            Base::Debian => {
                docker();
                self.write("usr/bin/containerd", "");
                self.package("containerd", "1.7.24~ds1-6");
                let root = format!("version = 2\n{}", runtime(CRI2, "runc", "/usr/bin/runc"));
                self.write(CONFIG_TOML, &root);
                self.write("usr/bin/podman", "");
                self.package("podman", "5.4.2+ds1-2");
            }
            Base::Node => {
                self.write("usr/bin/containerd", "");
                self.write("usr/bin/kubelet", "");
                self.package("containerd.io", "2.1.4-1");
                self.write(
                    "var/lib/kubelet/config.yaml",
                    "kind: KubeletConfiguration\ncgroupDriver: systemd\n",
                );
                let imports = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
                let root = format!("{imports}{}", runtime(CRI3, "runc", "/usr/bin/runc"));
                self.write(CONFIG_TOML, &root);
            }
            Base::Crio => {
                self.write("usr/bin/crio", "");
                self.package("cri-o", "1.34.1-1.1");
                self.write("usr/libexec/crio/crun", "");
                self.write(
                    "etc/crio/crio.conf.d/10-crio.conf",
                    "[crio.runtime]\ndefault_runtime = \"crun\"\n[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/libexec/crio/crun\"\n",
                );
            }
            Base::K3s => {
                self.write("usr/local/bin/k3s", "");
                self.write(
                    "etc/systemd/system/k3s.service",
                    "[Service]\nExecStart=/usr/local/bin/k3s server\n",
                );
                let root = format!("version = 3\n{}", runtime(CRI3, "runc", "/usr/bin/runc"));
                self.write(
                    "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
                    &root,
                );
            }
            Base::Rke2 => self.copy(
                "tests/golden/containerd/rke2-agent/before",
                "usr/local/bin/rke2",
            ),
            Base::K0s => {
                self.copy(
                    "tests/golden/containerd/k0s-1.36/before",
                    "usr/local/bin/k0s",
                );
            }
            Base::Microk8s => self.copy(
                "tests/golden/containerd/microk8s/before",
                "snap/microk8s/current/bin/containerd",
            ),
            Base::Rootless => {
                docker();
                self.write("etc/passwd", "alice:x:1000:1000::/home/alice:/bin/sh\n");
                self.write(
                    "home/alice/.config/systemd/user/docker.service",
                    "[Service]\nExecStart=/usr/bin/dockerd-rootless.sh\n",
                );
            }
            _ => docker(),
        }
    }

    /// Copies a directory of this crate into the host, and adds an engine's program.
    fn copy(&self, from: &str, program: &str) {
        self.write(program, "");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(from.join(".")).arg(self.root());
        assert!(copy.status().unwrap().success());
    }

    /// Sets the host up as `nvidia-ctk` does.
    fn toolkit(&self) {
        for name in [
            "nvidia-container-runtime",
            "nvidia-container-runtime-hook",
            "nvidia-ctk",
            "nvidia-cdi-hook",
        ] {
            self.write(&format!("usr/bin/{name}"), "");
        }
        for name in [
            "nvidia-container-toolkit",
            "nvidia-container-toolkit-base",
            "libnvidia-container1",
            "libnvidia-container-tools",
        ] {
            self.package(name, "1.18.1-1");
        }
        self.write(
            DAEMON_JSON,
            "{\"runtimes\": {\"nvidia\": {\"args\": [], \"path\": \"nvidia-container-runtime\"}}}\n",
        );
        self.write(
            SPEC,
            &their_spec("nvidia.com/gpu", &format!("/{LIB}/libcuda.so.{VERSION}")),
        );
        self.write(
            POLICY,
            "[nvidia-container-cli]\nldconfig = \"@/sbin/ldconfig\"\n",
        );
        self.write("sbin/ldconfig", "");
        // These links are like those of `nvidia-ctk system create-dev-char-symlinks`.
        self.must(&["system", "create-dev-char-symlinks"]);
    }

    /// Replaces a text in a file, which must contain it.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no {from:?}: {text}");
        self.write(path, &text.replace(from, to));
    }

    pub fn append(&self, path: &str, text: &str) {
        let before = fs::read_to_string(self.path(path)).unwrap_or_default();
        self.write(path, &(before + text));
    }

    /// Removes a file or a directory, which must exist.
    pub fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    pub fn link(&self, path: &str, to: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(to, path).unwrap();
    }

    pub fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Adds a package to dpkg's status, or replaces the one with that name.
    pub fn package(&self, name: &str, version: &str) {
        self.package_as(name, version, "install ok installed");
    }

    pub fn package_as(&self, name: &str, version: &str, status: &str) {
        let before = fs::read_to_string(self.path(STATUS)).unwrap_or_default();
        let start = format!("Package: {name}\n");
        let rest = before
            .split_inclusive("\n\n")
            .filter(|p| !p.starts_with(&start));
        let text: String = rest.collect();
        self.write(
            STATUS,
            &format!("{text}{start}Status: {status}\nVersion: {version}\n\n"),
        );
    }

    /// PCI addresses of the GPUs.
    pub fn gpus(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path(PCI)).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.0.command(args);
        command.env_remove("COLUMNS").env("LC_ALL", "C.UTF-8");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn must(&self, args: &[&str]) {
        let out = self.run(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{args:?}: {stderr}");
    }

    /// The document of `doctor --json` and its exit code.
    pub fn doctor(&self, args: &[&str]) -> (Value, i32) {
        let out = self.run(&[&["doctor", "--json"], args].concat());
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        let value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|e| panic!("{e}: {} {stderr}", String::from_utf8_lossy(&out.stdout)));
        (value, out.status.code().unwrap())
    }

    /// The ids that doctor finds, each with its evidence.
    pub fn problems(&self) -> Vec<(String, String)> {
        let (document, _) = self.doctor(&[]);
        let problems = document["problems"].as_array().unwrap().iter();
        let text = |v: &Value, key: &str| v[key].as_str().unwrap().to_owned();
        problems
            .map(|p| (text(p, "id"), text(p, "evidence")))
            .collect()
    }
}
