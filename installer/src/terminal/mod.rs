//! What the user sees and is asked, on standard error and output and in the log; without secrets.

pub mod logging;
pub mod panics;
pub mod progress;
pub mod prompt;
pub mod redact;
pub mod screen;
pub mod stdio;
