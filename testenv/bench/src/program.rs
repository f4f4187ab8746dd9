//! Runs programs; an error quotes what the program printed.

use std::fmt::Display;
use std::process::{Command, Stdio};

/// Runs it to its end. Its standard error is part of the error.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let out = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr).trim()
    ))
}

/// An error with what was being done.
pub(crate) fn context<E: Display>(what: &str) -> impl FnOnce(E) -> String {
    let what = what.to_owned();
    move |e| format!("{what}: {e}")
}
