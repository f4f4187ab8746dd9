//! A host that looks live to gpusetup: a directory tree to which it is confined by chroot, with
//! stand-ins for engines and systemctl. Needs root, busybox and chroot.
//!
//! `/state` in it steers the stand-ins; each of them says how.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by test programs that use parts of it"
)]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{self, Output};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::doctor_host::fixture::Tree;
use crate::doctor_host::{Base, Host};

/// Room for trees that exist at the same time, each with a gpusetup with debug information and its
/// libraries.
const ROOM: u64 = 2 << 30;
pub const GPUSETUP: &str = "/usr/local/bin/gpusetup";

/// The tree of a running host. containerd's socket listens as long as this exists.
pub struct Running {
    pub host: Host,
    _containerd: UnixListener,
}

impl Running {
    pub fn new() -> Option<Self> {
        if !skips::has(&[skips::Need::Busybox]) {
            return None;
        }
        let busybox = Path::new("/bin/busybox");
        let host = Host::untouched_in(Tree::for_programs(ROOM), Base::Debian)?;
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in");
        install(busybox, &host.path("bin/busybox"));
        for applet in ["sh", "cat", "grep", "mv", "rm", "sleep"] {
            host.link(&format!("bin/{applet}"), "busybox");
        }
        for name in [
            "sbin/dockerd",
            "bin/docker",
            "bin/containerd",
            "bin/ctr",
            "bin/podman",
            "lib/gpu-container/cri-client",
        ] {
            install(&stand_in.join("engine"), &host.path(&format!("usr/{name}")));
        }
        for name in ["systemctl", "journalctl"] {
            install(
                &stand_in.join("systemctl"),
                &host.path(&format!("usr/bin/{name}")),
            );
        }
        let program = Path::new(env!("CARGO_BIN_EXE_gpusetup"));
        install(program, &host.path(&GPUSETUP[1..]));
        for library in libraries(program) {
            install(
                &library,
                &host.path(library.strip_prefix("/").unwrap().to_str().unwrap()),
            );
        }
        for (name, minor) in [("null", 3), ("urandom", 9)] {
            let mode = Mode::from_bits_truncate(0o666);
            mknod(
                &host.path("dev").join(name),
                SFlag::S_IFCHR,
                mode,
                makedev(1, minor),
            )
            .unwrap();
        }
        fs::create_dir_all(host.path("tmp")).unwrap();
        // The image that is run is built from it.
        host.write("usr/lib/gpu-container/gpu-container", "a program");
        host.write("state/slow", "0");
        host.write("state/slow-restart", "0");
        host.write("state/containers", "web\ndb\ncache\n");
        host.write("state/log", "");
        host.write("state/busy", "0");
        host.write("state/invocation", "1");
        host.write("state/containerd-invocation", "1");
        host.write("proc/78/environ", "");
        host.write("var/run/docker.pid", "78");
        host.write("state/started", "4102444800");
        let socket = host.path("run/containerd/containerd.sock");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let running = Self {
            host,
            _containerd: listener,
        };
        let first = running.chroot(&["/usr/bin/systemctl", "start-first", "-"]);
        let started = process::Command::new(&first[0]).args(&first[1..]).status();
        assert!(started.unwrap().success());
        Some(running)
    }

    /// Whether the stand-in of docker runs.
    pub fn docker_runs(&self) -> bool {
        self.host.path("state/docker-info").exists()
    }

    /// Stops it, as its administrator does.
    pub fn stop_docker(&self) {
        fs::remove_file(self.host.path("state/docker-info")).unwrap();
        fs::remove_file(self.host.path("var/run/docker.pid")).unwrap();
        self.host.write("state/containers", "");
    }

    pub fn chroot(&self, argv: &[&str]) -> Vec<String> {
        let tree = self.host.root().to_str().unwrap();
        let words = ["chroot", tree].into_iter().chain(argv.iter().copied());
        words.map(str::to_owned).collect()
    }

    /// Runs gpusetup without a terminal.
    pub fn run(&self, args: &[&str]) -> Output {
        let argv = self.chroot(&[&[GPUSETUP], args].concat());
        let mut command = process::Command::new(&argv[0]);
        command.args(&argv[1..]).output().unwrap()
    }

    /// Runs gpusetup, and expects that exit code. Returns all that it says.
    pub fn ends(&self, args: &[&str], code: i32) -> String {
        let out = self.run(args);
        let both = [out.stdout, out.stderr].concat();
        let text = String::from_utf8(both).unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}\n{text}");
        text
    }
}

/// Copies a program by another process, see `fixture::copy_program`.
fn install(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let _ = fs::remove_file(to);
    let copied = process::Command::new("install")
        .args(["-m", "755"])
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

/// The libraries with which a program is linked.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let out = process::Command::new("ldd").arg(program).output().unwrap();
    let stdout = String::from_utf8(out.stdout).unwrap();
    let words = stdout.split_whitespace().filter(|w| w.starts_with('/'));
    words.map(PathBuf::from).collect()
}
