//! `nvidia-container-cli` as its callers run it, on containers made by hand: a mount namespace,
//! with or without a user namespace, and a busybox image. Needs root, unshare, nsenter and a
//! static busybox; says so and passes where one is missing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use gpu_host::{
    Capabilities, Capability, ControlNode, DeviceNode, Driver, DriverFile, FileKind, Gpu,
    Inventory, Link, PciAddress,
};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

const BUSYBOX: &str = "/bin/busybox";
const NOBODY: u32 = 65_534;
const ALL_CAPABILITIES: &str = "--compute --compat32 --display --graphics --utility --video";

fn can_run() -> bool {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let can = nix::unistd::geteuid().is_root()
        && Path::new(BUSYBOX).exists()
        && has("unshare")
        && has("nsenter");
    if !can {
        println!("skip: needs root, unshare, nsenter and busybox-static");
    }
    can
}

/// A host with two GPUs below a directory, and an image beside it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
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
        symlink(env!("CARGO_BIN_EXE_gpu-container"), place.cli()).unwrap();
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

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn cli(&self) -> PathBuf {
        self.path("nvidia-container-cli")
    }

    fn node(&self, name: &str, minor: u32) -> DeviceNode {
        let host_path = self.path("host").join(name);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&host_path, SFlag::S_IFCHR, mode, makedev(195, minor.into())).unwrap();
        fs::set_permissions(&host_path, fs::Permissions::from_mode(0o666)).unwrap();
        DeviceNode {
            path: format!("/dev/{name}").into(),
            host_path,
            major: 195,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }
    }

    fn gpu(&self, index: u32) -> Gpu {
        Gpu {
            index,
            minor: index,
            uuid: Some(format!("GPU-{index}aaa")),
            name: Some("NVIDIA Test".into()),
            brand: None,
            compute_capability: None,
            pci: PciAddress::default(),
            node: self.node(&format!("nvidia{index}"), index),
            drm: Vec::new(),
            drm_links: Vec::new(),
            mig_enabled: false,
            mig: Vec::new(),
        }
    }

    fn library(&self) -> DriverFile {
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
        }
    }

    fn program(&self) -> DriverFile {
        DriverFile {
            kind: FileKind::Binary,
            path: "/usr/bin/nvidia-smi".into(),
            host_path: self.path("host/nvidia-smi"),
            capabilities: Capabilities::of(&[Capability::Utility]),
            soname: None,
            links: Vec::new(),
        }
    }

    /// A line as a caller has it, by the test's own config; ROOTFS and PID stand for those.
    fn args(&self, line: &str, pid: u32) -> Vec<String> {
        let rootfs = self.path("rootfs");
        let config = format!("--config={}", self.path("config.toml").display());
        let words = line.split_whitespace().map(|word| {
            word.replace("ROOTFS", rootfs.to_str().unwrap())
                .replace("PID", &pid.to_string())
        });
        std::iter::once(config).chain(words).collect()
    }

    fn run(&self, line: &str, pid: u32) -> Output {
        Command::new(self.cli())
            .args(self.args(line, pid))
            .output()
            .unwrap()
    }

    /// Runs the line in namespaces of its own as an unprivileged user, then a script in the
    /// image: how LXC, Enroot and Apptainer do it.
    fn run_unprivileged(&self, line: &str, script: &str) -> Output {
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

    /// Our own mount namespace has nothing of it, and the host's files are as they were.
    fn host_is_untouched(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let rootfs = self.path("rootfs");
        assert!(!mounts.contains(rootfs.to_str().unwrap()), "{mounts}");
        let mut names: Vec<_> = fs::read_dir(self.path("host"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let wanted = [
            "libcuda.so.1.2.3",
            "nvidia-smi",
            "nvidia0",
            "nvidia1",
            "nvidiactl",
        ];
        assert_eq!(names, wanted);
        for (name, content) in [
            ("libcuda.so.1.2.3", "a library"),
            ("nvidia-smi", "a program"),
        ] {
            let path = self.path("host").join(name);
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
    }
}

/// A process in namespaces of its own that waits; gone with this value.
struct Container {
    child: Child,
    /// Closed, it ends.
    _stdin: ChildStdin,
}

impl Container {
    fn new(flags: &[&str]) -> Self {
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

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A script in the image, in the container's mount namespace.
    fn look(&self, place: &Place, script: &str) -> String {
        let out = Command::new("nsenter")
            .args(["--mount", "--target", &self.pid().to_string(), "chroot"])
            .arg(place.path("rootfs"))
            .args(["/bin/busybox", "sh", "-c", script])
            .output()
            .unwrap();
        text(&out)
    }

    /// Mounts below the image, as the container sees them: path, options.
    fn mounts(&self, place: &Place) -> Vec<(String, String)> {
        let file = format!("/proc/{}/mountinfo", self.pid());
        let rootfs = place.path("rootfs").to_str().unwrap().to_owned();
        let lines = fs::read_to_string(file).unwrap();
        let mut mounts: Vec<(String, String)> = lines
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                let path = fields[4].strip_prefix(&rootfs)?;
                // Propagation fields come after the options, where there are any.
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

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn contains_all(out: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(out.contains(wanted), "{wanted:?} in\n{out}");
    }
}

const LOOK: &str = "busybox ls /dev; busybox ls -l /usr/lib /usr/bin; busybox cat /dev/nvidia1; \
    busybox cat /usr/lib/libcuda.so; echo; echo x >/usr/lib/libcuda.so.1.2.3; \
    busybox grep -c libcuda.so.1 /etc/ld.so.cache";

const SEEN: [&str; 6] = [
    "nvidiactl",
    "libcuda.so -> libcuda.so.1",
    "libcuda.so.1 -> libcuda.so.1.2.3",
    "/dev/nvidia1': No such device or address",
    "a library",
    "Read-only file system",
];

#[test]
fn a_supervised_container_gets_exactly_what_is_asked_for() {
    if !can_run() {
        return;
    }
    for flags in [&[][..], &["--user", "--map-root-user"]] {
        let place = Place::new();
        let container = Container::new(flags);
        let line = "configure --pid=PID --device=1 --compute --utility ROOTFS";
        let out = place.run(line, container.pid());
        assert!(
            out.status.success() && text(&out).is_empty(),
            "{}",
            text(&out)
        );
        let seen = container.look(&place, LOOK);
        contains_all(&seen, &SEEN);
        assert!(!seen.contains("nvidia0"), "{seen}");
        let mounts = container.mounts(&place);
        let paths: Vec<&str> = mounts.iter().map(|(path, _)| path.as_str()).collect();
        let wanted = [
            "/dev/nvidia1",
            "/dev/nvidiactl",
            "/usr/bin/nvidia-smi",
            "/usr/lib/libcuda.so.1.2.3",
        ];
        assert_eq!(paths, wanted);
        for (path, options) in &mounts {
            let is_file = !path.starts_with("/dev");
            assert!(options.contains("nosuid"), "{path} {options}");
            assert_eq!(options.starts_with("ro,"), is_file, "{path} {options}");
        }
        place.host_is_untouched();
    }
}

#[test]
fn a_standalone_container_is_the_callers_own_namespaces() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    let line = "--user configure --no-cgroups --device=1 --compute --utility ROOTFS";
    let seen = text(&place.run_unprivileged(line, LOOK));
    contains_all(&seen, &SEEN);
    assert!(!seen.contains("nvidia0"), "{seen}");
    place.host_is_untouched();
}

/// LXC `hooks/nvidia`, Enroot `conf/hooks/98-nvidia.sh`, Apptainer
/// `internal/pkg/util/gpu/nvidia.go`: unprivileged, in namespaces that they made.
#[test]
fn lines_of_lxc_enroot_and_apptainer() {
    if !can_run() {
        return;
    }
    let lines = [
        format!(
            "--user configure --no-cgroups --ldconfig=@/sbin/ldconfig --device=all {ALL_CAPABILITIES} --require=cuda>=9.0 ROOTFS"
        ),
        "--user --debug=/dev/stderr configure --no-cgroups --ldconfig=@/sbin/ldconfig --device=0,1 --utility --compute --require=cuda>=12.0,driver>=1 ROOTFS".into(),
        "--user configure --no-cgroups --device=GPU-1aaa --compute --utility --ldconfig=@/sbin/ldconfig ROOTFS".into(),
    ];
    for line in lines {
        let place = Place::new();
        let seen = text(&place.run_unprivileged(&line, LOOK));
        contains_all(&seen, &SEEN);
        place.host_is_untouched();
    }
}

/// NVIDIA's runtime hook, containerd `contrib/nvidia/nvidia.go` (`ctr run --gpus`) and gVisor
/// `runsc/container/container.go`: as root, with the container's process.
#[test]
fn lines_of_the_toolkit_hook_containerd_and_gvisor() {
    if !can_run() {
        return;
    }
    let lines = [
        "--root=/ --load-kmods --no-create-imex-channels --no-pivot --debug=LOG --ldcache=/etc/ld.so.cache --user=root:video configure --cuda-compat-mode=ldconfig --ldconfig=@/sbin/ldconfig --no-cgroups --device=1 --compute --utility --require=cuda>=12.0 --pid=PID ROOTFS".to_owned(),
        "--load-kmods configure --device=1 --compute --compat32 --graphics --utility --video --display --pid=PID ROOTFS".into(),
        "--load-kmods configure --ldconfig=@/sbin/ldconfig --no-cgroups --utility --compute --pid=PID --device=1 ROOTFS".into(),
    ];
    for line in lines {
        let place = Place::new();
        let container = Container::new(&[]);
        let log = place.path("log");
        let line = line.replace("LOG", log.to_str().unwrap());
        let out = place.run(&line, container.pid());
        assert!(out.status.success(), "{line}\n{}", text(&out));
        contains_all(&container.look(&place, LOOK), &SEEN);
        if line.contains("--debug") {
            let log = fs::read_to_string(log).unwrap();
            contains_all(&log, &["device /dev/nvidia1", "libcuda.so.1.2.3", "] done"]);
        }
        place.host_is_untouched();
    }
}

#[test]
fn nodes_that_the_caller_made_are_left_to_it() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    let container = Container::new(&[]);
    let line = "configure --no-cgroups --no-devbind --pid=PID --device=0 --compute ROOTFS";
    assert!(place.run(line, container.pid()).status.success());
    let paths: Vec<String> = container
        .mounts(&place)
        .into_iter()
        .map(|(p, _)| p)
        .collect();
    assert_eq!(paths, ["/usr/lib/libcuda.so.1.2.3"]);
}

#[test]
fn the_hosts_root_and_relative_paths_are_refused() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    let container = Container::new(&[]);
    symlink("/", place.path("link")).unwrap();
    let link = place.path("link").display().to_string();
    for rootfs in ["/", "//", "rootfs", "./rootfs", "/tmp/..", &link] {
        let out = place.run(
            &format!("configure --pid=PID -d0 -c {rootfs}"),
            container.pid(),
        );
        let said = "nvidia-container-cli: input error: invalid rootfs directory\n";
        assert_eq!(
            (out.status.code(), text(&out).as_str()),
            (Some(1), said),
            "{rootfs}"
        );
    }
    assert_eq!(container.mounts(&place), []);
    place.host_is_untouched();
}

#[test]
fn a_failure_half_way_leaves_nothing() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    // The second mount finds a directory in its place.
    fs::create_dir_all(place.path("rootfs/usr/bin/nvidia-smi")).unwrap();
    let container = Container::new(&[]);
    let line = "configure --pid=PID --device=0 --compute --utility ROOTFS";
    let out = place.run(line, container.pid());
    let said = text(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("nvidia-container-cli: mount error: "),
        "{said}"
    );
    assert_eq!(container.mounts(&place), []);
    let left = container.look(&place, "busybox find /usr /dev -type f -o -type l");
    assert_eq!(left, "");
    place.host_is_untouched();
}

#[test]
fn each_refusal_says_its_phase_and_exits_with_1() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    let container = Container::new(&[]);
    for (line, wanted) in [
        (
            "configure --pid=x ROOTFS",
            "input error: invalid process ID: x",
        ),
        (
            "configure --pid=PID --device=7 ROOTFS",
            "device error: 7: unknown device",
        ),
        (
            "configure --pid=PID --mig-config=1 ROOTFS",
            "mig-config error: 1: only 'all'",
        ),
        (
            "configure --pid=PID --device=0 --require=cuda>=99.0 ROOTFS",
            "requirement error: unsatisfied condition: cuda>=99.0, please update your driver",
        ),
        (
            "configure --pid=PID /no/such/rootfs",
            "container error: /no/such/rootfs",
        ),
        (
            "configure --pid=2147483647 ROOTFS",
            "container error: /proc/2147483647",
        ),
        (
            "--debug=/no/such/log info",
            "initialization error: cannot write the log",
        ),
    ] {
        let out = place.run(line, container.pid());
        let said = text(&out);
        assert_eq!(out.status.code(), Some(1), "{line}: {said}");
        let wanted = format!("nvidia-container-cli: {wanted}");
        assert!(said.starts_with(&wanted), "{wanted:?} in {said}");
    }
    assert_eq!(container.mounts(&place), []);
}

