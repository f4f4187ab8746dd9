//! Tests that no command reads a driver's library whole: a library can have 100 MB, and its headers
//! are a few kB. Needs root, for device nodes.
#![allow(clippy::unwrap_used)]

mod doctor_host;

use std::fs;
use std::process::{Command, Stdio};

use doctor_host::{Base, Host, LIB, VERSION};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How many bytes a command may read in total, including its own libraries and Debian's package
/// lists.
const MOST_READ: u64 = 8 << 20;
/// How many bytes of memory it may use; a mapped file counts as memory.
const MOST_MEMORY: u64 = 64 << 20;

/// How many bytes a command and its children read, and its exit code. The count is read before the
/// process is reaped, since it is gone afterwards.
fn bytes_read(command: &mut Command) -> (u64, Option<i32>) {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
    waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    let io = fs::read_to_string(format!("/proc/{id}/io")).unwrap();
    let code = child.wait().unwrap().code();
    let line = io.lines().find_map(|l| l.strip_prefix("rchar: ")).unwrap();
    (line.parse().unwrap(), code)
}

/// The peak memory of any child so far.
fn most_memory() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    u64::try_from(usage.max_rss()).unwrap() << 10
}

/// This is one test because the peak memory is that of all children.
#[test]
fn no_command_reads_a_library_whole() {
    let Some(host) = Host::untouched(Base::Debian) else {
        return;
    };
    let library = host.path(LIB).join(format!("libcuda.so.{VERSION}"));
    assert!(library.metadata().unwrap().len() > 90_000_000);
    let bundle = host.path("bundle.tar.gz").display().to_string();
    for (args, wanted) in [
        (&["detect"][..], 0),
        (&["cdi", "generate"], 0),
        (&["plan"], 2),
        (&["install", "--yes"], 0),
        (&["cdi", "refresh"], 0),
        (&["cdi", "check"], 0),
        (&["cdi", "list"], 0),
        (&["system", "create-dev-char-symlinks"], 0),
        (&["doctor"], 0),
        (&["bundle", "--output", &bundle], 0),
        (&["undo", "--yes"], 0),
    ] {
        let (read, code) = bytes_read(&mut host.command(args));
        assert_eq!(code, Some(wanted), "{args:?}");
        assert!(read < MOST_READ, "{args:?} read {read} bytes");
        let memory = most_memory();
        assert!(memory < MOST_MEMORY, "{args:?} used {memory} bytes");
    }
    // Proves that a program which reads a whole library is noticed.
    let from = format!("if={}", library.display());
    let dd = ["of=/dev/null", "bs=200M", &from];
    let (read, code) = bytes_read(Command::new("dd").args(dd));
    assert!(code == Some(0) && read > MOST_READ, "dd read {read} bytes");
    assert!(most_memory() > MOST_MEMORY);
}
