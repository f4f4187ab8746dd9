//! Reports which GPUs a container has, as seen from inside it. It loads no library and needs nothing from the image,
//! so an image with only this file suffices to test an engine.

mod driver;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use gpu_host::ldcache;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use probe_report::{Report, ReportedDenials, ReportedLibrary, ReportedNode, SCHEMA};

use crate::exit::ExitCode;
use crate::log;

/// Major of `/dev/nvidiaN`.
const NVIDIA_MAJOR: u64 = 195;
/// Number of minors that are tried.
const MINORS: u64 = 64;
/// Paths for making a test node. /dev comes first, because a container's root file system is often
/// mounted nodev, where no node can be opened and the test shows nothing.
const OWN_NODES: [&str; 2] = ["/dev/.gpu-container-probe", "/tmp/gpu-container-probe"];

/// Prints the report as one JSON document and exits with 0, whatever it finds. With the argument `again` it then
/// waits for a line on standard input and reports again, which shows changes in between. With `stay` it stays until
/// it is killed: CRI has no simple way to write to standard input, but can run the program again in the same
/// container.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let has = |name| args.iter().any(|a| a == name);
    let then = || {
        if has("again") {
            return wait_and_report();
        }
        while has("stay") {
            nix::unistd::pause();
        }
        Ok(())
    };
    match report().and_then(|()| then()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::say(&log::bounded(format_args!("gpu-container-probe: {e}")));
            ExitCode::FAILURE
        }
    }
}

fn wait_and_report() -> io::Result<()> {
    // The end of the input means that our caller is gone, so no report is needed.
    if io::stdin().read_line(&mut String::new())? == 0 {
        return Ok(());
    }
    report()
}

fn report() -> io::Result<()> {
    let mut nodes = Vec::new();
    for dir in ["/dev", "/dev/nvidia-caps", "/dev/dri"] {
        add_nodes(Path::new(dir), &mut nodes);
    }
    let cache = fs::read("/etc/ld.so.cache").unwrap_or_default();
    let report = Report {
        schema: SCHEMA,
        denied: try_other_gpus(&nodes),
        nodes,
        libraries: libraries(&cache, Path::exists),
        nvidia_smi: Path::new("/usr/bin/nvidia-smi").exists(),
        visible_devices: std::env::var("NVIDIA_VISIBLE_DEVICES").ok(),
        driver: driver::answers(),
    };
    let mut text = serde_json::to_vec(&report)?;
    text.push(b'\n');
    log::output(&text)
}

fn add_nodes(dir: &Path, nodes: &mut Vec<ReportedNode>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let is_gpu_node = dir != Path::new("/dev")
            || path
                .file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("nvidia"));
        if is_gpu_node && metadata.file_type().is_char_device() {
            nodes.push(ReportedNode {
                major: major(metadata.rdev()),
                minor: minor(metadata.rdev()),
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

/// Tries to open every GPU that the container has no node for, with a node made for the test.
fn try_other_gpus(nodes: &[ReportedNode]) -> ReportedDenials {
    let mut denied = ReportedDenials::default();
    let has = |number| {
        nodes
            .iter()
            .any(|n| n.major == NVIDIA_MAJOR && n.minor == number)
    };
    for number in (0..MINORS).filter(|n| !has(*n)) {
        match open_own(number) {
            Ok(answer) => note(&mut denied, number, &answer),
            Err(why) => denied.mknod = Some(format!("{why:?}")),
        }
    }
    denied
}

/// Records what the result of opening the GPU with this minor shows about the device rules.
fn note(denied: &mut ReportedDenials, number: u64, answer: &str) {
    match answer {
        // Caused by a nodev mount or a security module, so it shows nothing about the device rules.
        "EACCES" => {}
        "EPERM" => denied.tried.push(number),
        // Also ENXIO: the device rules allowed the open, but the driver has no such GPU.
        _ => {
            denied.tried.push(number);
            denied.leaked.push(number);
        }
    }
}

/// The result of opening a new node for the GPU with this minor, or why no node can be made.
fn open_own(number: u64) -> Result<String, Errno> {
    let mut why = Errno::ENOENT;
    for path in OWN_NODES.map(Path::new) {
        // Removes a leftover of an earlier run, which would be opened instead.
        let _ = fs::remove_file(path);
        let mode = Mode::from_bits_truncate(0o600);
        match mknod(path, SFlag::S_IFCHR, mode, makedev(NVIDIA_MAJOR, number)) {
            Ok(()) => {
                let answer = answer(OpenOptions::new().read(true).write(true).open(path));
                let _ = fs::remove_file(path);
                return Ok(answer);
            }
            Err(e) => why = e,
        }
    }
    Err(why)
}

/// The libraries in a loader cache, without duplicate paths.
fn libraries(cache: &[u8], exists: impl Fn(&Path) -> bool) -> Vec<ReportedLibrary> {
    let mut libraries: Vec<ReportedLibrary> = Vec::new();
    for entry in ldcache::parse(cache).unwrap_or_default() {
        if libraries.iter().all(|l| l.path != entry.path) {
            libraries.push(ReportedLibrary {
                exists: exists(&entry.path),
                name: entry.soname,
                path: entry.path,
            });
        }
    }
    libraries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_shows_nothing_is_not_counted() {
        let mut denied = ReportedDenials::default();
        for (number, answer) in [(0, "EPERM"), (1, "EACCES"), (2, "ENXIO"), (3, "ok")] {
            note(&mut denied, number, answer);
        }
        assert_eq!(denied.tried, [0, 2, 3]);
        assert_eq!(denied.leaked, [2, 3]);
    }

    #[test]
    fn each_library_is_listed_once_with_whether_it_exists() {
        let library = |soname: &str, path: &str| gpu_inject::Library {
            soname: soname.into(),
            path: path.into(),
            compat32: false,
        };
        let cache = gpu_inject::rootfs_edits::ld_cache::with_libraries(
            &[],
            &[
                library("libcuda.so.1", "/lib/libcuda.so.1"),
                library("libcuda.so.2", "/lib/libcuda.so.1"),
                library("libgone.so.1", "/lib/libgone.so.1"),
            ],
        )
        .unwrap();
        let listed = libraries(&cache, |p| p == Path::new("/lib/libcuda.so.1"));
        assert_eq!(listed.len(), 2);
        assert_eq!(listed.iter().filter(|l| l.exists).count(), 1);
        assert!(libraries(b"no cache", |_| true).is_empty());
    }
}
