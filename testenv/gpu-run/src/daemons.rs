//! Daemons that the run starts for itself: their sockets and data are in the run's layer, so that the host's daemons
//! stay untouched.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{kill_group, run, time_left, wait};

/// How long a daemon may take until it answers.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long one query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// A daemon that is stopped when this is dropped.
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

fn start(name: &str, arguments: &[&str], ready_check: &[&str]) -> Result<Daemon, String> {
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
    let end = Instant::now() + READY_LIMIT.min(time_left());
    loop {
        let outcome = run(
            Command::new(ready_check[0]).args(&ready_check[1..]),
            QUERY_LIMIT,
        );
        if outcome.is_success() {
            return Ok(daemon);
        }
        if let Ok(Some(status)) = daemon.child.try_wait() {
            return Err(format!("{name} ended, {status}: {}", last_line(&log)));
        }
        if Instant::now() > end {
            return Err(format!(
                "{name} did not answer within {} s: {}",
                READY_LIMIT.as_secs(),
                outcome.failure()
            ));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The last line of a log that is more than information.
fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines = text
        .lines()
        .filter(|l| !l.contains("level=info") && !l.trim().is_empty());
    let line = lines.next_back().unwrap_or("the log is empty");
    line.chars().take(300).collect()
}

pub(crate) fn containerd() -> Result<Daemon, String> {
    start("containerd", &[], &["ctr", "version"])
}

/// Without a bridge and without firewall rules: the run's containers have no network.
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
