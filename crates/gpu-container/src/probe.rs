//! What a container sees of GPUs, looked at from within. Loads nothing and needs nothing
//! of the image, so an image with this one file proves an engine.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gpu_host::ldcache;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use serde::Serialize;

/// Major of `/dev/nvidiaN` and the highest minor tried.
const NVIDIA_MAJOR: u64 = 195;
const MINORS: u64 = 64;

#[derive(Serialize)]
struct Seen {
    schema: u32,
    /// Nodes below /dev, and whether they open.
    nodes: Vec<Node>,
    /// Minors of GPUs that open although the container has no node of them: made here
    /// with mknod, where the container may do that. Must be empty.
    leaked: Vec<u64>,
    /// Whether mknod worked, so that `leaked` means something.
    could_make_nodes: bool,
    /// Where the loader's cache says libraries are, if the files are there.
    libcuda: Option<PathBuf>,
    libnvidia_ml: Option<PathBuf>,
    nvidia_smi: bool,
    visible_devices: Option<String>,
}

#[derive(Serialize)]
struct Node {
    path: PathBuf,
    major: u64,
    minor: u64,
    /// `ok`, or the name of the error.
    open: String,
}

/// Prints one JSON document; exits 0 whatever it sees.
pub(crate) fn run() -> ExitCode {
    let mut nodes = Vec::new();
    for dir in ["/dev", "/dev/nvidia-caps", "/dev/dri"] {
        look(Path::new(dir), &mut nodes);
    }
    let (leaked, could_make_nodes) = leaks(&nodes);
    let seen = Seen {
        schema: 1,
        leaked,
        could_make_nodes,
        nodes,
        libcuda: library("libcuda.so.1"),
        libnvidia_ml: library("libnvidia-ml.so.1"),
        nvidia_smi: Path::new("/usr/bin/nvidia-smi").exists(),
        visible_devices: std::env::var("NVIDIA_VISIBLE_DEVICES").ok(),
    };
    match serde_json::to_string(&seen) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("gpu-container-probe: {e}");
            ExitCode::FAILURE
        }
    }
}

fn look(dir: &Path, nodes: &mut Vec<Node>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(found) = fs::metadata(&path) else {
            continue;
        };
        let is_ours = dir != Path::new("/dev")
            || path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("nvidia"));
        if is_ours && found.file_type().is_char_device() {
            nodes.push(Node {
                major: major(found.rdev()),
                minor: minor(found.rdev()),
                open: answer(OpenOptions::new().read(true).write(true).open(&path)),
                path,
            });
        }
    }
}

fn answer(opened: std::io::Result<File>) -> String {
    match opened {
        Ok(_) => "ok".into(),
        Err(e) => e
            .raw_os_error()
            .map_or_else(|| e.to_string(), |n| format!("{:?}", Errno::from_raw(n))),
    }
}

/// Tries every GPU the container has no node of, by a node of its own making.
fn leaks(nodes: &[Node]) -> (Vec<u64>, bool) {
    let mut leaked = Vec::new();
    let mut could = false;
    let path = Path::new("/tmp/gpu-container-probe");
    for number in 0..MINORS {
        if nodes
            .iter()
            .any(|n| n.major == NVIDIA_MAJOR && n.minor == number)
        {
            continue;
        }
        let mode = Mode::from_bits_truncate(0o600);
        // A leftover of an earlier round would be tried in its place.
        let _ = fs::remove_file(path);
        if mknod(path, SFlag::S_IFCHR, mode, makedev(NVIDIA_MAJOR, number)).is_err() {
            continue;
        }
        could = true;
        if answer(OpenOptions::new().read(true).write(true).open(path)) != "EPERM" {
            leaked.push(number);
        }
    }
    let _ = fs::remove_file(path);
    (leaked, could)
}

fn library(soname: &str) -> Option<PathBuf> {
    let cache = fs::read("/etc/ld.so.cache").ok()?;
    let entries = ldcache::parse(&cache).ok()?;
    let found = entries.into_iter().find(|e| e.soname == soname)?.path;
    found.exists().then_some(found)
}
