//! A host with two GPUs below a directory, an image beside it, and containers made by hand.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use gpu_host::{
    Capabilities, Capability, ControlNode, DeviceNode, Driver, DriverFile, FileKind, Gpu,
    Inventory, Link,
};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::parts::{self, BUSYBOX, PROGRAM, text};

pub(crate) const NOBODY: u32 = 65_534;

/// The host and the image.
pub(crate) struct TestHost {
    pub(crate) dir: tempfile::TempDir,
}

impl TestHost {
    pub(crate) fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for dir in [
            "host",
            "rootfs/bin",
            "rootfs/etc",
            "rootfs/dev",
            "rootfs/tmp",
        ] {
            fs::create_dir_all(place.path(dir)).unwrap();
        }
        fs::copy(BUSYBOX, place.path("rootfs/bin/busybox")).unwrap();
        symlink(PROGRAM, place.cli()).unwrap();
        fs::write(place.path("host/libcuda.so.1.2.3"), "a library").unwrap();
        fs::write(place.path("host/nvidia-smi"), "a program").unwrap();
        let inventory = Inventory {
            schema: gpu_host::inventory::SCHEMA,
            driver: Some(Driver {
                version: "1.2.3".into(),
                cuda: Some((12, 4)),
                files: vec![place.library(), place.program()],
            }),
            gpus: vec![place.gpu(0), place.gpu(1)],
            control_nodes: vec![ControlNode {
                node: place.node("nvidiactl", 255),
                capabilities: Capabilities::ALL,
            }],
            ..Inventory::default()
        };
        let stored = place.path("inventory.json");
        fs::write(&stored, serde_json::to_vec(&inventory).unwrap()).unwrap();
        let config = format!(
            "[nvidia-container-cli]\nno-cgroups = true\n[gpu-container]\ninventory = \"{}\"\n",
            stored.display()
        );
        fs::write(place.path("config.toml"), config).unwrap();
        place
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn cli(&self) -> PathBuf {
        self.path("nvidia-container-cli")
    }

    pub(crate) fn node(&self, name: &str, minor: u32) -> DeviceNode {
        let host_path = self.path("host").join(name);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&host_path, SFlag::S_IFCHR, mode, makedev(195, minor.into())).unwrap();
        fs::set_permissions(&host_path, fs::Permissions::from_mode(0o666)).unwrap();
        DeviceNode {
            host_path,
            ..parts::node(name, 195, minor)
        }
    }

    fn gpu(&self, index: u32) -> Gpu {
        Gpu {
            uuid: Some(format!("GPU-{index}aaa")),
            name: Some("NVIDIA Test".into()),
            node: self.node(&format!("nvidia{index}"), index),
            ..parts::gpu(index)
        }
    }

    pub(crate) fn library(&self) -> DriverFile {
        DriverFile {
            kind: FileKind::Library,
            path: "/usr/lib/libcuda.so.1.2.3".into(),
            host_path: self.path("host/libcuda.so.1.2.3"),
            capabilities: Capabilities::of(&[Capability::Compute]),
            soname: Some("libcuda.so.1".into()),
            links: vec![Link {
                path: "/usr/lib/libcuda.so".into(),
                target: "libcuda.so.1".into(),
            }],
            need: gpu_host::Need::Required,
        }
    }

    pub(crate) fn program(&self) -> DriverFile {
        DriverFile {
            kind: FileKind::Binary,
            path: "/usr/bin/nvidia-smi".into(),
            host_path: self.path("host/nvidia-smi"),
            capabilities: Capabilities::of(&[Capability::Utility]),
            soname: None,
            links: Vec::new(),
            need: gpu_host::Need::Required,
        }
    }

    /// The arguments of a caller's command line, with the test's config; ROOTFS and PID are filled in.
    pub(crate) fn args(&self, line: &str, pid: u32) -> Vec<String> {
        let rootfs = self.path("rootfs");
        let config = format!("--config={}", self.path("config.toml").display());
        let words = line.split_whitespace().map(|word| {
            word.replace("ROOTFS", rootfs.to_str().unwrap())
                .replace("PID", &pid.to_string())
        });
        std::iter::once(config).chain(words).collect()
    }

    pub(crate) fn run(&self, line: &str, pid: u32) -> Output {
        Command::new(self.cli())
            .args(self.args(line, pid))
            .output()
            .unwrap()
    }

    /// Runs the command line as an unprivileged user in new namespaces, then a script in the image, as
    /// LXC, Enroot and Apptainer do.
    pub(crate) fn run_unprivileged(&self, line: &str, script: &str) -> Output {
        for owned in [
            "rootfs",
            "rootfs/etc",
            "rootfs/dev",
            "rootfs/bin",
            "rootfs/tmp",
        ] {
            chown(self.path(owned), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let line: String = self
            .args(line, 0)
            .iter()
            .map(|a| format!(" '{a}'"))
            .collect();
        let all = format!(
            "{}{line} && exec chroot {} /bin/busybox sh -c \"$1\"",
            self.cli().display(),
            self.path("rootfs").display(),
        );
        let mut command = Command::new("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            &all,
            "sh",
            script,
        ]);
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    }

    /// Asserts that nothing is mounted in the test's own mount namespace and that the host's files did not change.
    pub(crate) fn assert_host_unchanged(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let rootfs = self.path("rootfs");
        assert!(!mounts.contains(rootfs.to_str().unwrap()), "{mounts}");
        let mut names: Vec<_> = fs::read_dir(self.path("host"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "libcuda.so.1.2.3",
            "nvidia-smi",
            "nvidia0",
            "nvidia1",
            "nvidiactl",
        ];
        assert_eq!(names, expected);
        for (name, content) in [
            ("libcuda.so.1.2.3", "a library"),
            ("nvidia-smi", "a program"),
        ] {
            let path = self.path("host").join(name);
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
    }
}

/// A waiting process in its own namespaces, killed when the value is dropped.
pub(crate) struct Container {
    child: Child,
    /// The process ends when this is closed.
    _stdin: ChildStdin,
}

impl Container {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let mut child = Command::new("unshare")
            .args(flags)
            .args(["--mount", "sh", "-c", "echo ready; read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self {
            _stdin: child.stdin.take().unwrap(),
            child,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a script in the image, in the container's mount namespace.
    pub(crate) fn look(&self, place: &TestHost, script: &str) -> String {
        let out = Command::new("nsenter")
            .args(["--mount", "--target", &self.pid().to_string(), "chroot"])
            .arg(place.path("rootfs"))
            .args(["/bin/busybox", "sh", "-c", script])
            .output()
            .unwrap();
        text(&out)
    }

    /// The container's mounts below the image: path and options of each.
    pub(crate) fn mounts(&self, place: &TestHost) -> Vec<(String, String)> {
        let file = format!("/proc/{}/mountinfo", self.pid());
        let rootfs = place.path("rootfs").to_str().unwrap().to_owned();
        let lines = fs::read_to_string(file).unwrap();
        let mut mounts: Vec<(String, String)> = lines
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                let path = fields[4].strip_prefix(&rootfs)?;
                // Optional propagation fields come after the options.
                assert_eq!(fields[6], "-", "propagates: {line}");
                Some((path.to_owned(), fields[5].to_owned()))
            })
            .collect();
        mounts.sort();
        mounts
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
