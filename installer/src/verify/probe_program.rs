//! Runs a program and exchanges lines with it. The program is killed when its handle is dropped.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::Error;
use crate::error::program_fault::ProgramFault;
use crate::host::process::Output;
use crate::host::signals::Interrupt;
use crate::host::{Host, child_wait};

const TICK: Duration = Duration::from_millis(20);
/// How many bytes of a program's output are kept.
const OUTPUT: u64 = 16 << 20;

/// How long to wait, and whether an interrupt ends the wait earlier.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    until: Instant,
    signals: Option<&'a Interrupt>,
}

impl<'a> Patience<'a> {
    /// Waits until that time or until the user interrupts.
    pub fn new(until: Instant, signals: &'a Interrupt) -> Self {
        Self {
            until,
            signals: Some(signals),
        }
    }

    /// The time that is left.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// The same, but from now on for at least that long.
    pub fn at_least(self, time: Duration) -> Self {
        Self {
            until: self.until.max(Instant::now() + time),
            ..self
        }
    }

    /// Waits even if the user interrupts: for the cleanup, which must be done in any case.
    pub fn whatever_comes(limit: Duration) -> Self {
        Self {
            until: Instant::now() + limit,
            signals: None,
        }
    }

    fn ensure_in_time(&self, program: &Program) -> Result<(), Error> {
        if let Some(signals) = self.signals {
            signals.ensure_none()?;
        }
        if Instant::now() < self.until {
            return Ok(());
        }
        let seconds = program.started.elapsed().as_secs();
        Err(Error::program(
            &program.line,
            ProgramFault::TooSlow(seconds),
        ))
    }
}

/// A running program.
pub struct Program {
    line: String,
    started: Instant,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    complained: Receiver<String>,
}

impl Program {
    /// Starts a program.
    pub fn start(host: &Host, argv: &[String]) -> Result<Self, Error> {
        let line = argv.join(" ");
        let broken = Error::not_run(&line);
        let mut command = host.command(argv)?;
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(broken)?;
        let (to, output) = channel();
        let (complains, complained) = channel();
        let readers =
            lines(child.stdout.take(), to).and_then(|()| lines(child.stderr.take(), complains));
        // If the readers could not be started, dropping this kills the program.
        let program = Self {
            started: Instant::now(),
            input: child.stdin.take(),
            lines: output,
            complained,
            child,
            line: line.clone(),
        };
        readers.map_err(broken)?;
        Ok(program)
    }

    /// Runs a program to its end.
    pub fn run(host: &Host, argv: &[String], patience: Patience<'_>) -> Result<Output, Error> {
        Self::start(host, argv)?.end(patience)
    }

    /// The program's next line of output; `None` if its output has ended.
    pub fn hear(&self, patience: Patience<'_>) -> Result<Option<String>, Error> {
        loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => patience.ensure_in_time(self)?,
            }
        }
    }

    /// Sends the program a line. An error is ignored: if the program no longer reads, its output
    /// will show that.
    pub fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// Closes the program's input and waits for its end. Lines read before are not in the output.
    pub fn end(mut self, patience: Patience<'_>) -> Result<Output, Error> {
        drop(self.input.take());
        let line = self.line.clone();
        let broken = Error::not_run(&line);
        let status = loop {
            match self.child.try_wait().map_err(broken)? {
                Some(status) => break status,
                None => patience.ensure_in_time(&self)?,
            }
            child_wait::wait(&self.child, TICK);
        };
        log::debug!(
            "{}: {status} after {:.1} s",
            self.line,
            self.started.elapsed().as_secs_f32()
        );
        Ok(Output {
            code: status.code(),
            stdout: remaining(&self.lines),
            stderr: remaining(&self.complained),
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // The program has a process group of its own, so this kills its children too.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The rest of the output. The wait is limited: another process may hold the pipe open.
fn remaining(from: &Receiver<String>) -> String {
    let end = Instant::now() + Duration::from_secs(1);
    let mut text = String::new();
    while let Ok(line) = from.recv_timeout(end.saturating_duration_since(Instant::now())) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Forwards output line by line on a thread. Output beyond the limit is read and dropped; otherwise
/// the program would block for ever.
fn lines(from: Option<impl Read + Send + 'static>, to: Sender<String>) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    Builder::new()
        .spawn(move || {
            let mut from = BufReader::new(from.take(OUTPUT));
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&line);
                if to.send(text.trim_end_matches('\n').to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
            let _ = io::copy(&mut from.into_inner().into_inner(), &mut io::sink());
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sh(script: &str) -> Program {
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let argv = ["sh", "-c", script].map(str::to_owned);
        Program::start(&host, &argv).unwrap()
    }

    fn patience(milliseconds: u64) -> Patience<'static> {
        Patience::whatever_comes(Duration::from_millis(milliseconds))
    }

    #[test]
    fn output_is_read_while_the_program_waits_for_input() {
        let mut program = sh("echo one; read x; echo two $x; echo three >&2; exit 3");
        let line = program.hear(patience(10_000)).unwrap();
        assert_eq!(line.as_deref(), Some("one"));
        program.tell("again");
        let line = program.hear(patience(10_000)).unwrap();
        assert_eq!(line.as_deref(), Some("two again"));
        assert_eq!(program.hear(patience(10_000)).unwrap(), None);
        let output = program.end(patience(10_000)).unwrap();
        assert_eq!((output.code, output.last_line()), (Some(3), "three"));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let program = sh("sleep 1000 & echo $!; wait");
        let child = program.hear(patience(10_000)).unwrap().unwrap();
        let started = Instant::now();
        assert!(program.hear(patience(50)).is_err());
        assert!(program.end(patience(50)).is_err());
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z")
        };
        while !is_gone() && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(TICK);
        }
        assert!(is_gone());
    }

    /// conmon and similar programs keep the pipe open after their parent has ended.
    #[test]
    fn a_pipe_held_open_by_another_process_does_not_delay_the_end() {
        let program = sh("setsid sleep 5 & echo here");
        let output = program.end(patience(10_000)).unwrap();
        assert_eq!(output.stdout, "here\n");
    }
}
