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

/// In runc's JSON form. containerd reads the last line's time as RFC 3339, and shows nothing of
/// a log whose times it cannot read (go-runc, `getLastRuntimeError`).
fn line(level: Level, text: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    serde_json::json!({
        "level": level.word(),
        "msg": format!("gpu-container: {text}"),
        "time": rfc3339(since.map_or(0, |d| d.as_secs())),
    })
    .to_string()
}

/// Seconds since 1970 as a time of UTC.
fn rfc3339(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        days + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_containerd_reads_them() {
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_795_622_995, "2026-11-25T16:09:55Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), wanted);
        }
    }
}
