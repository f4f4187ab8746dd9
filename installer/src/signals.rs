//! Ctrl-C and its kin end a run between two steps, never within one.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::Error;

/// Signals held back while this lives.
pub struct Held(SignalFd);

/// Holds SIGINT, SIGTERM and SIGHUP back.
pub fn hold() -> Result<Held, Error> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    let held = set
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC));
    held.map(Held)
        .map_err(|e| Error::failed(format!("hold signals back: {e}"), ""))
}

impl Held {
    /// An error once one has come.
    pub fn check(&self) -> Result<(), Error> {
        match self.0.read_signal() {
            Ok(Some(_)) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }
}
