//! What every step of a run works with, in place of three parameters of every function.

use crate::host::Host;
use crate::host::signals::Interrupt;
use crate::terminal::progress::Progress;

/// The host, who may end the run, and where it says how far it is.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The host that is changed.
    pub host: &'a Host,
    /// Whether the user wants the run to end.
    pub signals: &'a Interrupt,
    /// Lines while it goes on.
    pub progress: &'a Progress,
}
