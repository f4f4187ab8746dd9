//! Tests resource limits (setrlimit(2)) of many sizes, on file size, memory and open files. Each
//! command works as without the limit, or it changes nothing and exits with 1 and a message that
//! says what to do.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;

use fixture::engines::{State, copy, docker, state};

/// Limits on file size, in `ulimit`'s units.
const FILES: &[u64] = &[0, 1, 8, 10, 12, 16, 24, 64];
const MEGABYTES: &[u64] = &[2, 16, 22, 24, 32, 56, 80, 112, 256];

fn limited(root: &Path, flag: &str, limit: u64, args: &[&str]) -> Output {
    let script = format!("ulimit {flag} {limit} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_gpusetup")]);
    command.arg("--root").arg(root).args(args);
    command.env_remove("RUST_BACKTRACE").output().unwrap()
}

/// Whether the kernel or the loader failed, so that gpusetup did not even start.
fn did_not_start(out: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&out.stderr);
    let by_signal = [Signal::SIGSEGV, Signal::SIGKILL, Signal::SIGBUS].map(|s| s as i32);
    let is_loaders = stderr.contains("error while loading shared libraries")
        || stderr.contains("cannot allocate TLS data structures")
        || stderr.contains("cannot allocate memory")
        || stderr.contains("Cannot allocate memory");
    // The first lines of main install the handler that turns an abort into exit code 1. Only before
    // that does an abort end by a signal.
    let is_before_handler = out.status.signal() == Some(Signal::SIGABRT as i32)
        && stderr.starts_with("memory allocation of ")
        && !stderr.contains("gpusetup");
    is_before_handler
        || stderr.is_empty() && out.status.signal().is_some_and(|s| by_signal.contains(&s))
        || out.status.code() == Some(127) && is_loaders
        // The shell could not start it.
        || matches!(out.status.code(), Some(2 | 126)) && stderr.starts_with("sh:")
}

/// A tree, the command to run in it, and the result without a limit.
struct Case {
    tree: tempfile::TempDir,
    args: Vec<String>,
    code: Option<i32>,
    old: State,
    new: State,
}

impl Case {
    fn new(tree: tempfile::TempDir, args: &[&str]) -> Self {
        fs::write(tree.path().join("run/gpusetup.lock"), "").unwrap();
        let old = state(tree.path());
        let done = copy(tree.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
        command.arg("--root").arg(done.path()).args(args);
        let code = command.output().unwrap().status.code();
        Self {
            args: args.iter().map(|&a| a.to_owned()).collect(),
            code,
            old,
            new: state(done.path()),
            tree,
        }
    }

    fn tried(&self, flag: &str, limit: u64) -> bool {
        let tree = copy(self.tree.path());
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let out = limited(tree.path(), flag, limit, &args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        let what = format!(
            "{args:?}, ulimit {flag} {limit}: {:?}: {stderr}",
            out.status
        );
        if did_not_start(&out) {
            return false;
        }
        assert!(
            !stderr.contains("backtrace") && !stderr.contains("panicked"),
            "{what}"
        );
        let at = state(tree.path());
        let code = out.status.code();
        if code == self.code && at == self.new {
            return true;
        }
        // If a recovery fails, the interrupted run is still there to be recovered.
        let is_recover = args == ["recover"] && code == Some(3);
        assert!(code == Some(1) || is_recover, "{what}");
        assert_eq!(at, self.old, "{what}");
        let words = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        let says = match flag {
            "-f" => &["files may have at most", "ulimit -f"][..],
            _ => &["memory"],
        };
        for word in says {
            assert!(
                words.to_lowercase().contains(&word.to_lowercase()),
                "{what}"
            );
        }
        false
    }
}

fn cases() -> Vec<Case> {
    let untouched = || copy(docker("20.10.24", "1.6.20").root());
    let install = ["install", "--yes"];
    let installed = || {
        let tree = untouched();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
        command.arg("--root").arg(tree.path()).args(install);
        assert!(command.output().unwrap().status.success());
        tree
    };
    // The journal of a run that has written all its files but was not completed.
    let interrupted = || {
        let tree = installed();
        let state = tree.path().join("var/lib/gpusetup");
        let text = fs::read_to_string(state.join("receipt.json")).unwrap();
        let journal = fixture::without_checksums(&text);
        fs::write(state.join("journal.json"), journal.to_string()).unwrap();
        fs::remove_file(state.join("receipt.json")).unwrap();
        tree
    };
    vec![
        Case::new(untouched(), &["plan"]),
        Case::new(untouched(), &install),
        Case::new(installed(), &["undo", "--yes"]),
        Case::new(interrupted(), &["recover"]),
        Case::new(interrupted(), &["undo", "--dry-run"]),
        Case::new(untouched(), &["doctor"]),
        Case::new(untouched(), &["bundle", "--output", "-"]),
    ]
}

#[test]
fn a_limit_is_reported_and_nothing_changes() {
    for case in cases() {
        for (flag, limits, factor) in [
            ("-f", FILES, 1),
            ("-v", MEGABYTES, 1024),
            ("-d", MEGABYTES, 1024),
        ] {
            let done = limits
                .iter()
                .filter(|l| case.tried(flag, **l * factor))
                .count();
            assert!(done > 0, "{:?} is never done with ulimit {flag}", case.args);
        }
    }
}

/// A limit on the file to which gpusetup writes its own result.
#[test]
fn truncated_output_is_reported_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let tree = docker("20.10.24", "1.6.20");
    let out = dir.path().join("out");
    let bundle = ["bundle", "--output", out.to_str().unwrap()];
    let cut = limited(tree.root(), "-f", 1, &bundle);
    let stderr = String::from_utf8_lossy(&cut.stderr);
    assert_eq!(cut.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains(&format!("{}: write", out.display())),
        "{stderr}"
    );
    assert!(stderr.contains("at most 512 bytes"), "{stderr}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let script = format!(
        "ulimit -f 1 && exec \"$0\" --root \"$1\" plan >{}",
        out.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_gpusetup")]);
    let cut = command.arg(tree.root()).output().unwrap();
    let stderr = String::from_utf8_lossy(&cut.stderr);
    assert_eq!(cut.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("standard output: File too large") && stderr.contains("512 bytes"),
        "{stderr}"
    );
}

/// A limit on open files: a run that could not be completed is not begun, and the message says
/// which limit to raise.
#[test]
fn too_few_open_files_are_reported_with_a_fix() {
    let tree = docker("20.10.24", "1.6.20");
    let old = state(tree.root());
    let mut refused = 0;
    for limit in 3..12 {
        let tree = copy(tree.root());
        let out = limited(tree.path(), "-n", limit, &["install", "--yes"]);
        if did_not_start(&out) || out.status.code() == Some(0) {
            continue;
        }
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(stderr.contains("ulimit -n"), "{limit}: {stderr}");
        assert_eq!(out.status.code(), Some(1), "{limit}: {stderr}");
        assert_eq!(state(tree.path()), old, "{limit}");
        refused += 1;
    }
    assert!(refused > 0);
}
