//! Logs what a run decided and did: to systemd's journal, to a file or to standard error.
//!
//! `GPUSETUP_LOG` sets the level and the destinations. Without it, a command that changes this host
//! logs to the journal, if there is one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::JournalLog;

use crate::error::Error;
use crate::host::timestamp;

const VARIABLE: &str = "GPUSETUP_LOG";

/// The level and the destinations that the variable asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    level: LevelFilter,
    journal: bool,
    stderr: bool,
    file: Option<PathBuf>,
}

impl Wanted {
    /// Reads a level and destinations, separated by commas, in any order:
    /// `debug,journal,file=/var/log/gpusetup.log`.
    fn read(text: &str) -> Result<Self, Error> {
        let mut wanted = Self {
            level: LevelFilter::Info,
            journal: false,
            stderr: false,
            file: None,
        };
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word {
                "journal" => wanted.journal = true,
                "stderr" => wanted.stderr = true,
                "off" | "error" | "warn" | "info" | "debug" => {
                    wanted.level = word.parse().unwrap_or(LevelFilter::Info);
                }
                _ => match word.strip_prefix("file=") {
                    Some(path) if path.starts_with('/') => wanted.file = Some(path.into()),
                    _ => {
                        return Err(Error::Usage(format!(
                            "{VARIABLE}: {word:?} is none of off, error, warn, info, debug, journal, \
                             stderr, file=/PATH"
                        )));
                    }
                },
            }
        }
        // A level without a destination is for the journal.
        let is_nowhere = !wanted.stderr && wanted.file.is_none();
        wanted.journal |= is_nowhere && wanted.level != LevelFilter::Off;
        Ok(wanted)
    }
}

struct Sink {
    journal: Option<JournalLog>,
    /// The log files, each with its level.
    files: Vec<(LevelFilter, Mutex<File>)>,
    level: LevelFilter,
    stderr: bool,
    verbose: bool,
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gpusetup")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let is_wanted = record.level() <= self.level;
        if self.stderr && is_wanted {
            crate::terminal::stdio::say!("gpusetup: {}: {}", record.level(), record.args());
        } else if self.verbose && record.level() == Level::Debug {
            // Everything above the debug level is already shown as progress.
            crate::terminal::stdio::say!("    {}", record.args());
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| is_wanted) {
            // A missing journal must not stop a run half-way, nor must a full disk below.
            let _ = journal.journal_send(record);
        }
        for (level, file) in &self.files {
            if record.level() <= *level
                && let Ok(mut file) = file.lock()
            {
                let now = timestamp::formatted(SystemTime::now(), humantime::format_rfc3339_millis);
                let now = now.map(|now| now.to_string()).unwrap_or_default();
                let _ = writeln!(file, "{now} {:<5} {}", record.level(), record.args());
            }
        }
    }

    fn flush(&self) {}
}

/// Starts logging. `is_run`: whether the command changes this host. `file`: the file of
/// `--log-file`, which gets every level.
pub fn start(is_run: bool, verbose: bool, file: Option<&Path>) -> Result<(), Error> {
    let setting = std::env::var(VARIABLE).unwrap_or_default();
    let wanted = if setting.is_empty() {
        Wanted {
            journal: is_run,
            ..Wanted::read("info")?
        }
    } else {
        Wanted::read(&setting)?
    };
    let mut files = Vec::new();
    let flag = file.map(|path| (LevelFilter::Debug, path));
    let variable = wanted.file.as_deref().map(|path| (wanted.level, path));
    for (level, path) in flag.into_iter().chain(variable) {
        files.push((level, Mutex::new(open(path)?)));
    }
    // This fails on a host without a journal.
    let journal = wanted.journal.then(|| JournalLog::new().ok()).flatten();
    let journal = journal.map(|j| j.with_syslog_identifier("gpusetup".into()));
    if !verbose && files.is_empty() && journal.is_none() && !wanted.stderr {
        return Ok(());
    }
    log::set_boxed_logger(Box::new(Sink {
        journal,
        files,
        level: wanted.level,
        stderr: wanted.stderr,
        verbose,
    }))
    .map_err(|e| Error::Mistake(e.to_string()))?;
    log::set_max_level(LevelFilter::Debug);
    let words: Vec<String> = std::env::args().skip(1).collect();
    log::info!("gpusetup {} {}", env!("CARGO_PKG_VERSION"), words.join(" "));
    Ok(())
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).map_err(Error::file(path, "open"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_sets_level_and_destinations() {
        let read = |text: &str| Wanted::read(text).unwrap();
        assert!(read("debug").journal && read("debug").level == LevelFilter::Debug);
        assert!(!read("off").journal);
        let both = read("warn, file=/var/log/x,journal");
        assert!(both.journal && both.level == LevelFilter::Warn);
        assert_eq!(both.file.as_deref(), Some(Path::new("/var/log/x")));
        assert!(!read("file=/x").journal && read("stderr").stderr);
        for wrong in ["loud", "file=relative", "file="] {
            let said = Wanted::read(wrong).unwrap_err();
            assert_eq!(said.exit().number(), 4, "{wrong}");
            assert!(said.to_string().contains("journal"), "{said}");
        }
    }
}
