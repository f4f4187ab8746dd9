//! Every system call of the change path failing in turn, and the process killed before each:
//! nothing is lost, nothing is half, nothing is left over. Needs root and strace; says so and
//! passes where one is missing.
//!
//! A share of the points is tried; `GPUSETUP_FAULTS=all cargo test -p gpusetup --test faults`
//! tries every one, a number there that many.
//!
//! Killed after a call is killed before the next that changes anything: in between a process
//! changes nothing but its own memory, and after its last call it has ended by itself. So a kill
//! at the entry of each changing call covers both.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use fixture::{Tree, walk};

/// The engines whose every point is tried, and how they are set up: one line each. Each is
/// installed, undone, and recovered from runs that died half-way and at their end.
const ENGINES: &[Engine] = &[
    engine(
        "Docker 20.10, containerd 1.6",
        || docker("20.10.24", "1.6.20"),
        &[],
    ),
    engine(
        "Docker 28, containerd 2.1",
        || docker("28.5.2", "2.1.9"),
        &[],
    ),
    engine(
        "containerd 2.1 with a drop-in, GPU nodes",
        drop_in_and_nodes,
        &[],
    ),
    engine("podman, linked and labelled files", podman, &[]),
    engine("CRI-O", crio, &[]),
    engine("k3s with a template of the site's", k3s, &[]),
    engine(
        "Docker and a CDI spec of another tool, adopted",
        adopted,
        &["--existing", "adopt"],
    ),
];

struct Engine {
    name: &'static str,
    tree: fn() -> Tree,
    /// More flags for install.
    flags: &'static [&'static str],
}

const fn engine(name: &'static str, tree: fn() -> Tree, flags: &'static [&'static str]) -> Engine {
    Engine { name, tree, flags }
}

/// Calls that change something, or may. strace passes over those that this machine's kernel
/// does not have, for their `?`.
const CHANGING: [&str; 24] = [
    "openat",
    "open",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "ftruncate",
    "fchown",
    "fchmod",
    "fsync",
    "fdatasync",
    "renameat",
    "renameat2",
    "rename",
    "unlinkat",
    "unlink",
    "mkdirat",
    "mkdir",
    "symlinkat",
    "symlink",
    "utimensat",
    "flock",
    "fsetxattr",
    "fremovexattr",
];
/// Calls that look.
const LOOKING: [&str; 19] = [
    "openat2",
    "read",
    "pread64",
    "readv",
    "lseek",
    "close",
    "fstat",
    "newfstatat",
    "statx",
    "stat",
    "lstat",
    "getdents64",
    "readlink",
    "readlinkat",
    "faccessat",
    "faccessat2",
    "access",
    "flistxattr",
    "fgetxattr",
];
/// What befalls a call: strace's `inject` expression, `#` for its number. `#+`: from it on.
const FAULTS: [&str; 4] = [
    "error=EIO:when=#",
    "error=EACCES:when=#",
    "error=EINTR:when=#",
    "error=EIO:when=#+",
];
/// What befalls a call that changes something, besides.
const FULL: &str = "error=ENOSPC:when=#+";
/// Ctrl-C; it must never be the end within a step.
const STOP: &str = "signal=INT:when=#";
const KILL: &str = "signal=KILL:when=#";
/// By which files get their place.
const RENAME: &str = "renameat";
/// As many points are tried, unless more are asked for.
const SHARE: usize = 60;

const INSTALL: &[&str] = &["install", "--yes"];
const UNDO: &[&str] = &["undo", "--yes"];
const RECOVER: &[&str] = &["recover"];

type State = BTreeMap<PathBuf, (u32, String)>;

/// A command on a tree, and what it leads to when nothing fails.
struct Case {
    name: String,
    tree: tempfile::TempDir,
    command: Vec<&'static str>,
    old: State,
    new: State,
}

/// Everything but the lock, relative to the tree, with owners and attributes.
fn state(root: &Path) -> State {
    let mut found = BTreeMap::new();
    walk(root, &mut found);
    found
        .into_iter()
        .map(|(path, (mode, mut content))| {
            let metadata = path.symlink_metadata().unwrap();
            write!(content, "\n{}:{}", metadata.uid(), metadata.gid()).unwrap();
            for name in xattr::list(&path).unwrap() {
                let value = xattr::get(&path, &name).unwrap();
                write!(content, "\n{} {value:?}", name.display()).unwrap();
            }
            (path.strip_prefix(root).unwrap().to_owned(), (mode, content))
        })
        .filter(|(path, _)| path != Path::new("run/gpusetup.lock"))
        .collect()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir_in("/dev/shm").unwrap();
    let status = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to.path())
        .status();
    assert!(status.unwrap().success());
    to
}

