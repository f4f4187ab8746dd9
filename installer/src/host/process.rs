//! Reads a program's output while it runs, and kills a program together with its children.

use std::io::Read;
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long to wait for more output once a program has ended: a daemon that it started may keep the
/// pipe open for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// The most bytes of a program's output that are kept.
const OUTPUT: usize = 16 << 20;

/// A program's exit code and output.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the exit code is 0.
    pub fn has_succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The first line that is not blank; standard error comes first.
    pub fn first_line(&self) -> &str {
        let lines = self.stderr.lines().chain(self.stdout.lines());
        let mut lines = lines.map(str::trim).filter(|l| !l.is_empty());
        lines.next().unwrap_or("it said nothing")
    }

    /// The last line that is not blank, of standard error if it has one.
    pub fn last_line(&self) -> &str {
        // docker ends its errors with a pointer to its own `--help`.
        let says = |l: &&str| !l.trim().is_empty() && !l.contains("--help'");
        let last = self.stderr.lines().rfind(says);
        let last = last.or_else(|| self.stdout.lines().rfind(says));
        last.unwrap_or("it said nothing").trim()
    }
}

/// Kills a child and every process in its group.
pub fn kill(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// The output of a pipe, read on a thread.
pub struct PipeReader {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

pub fn reader(mut from: impl Read + Send + 'static) -> std::io::Result<PipeReader> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (ended, end) = mpsc::channel();
    let into = Arc::clone(&bytes);
    std::thread::Builder::new().spawn(move || {
        // Dropped when the thread ends, which wakes up the receiver.
        let _ended: mpsc::Sender<()> = ended;
        let mut part = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut part) {
            match into.lock() {
                // Read on, but keep nothing: otherwise the program would block on a full pipe for
                // ever.
                Ok(bytes) if bytes.len() >= OUTPUT => {}
                Ok(mut bytes) => bytes.extend_from_slice(&part[..length]),
                Err(_) => return,
            }
        }
    })?;
    Ok(PipeReader { bytes, end })
}

impl PipeReader {
    pub fn text(self) -> String {
        let _ = self.end.recv_timeout(DRAIN);
        let bytes = self.bytes.lock().map(|b| b.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
