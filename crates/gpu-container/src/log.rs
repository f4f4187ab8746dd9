//! What happened, where an engine or an administrator will look for it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gpu_inject::Error;
use gpu_inject::policy::Level;

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
    if let Some(mut file) = append(log) {
        // Where the log cannot be written, standard error has it.
        let _ = writeln!(file, "{}", line(Level::Error, &error.to_string()));
    }
}

/// What is no reason to stop, in the runtime's log or, where there is none, on standard
/// error: an engine takes a runtime's standard error for a failure's text.
pub(crate) fn warning_in(log: Option<&Path>, text: &str) {
    match log.and_then(append) {
        Some(mut file) => drop(writeln!(file, "{}", line(Level::Warning, text))),
        None => warning(text),
    }
}

/// The same of a hook, on standard error.
pub(crate) fn warning(text: &str) {
    let _ = writeln!(std::io::stderr(), "gpu-container: warning: {text}");
}

/// The runtime's own log, of `nvidia-container-runtime.debug`.
pub(crate) struct Journal {
    file: Option<File>,
    least: Level,
}

impl Journal {
    /// Opened only where there is one to write. One that cannot be written keeps no
    /// container from starting.
    pub(crate) fn open(path: Option<&Path>, least: Level) -> Self {
        Self {
            file: path.and_then(append),
            least,
        }
    }

    pub(crate) fn note(&mut self, level: Level, text: &str) {
        let Some(file) = &mut self.file else { return };
        if level <= self.least {
            let _ = writeln!(file, "{}", line(level, text));
        }
    }
}

fn append(path: &Path) -> Option<File> {
    OpenOptions::new().create(true).append(true).open(path).ok()
}

/// In runc's JSON form; the time in seconds since 1970.
fn line(level: Level, text: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = since.map_or(0.0, |d| d.as_secs_f64());
    serde_json::json!({
        "level": level.word(),
        "msg": format!("gpu-container: {text}"),
        "time": format!("{time:.3}"),
    })
    .to_string()
}
