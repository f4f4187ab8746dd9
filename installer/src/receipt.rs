//! What gpusetup has done to this host, kept so that it can be undone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::change::Change;
use crate::engines::{Existing, Mode, Wanted};
use crate::error::Error;
use crate::host::Host;
use crate::service::Service;
use crate::{time, undo, write};

/// What stands after a run that succeeded.
pub const RECEIPT: &str = "receipt.json";
/// What a run that has not ended means to do, see [`crate::journal`].
pub const JOURNAL: &str = "journal.json";
/// Below what is read back at most: what could not be read could not be put back.
const LIMIT: usize = 60 << 20;

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
    /// Owner, mode and the like of files of the user's that we removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<PathBuf, Attributes>,
    /// Services restarted, or to be.
    pub services: Vec<Service>,
    /// When the last run that wrote each of the files was done (RFC 3339); none of those that an
    /// older gpusetup wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub written: BTreeMap<PathBuf, String>,
    /// What the last run that set an engine up was asked for, by the engine's name. Its files do
    /// not always tell: some need none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<String, Asked>,
}

/// The part of [`Wanted`] that can differ from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// CDI, the runtime, or both.
    pub mode: Mode,
    /// Whether ours was to be the engine's default.
    pub default_runtime: bool,
    /// Whether another tool's set-up was to stay. To put ours in its place is of that one run: what
    /// somebody puts there later is not ours to replace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
}

impl From<&Wanted> for Asked {
    fn from(wanted: &Wanted) -> Self {
        Self {
            mode: wanted.mode,
            default_runtime: wanted.default_runtime,
            leaves: wanted.existing == Existing::Leave,
        }
    }
}

impl Record {
    /// The receipt of this host; `None` where there is none.
    pub fn load(host: &Host) -> Result<Option<Self>, Error> {
        load(host, RECEIPT, |r: &Self| r.schema)
    }

    /// Writes it, synced.
    pub fn store(&self, host: &Host) -> Result<(), Error> {
        store(host, RECEIPT, self)
    }

    /// Notes that these files were written now.
    pub fn note_time<'a>(&mut self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        // A clock that is nowhere near is no time to note.
        let Some(now) = time::text(SystemTime::now()) else {
            return;
        };
        let written = paths.into_iter().map(|p| (p.clone(), now.clone()));
        self.written.extend(written);
    }

    /// Adds a later run: undo returns to what a file was before the first run, with what the
    /// user changed between the two.
    pub fn add(&mut self, later: Self) {
        for change in later.changes {
            match self.changes.iter_mut().find(|c| c.path == change.path) {
                Some(old) => {
                    let between = change.before.as_deref();
                    // Where our part cannot be told from the user's, all of it counts as the user's.
                    old.before = undo::wanted(old, between).unwrap_or(change.before);
                    old.after = change.after;
                    old.kind = merged(&old.kind, change.kind);
                }
                None => self.changes.push(change),
            }
        }
        self.attributes.extend(later.attributes);
        self.written.extend(later.written);
        self.asked.extend(later.asked);
        self.version = later.version;
        let new = |list: &[PathBuf], d: &PathBuf| !list.contains(d);
        for dir in later.directories {
            if new(&self.directories, &dir) {
                self.directories.push(dir);
            }
        }
        for service in later.services {
            if !self.services.contains(&service) {
                self.services.push(service);
            }
        }
    }
}

/// Reads a file of ours in the state directory.
pub fn load<T: DeserializeOwned>(
    host: &Host,
    name: &str,
    schema: impl FnOnce(&T) -> u32,
) -> Result<Option<T>, Error> {
    let path = host.state(name);
    let Some(text) = host.text(&path)? else {
        return Ok(None);
    };
    let broken = |why: String| Error::Config {
        path: path.clone(),
        why,
        fix: "it says what gpusetup changed; do not delete it before those files are looked at"
            .into(),
    };
    let read: T = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
    match schema(&read) {
        1 => Ok(Some(read)),
        other => Err(broken(format!("schema {other} is of another gpusetup"))),
    }
}

/// Writes one, synced.
pub fn store<T: Serialize>(host: &Host, name: &str, value: &T) -> Result<(), Error> {
    let path = host.state(name);
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::failed(format!("{}: {e}", path.display()), ""))?;
    if text.len() > LIMIT {
        return Err(Error::failed(
            format!("{}: would be longer than {LIMIT} bytes", path.display()),
            "the files to change are too large to be undone safely; make them smaller",
        ));
    }
    write::write(host, &path, &format!("{text}\n"), 0o600)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::FileKind;

    fn run(before: &str, after: &str) -> Record {
        let change = Change {
            path: "/etc/docker/daemon.json".into(),
            before: Some(before.into()),
            after: Some(after.into()),
            mode: 0o644,
            why: String::new(),
            kind: FileKind::Json {
                keys: vec![vec!["features".into(), "cdi".into()]],
            },
        };
        Record {
            changes: vec![change],
            ..Record::default()
        }
    }

    #[test]
    fn what_the_user_changed_between_two_runs_stays() {
        let ours = |rest: &str| format!("{{{rest}\"features\":{{\"cdi\":true}}}}");
        let before = |record: &Record| record.changes[0].before.clone().unwrap();
        let mut receipt = run("{}", &ours(""));
        // Nothing in between.
        receipt.add(run(&ours(""), &ours("")));
        assert_eq!(before(&receipt), "{}");
        // A key more, ours still there.
        receipt.add(run(&ours("\"debug\":true,"), &ours("\"debug\":true,")));
        assert_eq!(before(&receipt), "{\"debug\":true}");
        // Written anew, without ours.
        receipt.add(run("{\"debug\":false}", &ours("\"debug\":false,")));
        assert_eq!(before(&receipt), "{\"debug\":false}");
    }
}
