//! What a container sees of GPUs, looked at from within. Loads nothing and needs nothing
//! of the image, so an image with this one file proves an engine.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use gpu_host::ldcache;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use probe_report::{Denied, Library, Node, Report, SCHEMA};

use crate::exit::ExitCode;
use crate::log;

/// Major of `/dev/nvidiaN` and the highest minor tried.
const NVIDIA_MAJOR: u64 = 195;
const MINORS: u64 = 64;
/// Where a node of our own may be made: /dev first, since a container's root file system is
/// often mounted nodev, where no node opens and nothing is learnt.
const OWN_NODES: [&str; 2] = ["/dev/.gpu-container-probe", "/tmp/gpu-container-probe"];

/// Prints one JSON document; exits 0 whatever it sees. With `again` it then waits for a line
/// on its standard input and does the same once more, so that what happens in between shows.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let again = args.iter().any(|a| a == "again");
    match look_and_tell().and_then(|()| if again { wait_and_look() } else { Ok(()) }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::say(&log::bounded(format_args!("gpu-container-probe: {e}")));
            ExitCode::FAILURE
        }
    }
}

fn wait_and_look() -> io::Result<()> {
    // Whoever started us has gone away: nobody wants to know any more.
    if io::stdin().read_line(&mut String::new())? == 0 {
        return Ok(());
    }
    look_and_tell()
}

fn look_and_tell() -> io::Result<()> {
    let mut nodes = Vec::new();
    for dir in ["/dev", "/dev/nvidia-caps", "/dev/dri"] {
        look(Path::new(dir), &mut nodes);
    }
    let cache = fs::read("/etc/ld.so.cache").unwrap_or_default();
    let report = Report {
        schema: SCHEMA,
        denied: others(&nodes),
        nodes,
        libraries: libraries(&cache, Path::exists),
        nvidia_smi: Path::new("/usr/bin/nvidia-smi").exists(),
        visible_devices: std::env::var("NVIDIA_VISIBLE_DEVICES").ok(),
    };
    let mut text = serde_json::to_vec(&report)?;
    text.push(b'\n');
    log::output(&text)
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
fn others(nodes: &[Node]) -> Denied {
    let mut denied = Denied::default();
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

/// What an answer teaches of the GPU of that minor.
fn note(denied: &mut Denied, number: u64, answer: &str) {
    match answer {
        // A nodev mount, or a security module's own rule: nothing about the device rules.
        "EACCES" => {}
        "EPERM" => denied.tried.push(number),
        // ENXIO is an open that the device rules let through to a driver without that GPU.
        _ => {
            denied.tried.push(number);
            denied.leaked.push(number);
        }
    }
}

/// How a node of that GPU opens, or why none can be made.
fn open_own(number: u64) -> Result<String, Errno> {
    let mut why = Errno::ENOENT;
    for path in OWN_NODES.map(Path::new) {
        // A leftover of an earlier round would be tried in its place.
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

/// What a loader's cache names, once each.
fn libraries(cache: &[u8], exists: impl Fn(&Path) -> bool) -> Vec<Library> {
    let mut libraries: Vec<Library> = Vec::new();
    for entry in ldcache::parse(cache).unwrap_or_default() {
        if libraries.iter().all(|l| l.path != entry.path) {
            libraries.push(Library {
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
    fn what_teaches_nothing_is_not_counted() {
        let mut denied = Denied::default();
        for (number, answer) in [(0, "EPERM"), (1, "EACCES"), (2, "ENXIO"), (3, "ok")] {
            note(&mut denied, number, answer);
        }
        assert_eq!(denied.tried, [0, 2, 3]);
        assert_eq!(denied.leaked, [2, 3]);
    }

    #[test]
    fn a_library_is_named_once_and_looked_for() {
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
        );
        let found = libraries(&cache, |p| p == Path::new("/lib/libcuda.so.1"));
        let there: Vec<bool> = found.iter().map(|l| l.exists).collect();
        assert_eq!(there.len(), 2);
        assert_eq!(there.iter().filter(|t| **t).count(), 1);
        assert!(libraries(b"no cache", |_| true).is_empty());
    }
}
