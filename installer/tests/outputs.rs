//! Tests where results are written: to pipes that are closed early, and to something that is not a
//! plain file.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::stat::Mode;

const SPEC: &str = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: '0'\n  \
    containerEdits:\n    env:\n    - A=b\n";

fn gpusetup(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
    command.current_dir(dir).args(args);
    command
}

fn transform(output: &str) -> Vec<&str> {
    let args = ["cdi", "transform", "root", "--from", "/a", "--to", "/b"];
    [&args[..], &["--input", "spec.yaml", "--output", output]].concat()
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("spec.yaml"), SPEC).unwrap();
    fs::create_dir(dir.path().join("host")).unwrap();
    dir
}

#[test]
fn a_named_pipe_as_output_is_written_to_and_kept() {
    let bundle = vec!["--root", "host", "bundle", "--output", "pipe"];
    for (args, start) in [(transform("pipe"), b'-'), (bundle, 0x1f)] {
        // Each case has its own pipe: a child of another test may have inherited a descriptor, and
        // data is left in a pipe until its last descriptor is closed.
        let dir = dir();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
        let child = gpusetup(dir.path(), &args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // Open for reading and writing: if the pipe were replaced, the test must not hang.
        let mut read = fs::OpenOptions::new();
        let mut read = read.read(true).write(true).open(&pipe).unwrap();
        assert!(child.unwrap().wait().unwrap().success(), "{args:?}");
        let kind = fs::symlink_metadata(&pipe).unwrap().file_type();
        assert!(kind.is_fifo(), "{args:?} put something in its place");
        let mut first = [0];
        read.read_exact(&mut first).unwrap();
        assert_eq!(first, [start], "{args:?}");
    }
}

#[test]
fn the_path_of_standard_output_is_standard_output() {
    let dir = dir();
    let out = gpusetup(dir.path(), &transform("/dev/stdout"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    let by_dash = gpusetup(dir.path(), &transform("-")).output().unwrap();
    assert_eq!(out.stdout, by_dash.stdout);
    assert!(out.stdout.starts_with(b"---\n") || out.stdout.starts_with(b"cdiVersion"));
}

/// `gpusetup completions bash | head` does not fail and prints no error.
#[test]
fn a_reader_that_closes_early_causes_no_failure() {
    let dir = dir();
    for args in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["man"],
        &["config", "default"],
        &["--root", "host", "detect"],
    ] {
        let mut child: Child = gpusetup(dir.path(), args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), &*stderr), (Some(0), ""), "{args:?}");
    }
}

/// Half a CDI spec without an error would be worse than none.
#[test]
fn a_full_disk_is_reported() {
    let dir = dir();
    let bundle = vec!["--root", "host", "bundle", "--output", "-"];
    for args in [
        transform("-"),
        vec!["config", "default"],
        vec!["completions", "fish"],
        bundle,
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let out = gpusetup(dir.path(), &args).stdout(full.unwrap()).output();
        let out = out.unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(
            stderr.contains("standard output: No space left"),
            "{stderr}"
        );
    }
}
