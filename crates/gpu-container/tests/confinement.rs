//! The privileges that hooks have dropped by the time they read the container's state, and what the filter refuses.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gpu_inject::live::{Capability, confine};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

fn is_root() -> bool {
    skips::has(&[skips::Need::Root])
}

/// Starts a hook that waits for its state on standard input, with one descriptor too many.
fn start_waiting_hook(
    dir: &std::path::Path,
    name: &str,
    word: &str,
) -> (Child, BTreeMap<String, String>) {
    let hook = dir.join(name);
    symlink(env!("CARGO_BIN_EXE_gpu-container"), &hook).unwrap();
    let script = format!(
        "exec 7</etc/passwd; umask 0; trap '' ALRM XCPU XFSZ; exec {} {word}",
        hook.display()
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let (mut all, mut before) = (SigSet::all(), SigSet::empty());
    all.remove(Signal::SIGCHLD);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&all), Some(&mut before)).unwrap();
    let started = command.spawn();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None).unwrap();
    let mut child = started.unwrap();
    let path = format!("/proc/{}/status", child.id());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let own_line = status.lines().find(|l| l.starts_with("CapPrm:")).unwrap();
    // The hook installs the filter, then drops capabilities, then waits for its input.
    for _ in 0..3000 {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains("\nSeccomp:\t2\n") && !text.contains(own_line) {
            let pairs = text.lines().filter_map(|l| l.split_once(":\t"));
            let status = pairs.map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
            return (child, status.collect());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("never confined");
}

/// The limit on locked memory of a hook. The one that loads device programs has none, or the highest that it may have.
fn locked_memory(word: &str, permitted: u64) -> &'static str {
    const SYS_RESOURCE: u32 = 24;
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max locked memory"));
    let mut own = line.unwrap()["Max locked memory".len()..].split_whitespace();
    let (soft, hard) = (own.next().unwrap(), own.next().unwrap());
    let limit = match word {
        "prestart" if permitted >> SYS_RESOURCE & 1 == 1 => "unlimited",
        "prestart" => hard,
        _ => soft,
    };
    limit.to_owned().leak()
}

/// A hook's failure is logged to the journal: the socket is opened before the confinement.
#[test]
fn a_failing_hook_is_logged_to_the_journal() {
    if !is_root() {
        return;
    }
    for (name, word) in [
        ("gpu-container-hook", "cdi"),
        ("nvidia-container-runtime-hook", "prestart"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let journal = UnixDatagram::bind(dir.path().join("socket")).unwrap();
        journal
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let hook = dir.path().join(name);
        symlink(env!("CARGO_BIN_EXE_gpu-container"), &hook).unwrap();
        // Mounted over the machine's socket, only for the hook.
        let script = format!(
            "exec 3</etc/passwd; mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
             mount --bind {0} /run/systemd/journal && echo nonsense | exec {1} {word}",
            dir.path().display(),
            hook.display(),
        );
        let unshared = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .output();
        let out = unshared.unwrap();
        assert!(!out.status.success(), "{name}");
        let stderr = String::from_utf8(out.stderr).unwrap();
        let mut buffer = [0; 4096];
        let length = journal.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]);
        let logged = stderr.trim().trim_start_matches("gpu-container: ");
        assert!(
            !logged.is_empty() && message.contains(&logged.replace('\n', " ")),
            "{name}: {stderr}, the journal: {message}"
        );
    }
}

