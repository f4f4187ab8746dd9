//! Daemons of the run's own: in its layer, with sockets and data there, so that the host's stay as they are.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{kill_group, run, time_left, wait};

/// How long a daemon may take to answer.
const READY: Duration = Duration::from_secs(20);
/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A daemon that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if wait(&mut self.child, Duration::from_secs(5)).is_none() {
            kill_group(&mut self.child);
        }
    }
}

fn start(name: &str, arguments: &[&str], asked: &[&str]) -> Result<Daemon, String> {
    let log = PathBuf::from(format!("/tmp/{name}.log"));
    let file = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let out = file.try_clone().map_err(|e| e.to_string())?;
    let child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(file)
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{name}: {e}"))?;
    let mut daemon = Daemon { child };
    let end = Instant::now() + READY.min(time_left());
    loop {
        let ended = run(Command::new(asked[0]).args(&asked[1..]), ANSWER);
        if ended.is_success() {
            return Ok(daemon);
        }
        if let Ok(Some(status)) = daemon.child.try_wait() {
            return Err(format!("{name} ended, {status}: {}", last_words(&log)));
        }
        if Instant::now() > end {
            return Err(format!(
                "{name} did not answer within {} s: {}",
                READY.as_secs(),
                ended.failure()
            ));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// What a log says last, without what is only information.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines = text
        .lines()
        .filter(|l| !l.contains("level=info") && !l.trim().is_empty());
    let line = lines.next_back().unwrap_or("it said nothing");
    line.chars().take(300).collect()
}

pub(crate) fn containerd() -> Result<Daemon, String> {
    start("containerd", &[], &["ctr", "version"])
}

/// Without a bridge and without rules of a firewall: the run's containers have no network.
pub(crate) fn dockerd() -> Result<Daemon, String> {
    start(
        "dockerd",
        &[
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
        ],
        &["docker", "version"],
    )
}
