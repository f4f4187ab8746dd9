//! What a run did, step by step: with `--log-file` in a file, with `-v` on standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::error::Error;

struct Sink {
    file: Option<Mutex<File>>,
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
        // What is above debug is on the screen already.
        if self.verbose && record.level() == Level::Debug {
            crate::report::say!("    {}", record.args());
        }
        if let Some(mut file) = self.file.as_ref().and_then(|f| f.lock().ok()) {
            let now = humantime::format_rfc3339_millis(SystemTime::now());
            // A full disk must not end a run that is half done.
            let _ = writeln!(file, "{now} {:<5} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Starts it; without either flag there is nothing to do.
pub fn start(verbose: bool, path: Option<&Path>) -> Result<(), Error> {
    let file = match path {
        Some(path) => Some(Mutex::new(
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .map_err(Error::file(path, "open"))?,
        )),
        None => None,
    };
    if !verbose && file.is_none() {
        return Ok(());
    }
    log::set_boxed_logger(Box::new(Sink { file, verbose }))
        .map_err(|e| Error::failed(e.to_string(), ""))?;
    log::set_max_level(LevelFilter::Debug);
    let arguments: Vec<_> = std::env::args().collect();
    log::debug!("gpusetup {}: {arguments:?}", env!("CARGO_PKG_VERSION"));
    Ok(())
}
