//! How long a program is waited for: for a time in all, or as long as it does something.
//!
//! A program that waits for a device uses no processor time, while one on a busy or emulated machine uses what it gets.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

/// How often it is looked whether the program does something.
const STEP: Duration = Duration::from_millis(500);

/// How long a program is waited for.
#[derive(Clone, Copy, Debug)]
pub struct WaitLimit {
    /// In all.
    pub all: Duration,
    /// Without that it has used processor time; `None` for no such limit.
    pub idle: Option<Duration>,
}

impl WaitLimit {
    /// That long in all.
    pub fn all(all: Duration) -> Self {
        Self { all, idle: None }
    }
}

/// The wait for one program.
pub struct Waited {
    patience: WaitLimit,
    began: Instant,
    /// When it was last seen to have done something, and the processor time that it had used by then.
    busy: (Instant, Option<u64>),
}

impl Waited {
    /// Begins with now.
    pub fn new(patience: WaitLimit) -> Self {
        let now = Instant::now();
        Self {
            patience,
            began: now,
            busy: (now, None),
        }
    }

    /// Whether the program is not waited for any longer.
    pub fn is_over(&mut self, child: &Child) -> bool {
        if self.began.elapsed() >= self.patience.all {
            return true;
        }
        let Some(idle) = self.patience.idle else {
            return false;
        };
        let used = processor_time(child.id());
        if used.is_some() && used != self.busy.1 {
            self.busy = (Instant::now(), used);
        }
        self.busy.0.elapsed() >= idle
    }

    /// How long to wait before the next look.
    pub fn step(&self) -> Duration {
        let rest = self.patience.all.saturating_sub(self.began.elapsed());
        match self.patience.idle {
            Some(idle) => rest.min(STEP).min(idle),
            None => rest,
        }
    }
}

/// The clock ticks that a process has used, in user mode and in the kernel (`proc_pid_stat(5)`, fields 14 and 15).
fn processor_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have spaces and brackets.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Whether a program is given up within this time.
    fn is_given_up(command: &str, patience: WaitLimit, within: Duration) -> bool {
        let mut child = Command::new("sh").args(["-c", command]).spawn().unwrap();
        let mut waited = Waited::new(patience);
        let end = Instant::now() + within;
        let mut is_over = false;
        while Instant::now() < end && !is_over {
            std::thread::sleep(waited.step().min(Duration::from_millis(50)));
            is_over = waited.is_over(&child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        is_over
    }

    #[test]
    fn a_program_that_works_is_waited_for_longer_than_one_that_waits() {
        let patience = WaitLimit {
            all: Duration::from_secs(60),
            idle: Some(Duration::from_secs(1)),
        };
        let some = Duration::from_secs(3);
        assert!(is_given_up("exec sleep 1000", patience, some * 10));
        assert!(!is_given_up("while :; do :; done", patience, some));
        let short = WaitLimit {
            all: Duration::from_millis(200),
            ..patience
        };
        assert!(is_given_up("while :; do :; done", short, some * 10));
    }
}
