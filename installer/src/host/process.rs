//! What a program said, read while it runs; and its end, with all that it has started.

use std::io::Read;
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long output is waited for once a program has ended: a daemon that it started may keep
/// the pipe for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// More than this of a program's output is not kept.
const OUTPUT: usize = 16 << 20;

/// What a program said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Exit code 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The first line that says something, standard error first.
    pub fn first_line(&self) -> &str {
        let lines = self.stderr.lines().chain(self.stdout.lines());
        let mut lines = lines.map(str::trim).filter(|l| !l.is_empty());
        lines.next().unwrap_or("it said nothing")
    }

    /// The last line that says something, standard error first.
    pub fn last_line(&self) -> &str {
        // docker ends its errors by naming its own `--help`.
        let says = |l: &&str| !l.trim().is_empty() && !l.contains("--help'");
        let last = self.stderr.lines().rfind(says);
        let last = last.or_else(|| self.stdout.lines().rfind(says));
        last.unwrap_or("it said nothing").trim()
    }
}

/// With all that it has started.
pub fn kill(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// What comes out of a pipe, read on a thread.
pub struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

pub fn reader(mut from: impl Read + Send + 'static) -> std::io::Result<Reader> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (ended, end) = mpsc::channel();
    let into = Arc::clone(&bytes);
    std::thread::Builder::new().spawn(move || {
        // Dropped at the end, which is what is waited for.
        let _ended: mpsc::Sender<()> = ended;
        let mut part = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut part) {
            match into.lock() {
                // What comes after is read all the same, or the program would wait for ever.
                Ok(bytes) if bytes.len() >= OUTPUT => {}
                Ok(mut bytes) => bytes.extend_from_slice(&part[..length]),
                Err(_) => return,
            }
        }
    })?;
    Ok(Reader { bytes, end })
}

impl Reader {
    pub fn text(self) -> String {
        let _ = self.end.recv_timeout(DRAIN);
        let bytes = self.bytes.lock().map(|b| b.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
