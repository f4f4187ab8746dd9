//! Runs programs with a time limit, so that none can block the run, and neither can a process that a program leaves
//! behind.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How much of a program's output is kept, in bytes.
const MAX_OUTPUT: u64 = 1024 * 1024;

static DEADLINE: Mutex<Option<Instant>> = Mutex::new(None);

/// From that moment on no program is waited for any longer, whatever its own limit.
pub(crate) fn set_deadline(from_now: Duration) {
    let mut deadline = DEADLINE.lock().unwrap_or_else(PoisonError::into_inner);
    *deadline = Some(Instant::now() + from_now);
}

/// How much of the whole run's time is left.
pub(crate) fn time_left() -> Duration {
    let deadline = DEADLINE.lock().unwrap_or_else(PoisonError::into_inner);
    deadline.map_or(Duration::MAX, |d| {
        d.saturating_duration_since(Instant::now())
    })
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct CommandOutcome {
    /// None: it did not end in time and was killed.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
    /// Set when it could not be started or was killed.
    pub(crate) error: Option<String>,
}

impl CommandOutcome {
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_some_and(|s| s.success())
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.and_then(|s| s.code())
    }

    /// One line about a failure, made of the last lines that the program printed.
    pub(crate) fn failure(&self) -> String {
        if let Some(why) = &self.error {
            return why.clone();
        }
        let lines = self.err.trim().lines().chain(self.out.trim().lines());
        // The last line is often a hint ("See 'docker run --help'").
        let lines = lines
            .filter(|l| !l.trim().is_empty() && !l.starts_with("See '"))
            .map(str::trim);
        let text: Vec<&str> = lines.collect();
        let text = text.join(" / ");
        let status = self.status.map_or_else(String::new, |s| s.to_string());
        match text.char_indices().nth(400) {
            Some((end, _)) => format!("{status}: {}…", &text[..end]),
            None => format!("{status}: {text}"),
        }
    }

    pub(crate) fn not_started(program: &str, why: &str) -> Self {
        Self {
            status: None,
            out: String::new(),
            err: String::new(),
            took: Duration::ZERO,
            error: Some(format!("{program}: {why}")),
        }
    }
}

/// Runs the program to its end, or kills it with its whole process group.
pub(crate) fn run(command: &mut Command, limit: Duration) -> CommandOutcome {
    let program = command.get_program().to_string_lossy().into_owned();
    let limit = limit.min(time_left());
    if limit.is_zero() {
        return CommandOutcome::not_started(&program, "not started, since the run's time is over");
    }
    let start = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => return CommandOutcome::not_started(&program, &e.to_string()),
    };
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    let status = wait(&mut child, limit);
    let took = start.elapsed();
    let error = status
        .is_none()
        .then(|| format!("{program} did not end within {:.0} s", limit.as_secs_f64()));
    CommandOutcome {
        status,
        out: received(&out),
        err: received(&err),
        took,
        error,
    }
}

/// Waits for the child to end; past the limit kills its whole process group.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_micros(500)),
            _ => {
                kill_group(child);
                return None;
            }
        }
    }
}

/// Kills a child that leads a process group, and the group.
pub(crate) fn kill_group(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut text);
            // Read the rest as well: otherwise the program would block on a full pipe.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        let _ = send.send(String::from_utf8_lossy(&text).into_owned());
    });
    receive
}

/// What the reader thread has read. Nothing if a process that outlived its killed parent still holds the pipe open.
fn received(reader: &Receiver<String>) -> String {
    reader
        .recv_timeout(Duration::from_secs(2))
        .unwrap_or_default()
}

/// Finds a program on PATH, as the shell would.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|p| {
            use std::os::unix::fs::PermissionsExt;
            p.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; sleep 60 & wait"]);
        let outcome = run(&mut command, Duration::from_millis(300));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(outcome.status, None);
        assert_eq!(outcome.out, "started\n");
        assert!(outcome.failure().contains("did not end"), "{outcome:?}");
    }

    #[test]
    fn output_that_another_process_holds_open_is_not_waited_for() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 8 & echo done"]);
        let outcome = run(&mut command, Duration::from_secs(4));
        assert!(outcome.is_success());
        assert!(start.elapsed() < Duration::from_secs(6));
    }

    #[test]
    fn a_failure_shows_the_programs_message() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let outcome = run(&mut command, Duration::from_secs(4));
        assert_eq!(outcome.code(), Some(3));
        assert!(
            outcome.failure().ends_with("no such thing"),
            "{}",
            outcome.failure()
        );
        let missing = run(
            &mut Command::new("/no/such/program"),
            Duration::from_secs(1),
        );
        assert!(missing.failure().contains("/no/such/program"));
    }
}