fn gpusetup(root: &Path, args: &[&str]) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
    command.arg("--root").arg(root).args(args);
    command.output().unwrap().status.code()
}

/// Runs under strace; exit code (`None`: killed) and its log.
fn traced(root: &Path, calls: &str, fault: Option<&str>, args: &[&str]) -> (Option<i32>, String) {
    let log = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(log.path());
    // Faster; but strace 6.1 then sends no signal.
    if fault.is_none_or(|f| f.starts_with("error")) {
        strace.arg("--seccomp-bpf");
    }
    strace.args(["-e", &format!("trace={calls}")]);
    if let Some(fault) = fault {
        strace.args(["-e", &format!("inject={calls}:{fault}")]);
    }
    let out = strace
        .arg(env!("CARGO_BIN_EXE_gpusetup"))
        .arg("--root")
        .arg(root)
        .args(args)
        .output()
        .unwrap();
    (out.status.code(), fs::read_to_string(log.path()).unwrap())
}

/// Calls of a log by name.
fn count(log: &str, call: &str) -> usize {
    let is_it = |l: &&str| {
        let what = l.split_whitespace().nth(1);
        what.and_then(|w| w.split_once('('))
            .is_some_and(|(name, _)| name == call)
    };
    log.lines().filter(is_it).count()
}

impl Case {
    fn new(name: String, tree: tempfile::TempDir, command: Vec<&'static str>) -> Self {
        let old = state(tree.path());
        let done = copy(tree.path());
        assert_eq!(gpusetup(done.path(), &command), Some(0), "{name}");
        let new = state(done.path());
        assert_ne!(old, new, "{name}");
        Self {
            name,
            tree,
            command,
            old,
            new,
        }
    }

    /// Every point: a call, which of them, and what befalls it.
    fn points(&self) -> Vec<(&'static str, String)> {
        let root = copy(self.tree.path());
        let known: Vec<String> = CHANGING
            .iter()
            .chain(&LOOKING)
            .map(|c| format!("?{c}"))
            .collect();
        let (code, log) = traced(root.path(), &known.join(","), None, &self.command);
        assert_eq!(code, Some(0), "{}", self.name);
        let mut points = Vec::new();
        for (calls, more) in [(&CHANGING[..], &[FULL, STOP, KILL][..]), (&LOOKING, &[])] {
            for call in calls {
                for n in 1..=count(&log, call) {
                    let faults = FAULTS.iter().chain(more);
                    points.extend(faults.map(|f| (*call, f.replace('#', &n.to_string()))));
                }
            }
        }
        points
    }

    /// What is wrong after this fault, if anything.
    fn try_point(&self, call: &str, fault: &str) -> Result<(), String> {
        let root = copy(self.tree.path());
        let (code, log) = traced(root.path(), call, Some(fault), &self.command);
        let at = state(root.path());
        match code {
            Some(0) if at != self.new => return Err(wrong("exit 0, yet not done", &at, &self.new)),
            // 101 is a panic of Rust's.
            Some(101) => return Err("a panic".into()),
            Some(3) | None => {}
            Some(0) => return Ok(()),
            Some(code) if at != self.old => {
                return Err(wrong(
                    &format!("exit {code}, yet not put back"),
                    &at,
                    &self.old,
                ));
            }
            Some(_) => {}
        }
        let code = gpusetup(root.path(), RECOVER);
        if code != Some(0) {
            return Err(format!("recover: {code:?}, after\n{log}"));
        }
        let at = state(root.path());
        if at != self.old && at != self.new {
            return Err(wrong("after recover", &at, &self.old));
        }
        Ok(())
    }
}