#[test]
fn an_oci_state_names_the_container() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    let container = Container::new(&[]);
    fs::write(place.path("config.json"), r#"{"root": {"path": "rootfs"}}"#).unwrap();
    let mut cli = Command::new(place.cli())
        .args(place.args("configure --oci-state --device=1 --compute", 0))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let bundle = place.dir.path();
    let state = serde_json::json!({"pid": container.pid(), "bundle": bundle});
    let mut stdin = cli.stdin.take().unwrap();
    stdin.write_all(state.to_string().as_bytes()).unwrap();
    drop(stdin);
    assert!(cli.wait().unwrap().success());
    contains_all(&container.look(&place, LOOK), &SEEN);
}

#[test]
fn a_pidfd_names_the_container() {
    // The shortest program that starts another with a pidfd.
    const START: &str = "import os, sys\n\
        fd = os.pidfd_open(int(sys.argv[1]))\n\
        os.dup2(fd, 9)\n\
        os.execv(sys.argv[2], sys.argv[2:])";
    if !can_run() {
        return;
    }
    let place = Place::new();
    let container = Container::new(&[]);
    let out = Command::new("python3")
        .args(["-c", START, &container.pid().to_string()])
        .arg(place.cli())
        .args(place.args("configure --pidfd=9 --device=1 --compute ROOTFS", 0))
        .output();
    let Ok(out) = out else {
        println!("skip: needs python3");
        return;
    };
    assert!(out.status.success(), "{}", text(&out));
    contains_all(&container.look(&place, LOOK), &SEEN);
}

