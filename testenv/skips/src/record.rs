//! Where skips are kept for the list at the end, and how one reads.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A test, or a part of one, that did not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skip {
    /// Program and test.
    pub test: String,
    /// The need that is missing.
    pub what: String,
    /// How that shows.
    pub why: String,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {} ({}: {})", self.test, self.what, self.why)
    }
}

/// To standard error itself, which libtest does not capture, and to the record.
pub(crate) fn add(skip: &Skip) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("{skip}\n");
    // A property test asks once a case.
    let mut lines = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !lines.insert(line.clone()) {
        return;
    }
    drop(lines);
    // Standard error that is closed has no reader.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let path = path();
    let added = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| File::options().create(true).append(true).open(&path))
        // One write: other tests append, too.
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = added {
        let message = format!(
            "skips: {}: {error}: not listed at the end\n",
            path.display()
        );
        let _ = std::io::stderr().write_all(message.as_bytes());
    }
}

/// What the test programs of this `cargo test` skipped: lines, sorted, each once. The record
/// ends with the call.
///
/// # Errors
///
/// Where there is a record that cannot be read.
pub fn of_this_run() -> std::io::Result<Vec<String>> {
    let path = path();
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    // Another's file is left for them to read.
    if std::env::var_os("GPUSETUP_SKIPS").is_none() {
        fs::remove_file(&path)?;
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Of the tested program, without the hash that cargo adds.
pub(crate) fn program() -> String {
    let exe = std::env::current_exe().unwrap_or_default();
    let name = exe.file_name().unwrap_or_default().to_string_lossy();
    match name.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name.to_owned(),
        _ => name.into_owned(),
    }
}

/// One file for each run: all test programs of one have the same parent, which is cargo.
fn path() -> PathBuf {
    if let Some(path) = std::env::var_os("GPUSETUP_SKIPS") {
        return path.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let target = exe
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists());
    let dir = target
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join("skips");
    dir.join(nix::unistd::getppid().to_string())
}
