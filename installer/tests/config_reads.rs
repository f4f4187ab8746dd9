//! Tests how often the engines' configuration files are read: once for a plan, and in a run once
//! before each step that needs them. inotify reports every open, read and close of the program.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::Tree;
use fixture::engines::{crio, docker, k3s};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// A run checks twice whether a file is as planned: before it writes the first file, and before it
/// writes this one. At its end it looks whether what it has written is still there.
const LOOKS: usize = 3;

/// Counts reads. It watches directories, so that a file that is replaced is still watched.
struct Reads {
    inotify: Inotify,
    dirs: BTreeMap<WatchDescriptor, PathBuf>,
}

impl Reads {
    fn of(dirs: &[PathBuf]) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        let events =
            AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_CLOSE_NOWRITE;
        let watch = |dir: &PathBuf| (inotify.add_watch(dir, events).unwrap(), dir.clone());
        let dirs = dirs.iter().map(watch).collect();
        Self { inotify, dirs }
    }

    /// How often each file was opened, read and closed since the last call. A file that was opened
    /// only for its attributes does not count.
    fn count(&self) -> BTreeMap<PathBuf, usize> {
        let mut reads = BTreeMap::new();
        let mut open: BTreeMap<PathBuf, (usize, bool)> = BTreeMap::new();
        loop {
            let events = match self.inotify.read_events() {
                Err(Errno::EAGAIN) => return reads,
                events => events.unwrap(),
            };
            for event in events {
                assert!(!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
                let Some(name) = event.name else { continue };
                if event.mask.contains(AddWatchFlags::IN_ISDIR) {
                    continue;
                }
                let path = self.dirs[&event.wd].join(name);
                let (handles, is_read) = open.entry(path.clone()).or_default();
                if event.mask.contains(AddWatchFlags::IN_OPEN) {
                    *handles += 1;
                } else if event.mask.contains(AddWatchFlags::IN_ACCESS) {
                    *is_read = true;
                } else {
                    // Two handles open at once cannot be told apart, so both count.
                    *reads.entry(path).or_default() += usize::from(*is_read);
                    *handles = handles.saturating_sub(1);
                    *is_read &= *handles > 0;
                }
            }
        }
    }
}

/// A host and the files that its engines read.
struct Case {
    name: &'static str,
    tree: Tree,
    files: Vec<&'static str>,
}

/// The policy, which names the driver's root and the low-level runtimes.
const POLICY: &str = "etc/nvidia-container-runtime/config.toml";

/// Files that a run reads again after it has written them, for the engine's health check and for
/// the probe.
const READ_AGAIN: [&str; 4] = [
    POLICY,
    "etc/docker/daemon.json",
    "etc/crio/crio.conf",
    "etc/crio/crio.conf.d/10-crio.conf",
];

fn cases() -> Vec<Case> {
    let case = |name, tree, files: &[&'static str]| Case {
        name,
        tree,
        files: files.to_vec(),
    };
    let merged = docker("28.5.2", "2.1.9");
    merged.write(
        "etc/containerd/config.toml",
        "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n",
    );
    merged.write(
        "etc/containerd/conf.d/10-site.toml",
        "version = 3\n[debug]\nlevel = \"info\"\n",
    );
    let client = docker("26.1.5", "1.7.24");
    client.write("root/.docker/config.json", "{\"currentContext\": \"ci\"}");
    let new_crio = crio();
    let old_crio = crio();
    for tree in [&client, &new_crio, &old_crio] {
        tree.write(POLICY, "[nvidia-container-runtime]\nlog-level = \"info\"\n");
    }
    old_crio.write(
        "var/lib/dpkg/status",
        "Package: cri-o\nStatus: install ok installed\nVersion: 1.17.0\n\n",
    );
    old_crio.write(
        "etc/crio/crio.conf",
        "[crio.runtime]\nlog_level = \"info\"\n",
    );
    vec![
        case(
            "Docker and containerd",
            client,
            &[
                "etc/docker/daemon.json",
                "etc/containerd/config.toml",
                "root/.docker/config.json",
                POLICY,
            ],
        ),
        case(
            "containerd with drop-ins",
            merged,
            &[
                "etc/docker/daemon.json",
                "etc/containerd/config.toml",
                "etc/containerd/conf.d/10-site.toml",
            ],
        ),
        case(
            "CRI-O",
            new_crio,
            &["etc/crio/crio.conf.d/10-crio.conf", POLICY],
        ),
        case(
            "CRI-O without drop-ins",
            old_crio,
            &[
                "etc/crio/crio.conf",
                "etc/crio/crio.conf.d/10-crio.conf",
                POLICY,
            ],
        ),
        case(
            "k3s",
            k3s(),
            &[
                "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
                "var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl",
            ],
        ),
    ]
}

