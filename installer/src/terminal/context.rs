//! The values that every step of a run needs, including its verification, passed as one parameter instead of three.

use crate::host::Host;
use crate::host::signals::Interrupt;
use crate::terminal::progress::Progress;

/// The host, the signals that may end the run, and where progress is reported.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// The host that is changed.
    pub host: &'a Host,
    /// Whether the user wants the run to end.
    pub signals: &'a Interrupt,
    /// Where progress is reported while the run goes on.
    pub progress: &'a Progress,
}