#[test]
fn hooks_drop_their_privileges_before_they_read_their_state() {
    if !is_root() {
        return;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let hex = status
        .lines()
        .find_map(|l| l.strip_prefix("CapPrm:\t"))
        .unwrap();
    let permitted = u64::from_str_radix(hex, 16).unwrap();
    let bits = |all: &[u32]| all.iter().fold(0u64, |mask, bit| mask | 1 << bit) & permitted;
    // DAC_OVERRIDE, FOWNER, SYS_CHROOT and SYS_ADMIN; and those needed to enter a container.
    let cdi = [1, 3, 18, 21];
    let prestart = [1, 3, 6, 7, 12, 18, 19, 21, 34, 39];
    for (name, word, keeps) in [
        ("gpu-container-hook", "cdi", bits(&cdi)),
        ("nvidia-container-runtime-hook", "prestart", bits(&prestart)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, status) = start_waiting_hook(dir.path(), name, word);
        // The bounding set limits programs that are started. Under the filter none can be started, as
        // the test below shows.
        for set in ["CapPrm", "CapEff"] {
            let has = u64::from_str_radix(&status[set], 16).unwrap();
            assert_eq!(has, keeps, "{name} {set}");
        }
        assert_eq!(status["CapInh"], "0000000000000000");
        assert_eq!(status["CapAmb"], "0000000000000000");
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["Seccomp"], "2");
        assert_eq!(status["Umask"], "0022");
        // The shell that started it had all of them blocked, and three ignored.
        let signals = |set: &str| u64::from_str_radix(&status[set], 16).unwrap();
        let bit = |signal: Signal| 1 << (signal as u64 - 1);
        assert_eq!(signals("SigBlk"), 0, "{name}");
        let survived = signals("SigIgn") | signals("SigCgt");
        // By default these end the process.
        let ends = bit(Signal::SIGALRM) | bit(Signal::SIGXCPU);
        assert_eq!(survived & ends, 0, "{name}: {survived:x}");
        let fails = bit(Signal::SIGXFSZ) | bit(Signal::SIGPIPE);
        assert_eq!(survived & fails, fails, "{name}: {survived:x}");
        let proc = format!("/proc/{}", child.id());
        let mut open: Vec<String> = fs::read_dir(format!("{proc}/fd"))
            .unwrap()
            .map(|e| e.unwrap())
            // A socket to the journal, if that runs.
            .filter(|e| !fs::read_link(e.path()).unwrap().starts_with("socket:"))
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"], "{name}");
        let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
        for (what, limit) in [
            // 0 would not keep it from a program that core_pattern names.
            ("Max core file size", "1"),
            ("Max cpu time", "60"),
            // It would hold for a log of the host's, too.
            ("Max file size", "unlimited"),
            ("Max address space", "536870912"),
            ("Max locked memory", locked_memory(word, permitted)),
        ] {
            let line = limits.lines().find(|l| l.starts_with(what)).unwrap();
            let has = line[what.len()..].split_whitespace().next().unwrap();
            assert_eq!(has, limit, "{name}: {what}");
        }
        drop(child.stdin.take());
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn a_confined_process_can_neither_start_programs_nor_open_sockets() {
    if !is_root() {
        return;
    }
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "inside", "--nocapture"])
        .env("OF_THE_IMAGE", "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && output.contains("confined"),
        "{output}"
    );
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn inside() {
    let dir = tempfile::tempdir().unwrap();
    confine(&[Capability::DacOverride], || {});
    assert_eq!(std::env::vars().count(), 0);
    let denied = |kind| assert_eq!(kind, ErrorKind::PermissionDenied);
    denied(Command::new("/bin/true").status().unwrap_err().kind());
    denied(TcpListener::bind("127.0.0.1:0").unwrap_err().kind());
    let node = dir.path().join("node");
    let made = nix::sys::stat::mknod(
        &node,
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::empty(),
        nix::sys::stat::makedev(1, 3),
    );
    assert_eq!(made, Err(nix::errno::Errno::EPERM));
    // Root needs no capability for another process of root's.
    let parent = nix::unistd::getppid();
    assert_eq!(
        nix::sys::signal::kill(parent, None),
        Err(nix::errno::Errno::EPERM)
    );
    // Not a right it kept.
    assert!(nix::unistd::chown(dir.path(), Some(1.into()), None).is_err());
    // Operations that a hook needs must still work.
    fs::write(dir.path().join("file"), "x").unwrap();
    println!("confined");
}
