//! The log of `--debug FILE`, in the format of libnvidia-container's log:
//! `I1125 14:46:03.123456 PID file.rs:LINE] text`, with UTC times.

use std::cell::RefCell;
use std::panic::Location;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gpu_inject::Excerpt;

use super::failure::{Failure, Phase};
use crate::log::{LogFile, bounded, say, tell};

/// The log's destination.
pub(super) enum Log {
    /// No log: without `--debug`, or if its file is not one that we write to.
    Nowhere,
    Output,
    Error,
    File(RefCell<LogFile>),
}

/// Names of our own standard output and error. These are written to by descriptor, since opening
/// another user's pipe by name is not allowed. LXC's hook passes one of them.
const OUTPUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
const ERROR: [&str; 3] = ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"];

impl Log {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self::Nowhere);
        };
        let is = |names: [&str; 3]| names.iter().any(|n| path == Path::new(n));
        if is(OUTPUT) {
            return Ok(Self::Output);
        }
        if is(ERROR) {
            return Ok(Self::Error);
        }
        let excerpt = Excerpt::of(path);
        let file = LogFile::open(path).map_err(|e| {
            Phase::Initialization.failure(format!("cannot write the log {excerpt}: {e}"))
        })?;
        let Some(file) = file else {
            say(&format!(
                "the log {excerpt} is no regular file: nothing is written to it"
            ));
            return Ok(Self::Nowhere);
        };
        Ok(Self::File(RefCell::new(file)))
    }

    #[track_caller]
    pub(super) fn info(&self, text: impl AsRef<str>) {
        self.line('I', text.as_ref(), Location::caller());
    }

    #[track_caller]
    pub(super) fn warn(&self, text: impl AsRef<str>) {
        self.line('W', text.as_ref(), Location::caller());
    }

    #[track_caller]
    pub(super) fn error(&self, text: impl AsRef<str>) {
        self.line('E', text.as_ref(), Location::caller());
    }

    fn line(&self, level: char, text: &str, at: &Location<'_>) {
        if matches!(self, Self::Nowhere) {
            return;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let file_name = Path::new(at.file()).file_name().unwrap_or_default();
        let line = bounded(format_args!(
            "{level}{}.{:06} {} {}:{}] {text}",
            stamp(now.as_secs()),
            now.subsec_micros(),
            std::process::id(),
            file_name.display(),
            at.line(),
        ));
        match self {
            Self::Nowhere => {}
            Self::Output => tell(&line),
            Self::Error => say(&line),
            Self::File(file) => file.borrow_mut().add(&line),
        }
    }
}

/// `MMDD hh:mm:ss` for seconds since 1970. The date is computed by Howard Hinnant's
/// `civil_from_days`, which starts years in March so that leap days come last.
fn stamp(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let since_era = (days + 719_468) % 146_097;
    let year = (since_era - since_era / 1_460 + since_era / 36_524 - since_era / 146_096) / 365;
    let of_year = since_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    format!(
        "{month:02}{day:02} {:02}:{:02}:{:02}",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_as_dates() {
        for (seconds, expected) in [
            (0, "0101 00:00:00"),
            (951_782_400, "0229 00:00:00"),
            (1_735_689_599, "1231 23:59:59"),
            (1_795_619_163, "1125 15:06:03"),
        ] {
            assert_eq!(stamp(seconds), expected);
        }
    }

    #[test]
    fn lines_have_libnvidia_containers_format() {
        let file = tempfile::NamedTempFile::new().unwrap();
        Log::open(Some(file.path())).unwrap().warn("something");
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(
            text.starts_with('W') && text.ends_with("] something\n"),
            "{text}"
        );
        assert!(text.contains(" log.rs:"), "{text}");
        let nowhere = Log::open(Some(Path::new("/nowhere/log"))).err().unwrap();
        assert_eq!(nowhere.phase, Phase::Initialization);
    }
}
