//! What gpusetup has done to this host, kept so that it can be undone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::edit::revert;
use crate::error::Error;
use crate::files::attributes::Attributes;
use crate::host::service::Service;
use crate::host::{Host, timestamp};
use crate::model::change::Change;
use crate::model::setup_options::{Existing, Mode, SetupOptions};
use crate::transaction::state_file;

/// What stands after a run that succeeded.
pub const RECEIPT: &str = "receipt.json";
/// What a run that has not ended means to do, see [`crate::transaction::journal`].
pub const JOURNAL: &str = "journal.json";

/// A list of changes, on disk of entries that have yet to be checked ([`crate::transaction::stored`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt<C = Change> {
    /// Version of gpusetup that wrote it.
    pub version: String,
    /// Changes in the order they were made. `before` is what the user had before the first
    /// run, `after` what the last run wrote.
    pub changes: Vec<C>,
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
    /// Files whose texts an older gpusetup noted, without a checksum: whether they are still what
    /// was noted nobody can tell. On disk it is the entry that lacks them.
    #[serde(skip)]
    pub unchecked: BTreeSet<PathBuf>,
}

/// Of no run. Not derived: that would ask the same of an entry.
impl<C> Default for Receipt<C> {
    fn default() -> Self {
        Self {
            version: String::new(),
            changes: Vec::new(),
            directories: Vec::new(),
            attributes: BTreeMap::new(),
            services: Vec::new(),
            written: BTreeMap::new(),
            asked: BTreeMap::new(),
            unchecked: BTreeSet::new(),
        }
    }
}

/// The part of [`SetupOptions`] that can differ from run to run.
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

impl From<&SetupOptions> for Asked {
    fn from(wanted: &SetupOptions) -> Self {
        Self {
            mode: wanted.mode,
            default_runtime: wanted.default_runtime,
            leaves: wanted.existing == Existing::Leave,
        }
    }
}

impl Receipt {
    /// The receipt of this host; `None` where there is none.
    pub fn load(host: &Host) -> Result<Option<Self>, Error> {
        state_file::load(host, RECEIPT)
    }

    /// Writes it, synced.
    pub(super) fn store(&self, host: &Host) -> Result<(), Error> {
        state_file::store(host, RECEIPT, self)
    }

    /// Notes that these files were written now.
    pub fn note_time<'a>(&mut self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        // A clock that is nowhere near is no time to note.
        let Some(now) = timestamp::text(SystemTime::now()) else {
            return;
        };
        let written = paths.into_iter().map(|p| (p.clone(), now.clone()));
        self.written.extend(written);
    }

    /// A remark where entries have no checksum.
    pub fn remark(&self) -> Option<String> {
        remark(RECEIPT, &self.unchecked, self.changes.len())
    }

    /// Adds a later run: undo returns to what a file was before the first run, with what the
    /// user changed between the two.
    pub fn add(&mut self, later: Self) {
        for change in later.changes {
            match self.changes.iter_mut().find(|c| c.path == change.path) {
                Some(old) => {
                    let between = change.before.as_deref();
                    // Where our part cannot be told from the user's, all of it counts as the user's.
                    old.before = revert::revert(old, between).unwrap_or(change.before);
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

/// More of the files are in the JSON document alone.
const NAMED: usize = 3;

/// What is to be said of entries without a checksum, which are used as they are.
pub fn remark(name: &str, unchecked: &BTreeSet<PathBuf>, of: usize) -> Option<String> {
    if unchecked.is_empty() {
        return None;
    }
    let named = unchecked.iter().take(NAMED);
    let named: Vec<String> = named.map(|p| p.display().to_string()).collect();
    let more = match unchecked.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{name} was begun by an older gpusetup: {} of its {of} entries have no checksum, so that \
         damage to them cannot be noticed: {}{more}",
        unchecked.len(),
        named.join(", ")
    ))
}

fn merged(
    old: &crate::model::change::FileKind,
    new: crate::model::change::FileKind,
) -> crate::model::change::FileKind {
    use crate::model::change::FileKind::{Json, Toml};
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
    use crate::model::change::FileKind;

    fn run(before: &str, after: &str) -> Receipt {
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
        Receipt {
            changes: vec![change],
            ..Receipt::default()
        }
    }

    #[test]
    fn what_the_user_changed_between_two_runs_stays() {
        let ours = |rest: &str| format!("{{{rest}\"features\":{{\"cdi\":true}}}}");
        let before = |record: &Receipt| record.changes[0].before.clone().unwrap();
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
