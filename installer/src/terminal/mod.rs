//! Talks to the user: output, progress, questions and the log, with secrets masked.

pub mod context;
pub mod logging;
pub mod panics;
pub mod progress;
pub mod prompt;
pub mod redact;
pub mod screen;
pub mod stdio;
