//! The runtime's logs, in the JSON format of runc that engines parse.

use std::fmt::Display;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gpu_inject::policy::Level;

use super::message::bounded;
use super::out::LogFile;

/// The shim's own log, configured by `nvidia-container-runtime.debug`.
pub(crate) struct DebugLog {
    file: Option<LogFile>,
    least: Level,
}

impl DebugLog {
    /// Opens the log, if one is configured. A log that cannot be opened is ignored, because it must
    /// not keep a container from starting.
    pub(crate) fn open(path: Option<&Path>, least: Level) -> Self {
        Self {
            file: path.and_then(opened),
            least,
        }
    }

    pub(crate) fn note(&mut self, level: Level, text: impl Display) {
        let Some(file) = &mut self.file else { return };
        if level <= self.least {
            file.add(&line(level, text));
        }
    }
}

/// Appends a line to the log at this path, if possible.
pub(super) fn append(path: &Path, level: Level, text: impl Display) {
    if let Some(mut file) = opened(path) {
        file.add(&line(level, text));
    }
}

fn opened(path: &Path) -> Option<LogFile> {
    LogFile::open(path).ok().flatten()
}

/// A line in runc's JSON format. The time must be RFC 3339: containerd parses it and shows nothing of
/// a log with invalid times (go-runc, `getLastRuntimeError`).
fn line(level: Level, text: impl Display) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    serde_json::json!({
        "level": level.word(),
        "msg": bounded(format_args!("gpu-container: {text}")),
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