fn wrong(what: &str, at: &State, wanted: &State) -> String {
    let differs: Vec<_> = at
        .keys()
        .chain(wanted.keys())
        .filter(|k| at.get(*k) != wanted.get(*k))
        .collect();
    format!("{what}: {differs:?}")
}

/// Enough of a driver for a CDI spec: files in directories that are not there yet.
fn docker(docker: &str, containerd: &str) -> Tree {
    let tree = Tree::new(docker, containerd);
    tree.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  x\n",
    );
    fs::create_dir(tree.path("run")).unwrap();
    tree.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\n");
    tree
}

fn node(tree: &Tree, path: &str, minor: u64) {
    let mode = Mode::from_bits_truncate(0o666);
    fs::create_dir_all(tree.path("dev")).unwrap();
    mknod(&tree.path(path), SFlag::S_IFCHR, mode, makedev(195, minor)).unwrap();
}

fn drop_in_and_nodes() -> Tree {
    let tree = docker("28.5.2", "2.1.9");
    fs::remove_file(tree.path("usr/sbin/dockerd")).unwrap();
    tree.write(
        "etc/containerd/config.toml",
        "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
    );
    tree.write(
        "proc/driver/nvidia/gpus/0000:3b:00.0/information",
        "Model: \t NVIDIA L4\nGPU UUID: \t GPU-1\nDevice Minor: \t 0\n",
    );
    node(&tree, "dev/nvidia0", 0);
    node(&tree, "dev/nvidiactl", 255);
    tree
}