#[test]
fn info_and_list_work_for_a_normal_user() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    let run = |line: &str| {
        let out = Command::new(place.cli())
            .args(place.args(line, 0))
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out));
        text(&out)
    };
    contains_all(
        &run("info"),
        &["NVRM version:   1.2.3\n", "GPU UUID:       GPU-1aaa\n"],
    );
    // LXD and Incus read the second line and those from the fifth on.
    let csv = run("info --csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[1], "1.2.3,12.4");
    assert_eq!(
        lines[4],
        "0,0,NVIDIA Test,N/A,GPU-0aaa,00000000:00:00.0,N/A"
    );
    let listed = run("list --binaries --libraries");
    assert_eq!(listed, "/usr/bin/nvidia-smi\n/usr/lib/libcuda.so.1.2.3\n");
    assert_eq!(run("list").lines().count(), 5);
    assert!(run("info --json").contains("\"GPU-0aaa\""));
}

#[test]
fn the_environment_decides_nothing() {
    if !can_run() {
        return;
    }
    let place = Place::new();
    let out = Command::new(place.cli())
        .arg("info")
        .env("NVIDIA_CTK_CONFIG_FILE_PATH", place.path("config.toml"))
        .env("NVC_DEBUG_FILE", place.path("log"))
        .output()
        .unwrap();
    assert!(!text(&out).contains("1.2.3"), "{}", text(&out));
    assert!(!place.path("log").exists());
}
