//! What gpusetup has done to this host, kept so that it can be undone; and, while a run is
//! going on, the same as a journal, written before the first file is touched.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::error::Error;
use crate::host::Host;
use crate::write;

/// What stands after a run that succeeded.
pub const RECEIPT: &str = "/var/lib/gpusetup/receipt.json";
/// What a run that has not ended meant to do.
pub const JOURNAL: &str = "/var/lib/gpusetup/journal.json";

/// A list of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format; now 1.
    pub schema: u32,
    /// Version of gpusetup that wrote it.
    pub version: String,
    /// Changes in the order they were made. `before` is what the user had before the first
    /// run, `after` what the last run wrote.
    pub changes: Vec<Change>,
    /// Directories made, outermost first.
    pub directories: Vec<PathBuf>,
    /// Units restarted, or to be.
    pub units: Vec<String>,
}

impl Record {
    /// Reads it; `None` where there is none.
    pub fn load(host: &Host, path: &str) -> Result<Option<Self>, Error> {
        let Some(text) = host.text(Path::new(path))? else {
            return Ok(None);
        };
        let broken = |why: String| Error::Config {
            path: path.into(),
            why,
            fix: "it says what gpusetup changed; do not delete it before those files are looked at"
                .into(),
        };
        let record: Self = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        if record.schema != 1 {
            return Err(broken(format!(
                "schema {} is of another gpusetup",
                record.schema
            )));
        }
        Ok(Some(record))
    }

    /// Writes it, synced.
    pub fn store(&self, host: &Host, path: &str) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::failed(format!("{path}: {e}"), ""))?;
        write::write(host, Path::new(path), &format!("{text}\n"), 0o600).map(drop)
    }

    /// Takes it away, and the directory with the last of them.
    pub fn delete(host: &Host, path: &str) -> Result<(), Error> {
        write::remove(host, Path::new(path))?;
        let dir = Path::new(path)
            .parent()
            .unwrap_or(Path::new("/"))
            .to_owned();
        write::remove_dirs(host, &[dir]);
        Ok(())
    }

    /// Adds a later run: what a file was before the first run stays what undo returns to.
    pub fn add(&mut self, later: Self) {
        for change in later.changes {
            match self.changes.iter_mut().find(|c| c.path == change.path) {
                Some(old) => {
                    old.after = change.after;
                    old.kind = merged(&old.kind, change.kind);
                }
                None => self.changes.push(change),
            }
        }
        let new = |list: &[PathBuf], d: &PathBuf| !list.contains(d);
        for dir in later.directories {
            if new(&self.directories, &dir) {
                self.directories.push(dir);
            }
        }
        for unit in later.units {
            if !self.units.contains(&unit) {
                self.units.push(unit);
            }
        }
    }
}

fn merged(old: &crate::change::FileKind, new: crate::change::FileKind) -> crate::change::FileKind {
    use crate::change::FileKind::{Json, Toml};
    let both = |a: &Vec<Vec<String>>, b: Vec<Vec<String>>| {
        let mut all = a.clone();
        all.extend(b.into_iter().filter(|k| !a.contains(k)));
        all
    };
    match (old, new) {
        (Json { keys }, Json { keys: more }) => Json {
            keys: both(keys, more),
        },
        (Toml { keys }, Toml { keys: more }) => Toml {
            keys: both(keys, more),
        },
        (_, new) => new,
    }
}