/// With a stale spec of a driver before, behind a link, that is not root's and has attributes;
/// and the same of a Docker config.
fn podman() -> Tree {
    let tree = docker("20.10.24", "1.6.20");
    fs::remove_file(tree.path("usr/bin/containerd")).unwrap();
    tree.write("usr/bin/podman", "");
    let json = tree.path("etc/docker/daemon.json");
    fs::rename(&json, tree.path("etc/real.json")).unwrap();
    symlink("/etc/real.json", &json).unwrap();
    tree.write("run/cdi/nvidia.yaml", "cdiVersion: 0.5.0\n");
    symlink("/run", tree.path("var/run")).unwrap();
    for file in ["etc/real.json", "run/cdi/nvidia.yaml"] {
        let path = tree.path(file);
        chown(&path, Some(7), Some(8)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        xattr::set(&path, "trusted.note", b"kept").unwrap();
    }
    tree
}

/// Without Docker and containerd.
fn bare() -> Tree {
    let tree = docker("28.5.2", "2.1.9");
    for path in ["usr/sbin/dockerd", "usr/bin/containerd"] {
        fs::remove_file(tree.path(path)).unwrap();
    }
    tree
}

/// As its packages have it: the shim's own configuration changes too.
fn crio() -> Tree {
    let tree = bare();
    tree.write("usr/bin/crio", "");
    tree.write("usr/libexec/crio/crun", "");
    tree.write("etc/crio/crio.conf.d/10-crio.conf", "[crio.runtime]\ndefault_runtime = \"crun\"\n\n[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/libexec/crio/crun\"\n");
    tree
}

fn k3s() -> Tree {
    const DIR: &str = "var/lib/rancher/k3s/agent/etc/containerd";
    let tree = bare();
    tree.write("usr/local/bin/k3s", "");
    tree.write(
        "etc/systemd/system/k3s.service",
        "[Service]\nExecStart=/usr/local/bin/k3s server\n",
    );
    tree.write(
        &format!("{DIR}/config.toml"),
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n",
    );
    tree.write(
        &format!("{DIR}/config.toml.tmpl"),
        "{{ template \"base\" . }}\n\n# of this site\n[debug]\n",
    );
    tree
}

/// A spec beside ours that must go, and come back as it was.
fn adopted() -> Tree {
    let tree = docker("26.1.5", "1.7.24");
    fs::remove_file(tree.path("usr/bin/containerd")).unwrap();
    tree.write(
        "etc/cdi/theirs.yaml",
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    env: [A=b]\n",
    );
    let path = tree.path("etc/cdi/theirs.yaml");
    chown(&path, Some(7), Some(8)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    tree
}

fn tree(engine: &Engine) -> tempfile::TempDir {
    copy(&(engine.tree)().path(""))
}

impl Engine {
    fn install(&self) -> Vec<&'static str> {
        [INSTALL, self.flags].concat()
    }

    fn installed(&self) -> tempfile::TempDir {
        let tree = tree(self);
        assert_eq!(
            gpusetup(tree.path(), &self.install()),
            Some(0),
            "{}",
            self.name
        );
        tree
    }

    fn cases(&self) -> Vec<Case> {
        let name = |what: &str| format!("{what}, {}", self.name);
        let mut cases = vec![
            Case::new(name("install"), tree(self), self.install()),
            Case::new(name("undo"), self.installed(), UNDO.to_vec()),
        ];
        for (what, command) in [("install", self.install()), ("undo", UNDO.to_vec())] {
            let tree = || match what {
                "install" => tree(self),
                _ => self.installed(),
            };
            let (_, log) = traced(tree().path(), RENAME, None, &command);
            let last = log.lines().count();
            for (when, n) in [("half-way", last / 2), ("at its end", last)] {
                let killed = tree();
                let fault = KILL.replace('#', &n.to_string());
                let (code, _) = traced(killed.path(), RENAME, Some(&fault), &command);
                assert_eq!(code, None, "{what}");
                let what = format!("recover from an {what} killed {when}");
                cases.push(Case::new(name(&what), killed, RECOVER.to_vec()));
            }
        }
        cases
    }
}

#[test]
fn nothing_is_lost_whatever_fails() {
    if !skips::has(&[skips::Need::Root, skips::Need::Strace]) {
        return;
    }
    let started = Instant::now();
    let share = match std::env::var("GPUSETUP_FAULTS").as_deref() {
        Ok("all") => usize::MAX,
        Ok(n) => n.parse().unwrap(),
        Err(_) => SHARE,
    };
    let cases: Vec<Case> = std::thread::scope(|scope| {
        let made: Vec<_> = ENGINES.iter().map(|e| scope.spawn(|| e.cases())).collect();
        made.into_iter().flat_map(|m| m.join().unwrap()).collect()
    });
    let mut points: Vec<_> = cases
        .iter()
        .flat_map(|case| {
            case.points()
                .into_iter()
                .map(move |(call, fault)| (case, call, fault))
        })
        .collect();
    let there = points.len();
    // Odd, so that it meets each kind of fault.
    let stride = there.div_ceil(share) | 1;
    let mut n = 0;
    points.retain(|_| {
        n += 1;
        n % stride == 0
    });
    assert!(!points.is_empty(), "none of {there} points");
    let next = AtomicUsize::new(0);
    let losses: Vec<String> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut losses = Vec::new();
            while let Some((case, call, fault)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(why) = case.try_point(call, fault) {
                    losses.push(format!("{}: {call}:{fault}: {why}", case.name));
                }
            }
            losses
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    println!(
        "{} of {there} points tried in {} cases and {} s, {} losses",
        points.len(),
        cases.len(),
        started.elapsed().as_secs(),
        losses.len()
    );
    assert!(
        losses.is_empty(),
        "{} losses:\n{}",
        losses.len(),
        losses.join("\n")
    );
}
