//! The runtime's logs, in the JSON format of runc that engines parse.

use std::fmt::Display;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    serde_json::json!({
        "level": level.word(),
        "msg": bounded(format_args!("gpu-container: {text}")),
        "time": rfc3339(SystemTime::now()),
    })
    .to_string()
}

/// To the second, in UTC. A clock that is set before 1970 or after 9999 is the nearest time that
/// the form can say.
fn rfc3339(at: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since.min(LAST)).to_string()
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
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (253_402_300_800, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), wanted);
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00Z");
    }
}
