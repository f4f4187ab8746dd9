//! `nvidia-container-cli` as its callers run it, on containers made by hand: a mount namespace,
//! with or without a user namespace, and a busybox image. Needs root, unshare, nsenter and a
//! static busybox.
#![allow(clippy::unwrap_used)]

mod lxc;
mod namespaces;
#[path = "../parts/mod.rs"]
mod parts;
mod place;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use parts::text;
use place::{Container, NOBODY, TestHost};
use skips::Need;

const ALL_CAPABILITIES: &str = "--compute --compat32 --display --graphics --utility --video";

fn can_run() -> bool {
    parts::can_run(&[Need::Unshare])
}

fn contains_all(out: &str, expected: &[&str]) {
    for expected in expected {
        assert!(out.contains(expected), "{expected:?} in\n{out}");
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
fn a_supervised_container_gets_exactly_the_requested_gpu() {
    if !can_run() {
        return;
    }
    for flags in [&[][..], &["--user", "--map-root-user"]] {
        let place = TestHost::new();
        let container = Container::new(flags);
        let line = "configure --pid=PID --device=1 --compute --utility ROOTFS";
        let out = place.run(line, container.pid());
        assert!(
            out.status.success() && text(&out).is_empty(),
            "{}",
            text(&out)
        );
        let output = container.look(&place, LOOK);
        contains_all(&output, &SEEN);
        assert!(!output.contains("nvidia0"), "{output}");
        let mounts = container.mounts(&place);
        let paths: Vec<&str> = mounts.iter().map(|(path, _)| path.as_str()).collect();
        let expected = [
            "/dev/nvidia1",
            "/dev/nvidiactl",
            "/usr/bin/nvidia-smi",
            "/usr/lib/libcuda.so.1.2.3",
        ];
        assert_eq!(paths, expected);
        for (path, options) in &mounts {
            let is_file = !path.starts_with("/dev");
            assert!(options.contains("nosuid"), "{path} {options}");
            assert_eq!(options.starts_with("ro,"), is_file, "{path} {options}");
        }
        place.assert_host_unchanged();
    }
}

#[test]
fn standalone_mode_configures_the_callers_namespaces() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
    let line = "--user configure --no-cgroups --device=1 --compute --utility ROOTFS";
    let output = text(&place.run_unprivileged(line, LOOK));
    contains_all(&output, &SEEN);
    assert!(!output.contains("nvidia0"), "{output}");
    place.assert_host_unchanged();
}

/// LXC `hooks/nvidia`, Enroot `conf/hooks/98-nvidia.sh`, Apptainer
/// `internal/pkg/util/gpu/nvidia.go`: unprivileged, in namespaces that they made.
#[test]
fn command_lines_of_lxc_enroot_and_apptainer() {
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
        let place = TestHost::new();
        let output = text(&place.run_unprivileged(&line, LOOK));
        contains_all(&output, &SEEN);
        place.assert_host_unchanged();
    }
}

/// NVIDIA's runtime hook, containerd `contrib/nvidia/nvidia.go` (`ctr run --gpus`) and gVisor
/// `runsc/container/container.go`: as root, with the container's process.
#[test]
fn command_lines_of_the_toolkit_hook_containerd_and_gvisor() {
    if !can_run() {
        return;
    }
    let lines = [
        "--root=/ --load-kmods --no-create-imex-channels --no-pivot --debug=LOG --ldcache=/etc/ld.so.cache --user=root:video configure --cuda-compat-mode=ldconfig --ldconfig=@/sbin/ldconfig --no-cgroups --device=1 --compute --utility --require=cuda>=12.0 --pid=PID ROOTFS".to_owned(),
        "--load-kmods configure --device=1 --compute --compat32 --graphics --utility --video --display --pid=PID ROOTFS".into(),
        "--load-kmods configure --ldconfig=@/sbin/ldconfig --no-cgroups --utility --compute --pid=PID --device=1 ROOTFS".into(),
    ];
    for line in lines {
        let place = TestHost::new();
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
        place.assert_host_unchanged();
    }
}

#[test]
fn nodes_made_by_the_caller_are_not_changed() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
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
    let place = TestHost::new();
    let container = Container::new(&[]);
    symlink("/", place.path("link")).unwrap();
    let link = place.path("link").display().to_string();
    for rootfs in ["/", "//", "rootfs", "./rootfs", "/tmp/..", &link] {
        let out = place.run(
            &format!("configure --pid=PID -d0 -c {rootfs}"),
            container.pid(),
        );
        let message = "nvidia-container-cli: input error: invalid rootfs directory\n";
        assert_eq!(
            (out.status.code(), text(&out).as_str()),
            (Some(1), message),
            "{rootfs}"
        );
    }
    assert_eq!(container.mounts(&place), []);
    place.assert_host_unchanged();
}

#[test]
fn a_failure_half_way_is_rolled_back() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
    // The second mount fails, because a directory is in the way.
    fs::create_dir_all(place.path("rootfs/usr/bin/nvidia-smi")).unwrap();
    let container = Container::new(&[]);
    let line = "configure --pid=PID --device=0 --compute --utility ROOTFS";
    let out = place.run(line, container.pid());
    let output = text(&out);
    assert_eq!(out.status.code(), Some(1), "{output}");
    assert!(
        output.starts_with("nvidia-container-cli: mount error: "),
        "{output}"
    );
    assert_eq!(container.mounts(&place), []);
    let left = container.look(&place, "busybox find /usr /dev -type f -o -type l");
    assert_eq!(left, "");
    place.assert_host_unchanged();
}

#[test]
fn each_refusal_says_its_phase_and_exits_with_1() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
    let container = Container::new(&[]);
    for (line, expected) in [
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
            "container error: process 2147483647: no process of that number",
        ),
        (
            "--debug=/no/such/log info",
            "initialization error: cannot write the log",
        ),
    ] {
        let out = place.run(line, container.pid());
        let output = text(&out);
        assert_eq!(out.status.code(), Some(1), "{line}: {output}");
        let expected = format!("nvidia-container-cli: {expected}");
        assert!(output.starts_with(&expected), "{expected:?} in {output}");
    }
    assert_eq!(container.mounts(&place), []);
}

#[test]
fn an_oci_state_names_the_container() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
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
    // Starts a program that inherits a pidfd.
    const START: &str = "import os, sys\n\
        fd = os.pidfd_open(int(sys.argv[1]))\n\
        os.dup2(fd, 9)\n\
        os.execv(sys.argv[2], sys.argv[2:])";
    if !can_run() || !skips::has(&[Need::Python3]) {
        return;
    }
    let place = TestHost::new();
    let container = Container::new(&[]);
    let out = Command::new("python3")
        .args(["-c", START, &container.pid().to_string()])
        .arg(place.cli())
        .args(place.args("configure --pidfd=9 --device=1 --compute ROOTFS", 0))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    contains_all(&container.look(&place, LOOK), &SEEN);
}

#[test]
fn info_and_list_work_for_a_normal_user() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
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
    // LXD and Incus parse the second line, and all lines from the fifth on.
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
fn the_environment_has_no_effect() {
    if !can_run() {
        return;
    }
    let place = TestHost::new();
    let out = Command::new(place.cli())
        .arg("info")
        .env("NVIDIA_CTK_CONFIG_FILE_PATH", place.path("config.toml"))
        .env("NVC_DEBUG_FILE", place.path("log"))
        .output()
        .unwrap();
    assert!(!text(&out).contains("1.2.3"), "{}", text(&out));
    assert!(!place.path("log").exists());
}