#[test]
fn a_plan_and_doctor_read_each_file_once_and_a_run_once_a_step() {
    let mut wrong = Vec::new();
    for case in cases() {
        let tree = &case.tree;
        let dirs = case
            .files
            .iter()
            .map(|f| tree.path(f).parent().unwrap().to_owned());
        let mut dirs: Vec<PathBuf> = dirs.collect();
        dirs.dedup();
        let reads = Reads::of(&dirs);
        let texts: Vec<String> = case.files.iter().map(|f| tree.read(f)).collect();
        let mut step = |args: &[&str], codes: &[i32], most: &dyn Fn(usize) -> usize| {
            // Discards the reads of the test itself.
            reads.count();
            let out = tree.run(args);
            let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
            let code = out.status.code().unwrap();
            assert!(
                codes.contains(&code),
                "{} {args:?}: {code}: {stderr}",
                case.name
            );
            let count = reads.count();
            for (n, file) in case.files.iter().enumerate() {
                let times = count.get(&tree.path(file)).copied().unwrap_or_default();
                // An undo does not need the client's own file.
                let least = usize::from(args[0] != "undo");
                if !(least..=most(n)).contains(&times) {
                    wrong.push(format!("{}: {args:?} read {file} {times} times", case.name));
                }
            }
        };
        // Only a file that is written is read again.
        let most = |n: usize, before: &str| {
            let file = case.files[n];
            let is_written = tree.read(file) != before;
            let again = usize::from(READ_AGAIN.contains(&file));
            1 + if is_written { LOOKS } else { 0 } + again
        };
        // What doctor finds in these trees is not the matter here.
        let found = [0, 2];
        step(&["plan"], &[2], &|_| 1);
        step(&["detect"], &[0], &|_| 1);
        step(&["doctor"], &found, &|_| 1);
        step(&["install", "--yes"], &[0], &|n| most(n, &texts[n]));
        step(&["plan"], &[0], &|_| 1);
        step(&["doctor"], &found, &|_| 1);
        step(&["undo", "--dry-run"], &[2], &|_| 1);
        // Doctor looks before it mends and after that; in between is a run like any other.
        for (file, before) in case.files.iter().zip(&texts) {
            let written = tree.read(file);
            if written == *before || *file == POLICY {
                continue;
            }
            tree.write(file, before);
            let args = ["doctor", "--yes", "--fix"];
            let args = [
                &args[..],
                &["docker-runtime-unknown", "cri-runtime-unknown"],
            ]
            .concat();
            step(&args, &found, &|n| 1 + most(n, &texts[n]));
            let mended = tree.read(file);
            assert_eq!(mended, written, "{}: doctor mends {file}", case.name);
        }
        let texts: Vec<String> = case.files.iter().map(|f| tree.read(f)).collect();
        // At its end it searches what engines read then.
        step(&["undo", "--yes"], &[0], &|n| 1 + most(n, &texts[n]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Proves that two reads are counted as two, and that only opening a file is not counted.
#[test]
fn reads_are_counted() {
    let tree = Tree::empty();
    tree.write("a/one", "1");
    let reads = Reads::of(&[tree.path("a")]);
    let one = tree.path("a/one");
    let cat = |path: &Path| {
        let out = Command::new("cat").args([path, path]).output().unwrap();
        assert!(out.status.success());
    };
    cat(&one);
    drop(fs::File::open(&one).unwrap());
    assert_eq!(reads.count(), BTreeMap::from([(one.clone(), 2)]));
    // A file that replaces it is watched too.
    fs::rename(&one, tree.path("a/old")).unwrap();
    tree.write("a/one", "2");
    reads.count();
    cat(&one);
    assert_eq!(reads.count()[&one], 2);
}
