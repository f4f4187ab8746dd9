//! Lets Ctrl-C and similar signals end a run between two steps, never within one.
//!
//! A handler records the signals. They are not blocked, because a program that is started while
//! they are blocked inherits that, and so would a daemon that it starts and every container of that
//! daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use crate::error::Error;

/// Reports whether a signal has arrived.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

/// From here on, SIGINT, SIGTERM and SIGHUP are recorded.
pub fn hold() -> Result<Interrupt, Error> {
    let came = Arc::new(AtomicBool::new(false));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let number = signal as i32;
        // nohup(1) and background jobs of a shell ignore signals on purpose.
        if is_ignored(&status, number) {
            continue;
        }
        signal_hook::flag::register(number, Arc::clone(&came)).map_err(|source| Error::Signal {
            signal,
            source: Arc::new(source),
        })?;
    }
    Ok(Interrupt(came))
}

/// The line is a mask in hexadecimal whose lowest bit is signal 1 (`proc_pid_status(5)`).
fn is_ignored(status: &str, signal: i32) -> bool {
    let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

impl Interrupt {
    /// A value as if a signal had arrived, or none. A real signal would reach every test of the process.
    #[cfg(test)]
    pub fn noted(came: bool) -> Self {
        Self(Arc::new(AtomicBool::new(came)))
    }

    /// Fails once a signal has arrived.
    pub fn ensure_none(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_ignored_by_nohup_stay_ignored() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000003\n";
        assert!(is_ignored(status, 1) && is_ignored(status, 2));
        assert!(!is_ignored(status, 15) && !is_ignored("", 1));
    }
}
