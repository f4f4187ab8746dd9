//! Failures, where the engine will show them.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use gpu_inject::Error;

/// What was left undone in a container that starts all the same; engines keep what a hook
/// says with the runtime's messages.
pub(crate) fn notes(notes: &[String]) {
    for note in notes {
        let _ = writeln!(std::io::stderr(), "gpu-container: warning: {note}");
    }
}

/// One line on standard error, and one in the runtime's log: engines show the last
/// `"level":"error"` line of it (containerd go-runc, `getLastRuntimeError`).
pub(crate) fn failure(error: &Error, log: Option<&Path>) {
    // Nobody may be reading; `eprintln` would panic.
    let _ = writeln!(std::io::stderr(), "gpu-container: {error}");
    let Some(log) = log else { return };
    let line = serde_json::json!({"level": "error", "msg": format!("gpu-container: {error}")});
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(log) {
        // Where the log cannot be written, standard error has it.
        let _ = writeln!(file, "{line}");
    }
}
