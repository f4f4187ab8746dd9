//! The receipt: what gpusetup has done to this host, kept so that it can be undone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::edit::revert;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::files::attributes::Attributes;
use crate::host::answer::Answer;
use crate::host::service::Service;
use crate::host::service_state::{ServiceState, Start};
use crate::host::{Host, RECEIPT, timestamp};
use crate::model::change::Change;
use crate::model::setup_options::{Existing, Mode, SetupOptions};
use crate::transaction::started_restart::StartedRestart;
use crate::transaction::state_file;

/// The file that records what an unfinished run is going to do, see
/// [`crate::transaction::journal`].
pub const JOURNAL: &str = "journal.json";

/// A list of changes. On disk its entries have not been checked yet
/// ([`crate::transaction::stored`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt<C = Change> {
    /// Version of gpusetup that wrote it.
    pub version: String,
    /// Changes in the order they were made. `before` is what the user had before the first run,
    /// `after` what the last run wrote.
    pub changes: Vec<C>,
    /// Directories that were created, outermost first.
    pub directories: Vec<PathBuf>,
    /// Owner, mode and extended attributes of the user's files that we removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<PathBuf, Attributes>,
    /// Services that were restarted, or have to be.
    pub services: Vec<Service>,
    /// When each file was last written, as an RFC 3339 time. Files that an older gpusetup wrote
    /// have no entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub written: BTreeMap<PathBuf, String>,
    /// By the engine's name, the options of the last run that set it up. The engine's files do not
    /// always show them: some engines need no file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<String, RecordedOptions>,
    /// Services that did not run until gpusetup started them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub started: Vec<StartedService>,
    /// The starts of the services whose files gpusetup last wrote, and whether they have read these files. Clocks are
    /// not needed with that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_write: Vec<StartAtWrite>,
    /// Files whose texts an older gpusetup stored without a checksum, so that damage to them cannot
    /// be noticed. On disk, their entries just have no checksum.
    #[serde(skip)]
    pub unchecked: BTreeSet<PathBuf>,
}

/// The receipt of no run. Not derived, since that would require `C: Default`.
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
            started: Vec::new(),
            at_write: Vec::new(),
            unchecked: BTreeSet::new(),
        }
    }
}

/// A service that gpusetup started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedService {
    /// The service.
    pub service: Service,
    /// The manager's identifier of that start. A later start is somebody else's.
    pub invocation: String,
    /// Its socket did not listen before.
    #[serde(default)]
    pub with_socket: bool,
}

/// The start of a service as a run ended that has written its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAtWrite {
    /// The service.
    pub service: Service,
    /// The manager's identifier of that start.
    pub invocation: String,
    /// Whether the run has made it read them.
    pub has_read: bool,
}

/// The part of [`SetupOptions`] that can differ from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedOptions {
    /// CDI, the runtime, or both.
    pub mode: Mode,
    /// Whether our runtime was to be the engine's default.
    pub default_runtime: bool,
    /// Whether another tool's configuration was to stay. Replacing it is not recorded, because it applies to that one
    /// run only: a later run must not replace what a user configures in the meantime.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
}

impl From<&SetupOptions> for RecordedOptions {
    fn from(wanted: &SetupOptions) -> Self {
        Self {
            mode: wanted.mode,
            default_runtime: wanted.default_runtime,
            leaves: wanted.existing == Existing::Leave,
        }
    }
}

impl Receipt {
    /// The receipt of this host; `None` if there is none.
    pub fn load(host: &Host) -> Result<Option<Self>, Error> {
        state_file::load(host, RECEIPT)
    }

    /// Writes the receipt and syncs it to disk.
    pub(super) fn store(&self, host: &Host) -> Result<(), Error> {
        state_file::store(host, RECEIPT, self)
    }

    /// Records that these files were written now.
    pub fn note_time<'a>(&mut self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        // A clock outside the range of RFC 3339 is clearly wrong: record no time.
        let Some(now) = timestamp::text(SystemTime::now()) else {
            return;
        };
        let written = paths.into_iter().map(|p| (p.clone(), now.clone()));
        self.written.extend(written);
    }

    /// A warning if entries have no checksum.
    pub fn remark(&self) -> Option<String> {
        remark(RECEIPT, &self.unchecked, self.changes.len())
    }

    /// Whether that service runs because gpusetup started it, and nobody has started it since.
    pub fn has_started(&self, host: &Host, service: &Service) -> bool {
        let Some(ours) = self.started.iter().find(|s| s.service == *service) else {
            return false;
        };
        start_of(host, service).is_some_and(|now| now == ours.invocation)
    }

    /// Whether gpusetup's start of that service has started its socket as well.
    pub fn has_started_socket(&self, service: &Service) -> bool {
        let ours = self.started.iter().find(|s| s.service == *service);
        ours.is_some_and(|ours| ours.with_socket)
    }

    /// Records which of these services run because gpusetup started them.
    pub(super) fn note_starts(&mut self, host: &Host, begun: &[StartedRestart]) {
        for done in begun {
            self.started.retain(|s| s.service != done.service);
            let ours = start_of(host, &done.service).filter(|_| done.is_started_by_us);
            self.started.extend(ours.map(|invocation| StartedService {
                service: done.service.clone(),
                invocation,
                with_socket: done.with_socket,
            }));
        }
    }

    /// Whether this start of the service has not read what gpusetup last wrote. `None` if that is not recorded: by an
    /// older gpusetup, or for a service whose manager does not name its starts.
    pub fn is_unread(&self, service: &Service, start: &Start) -> Option<bool> {
        let recorded = self.at_write.iter().find(|s| s.service == *service)?;
        let now = start.invocation.as_ref()?;
        // Any other start is a later one.
        Some(*now == recorded.invocation && !recorded.has_read)
    }

    /// Whether this very start of the service has read what gpusetup last wrote. `None` if that is not recorded, or if it
    /// was started anew since.
    pub fn has_read(&self, service: &Service, start: &Start) -> Option<bool> {
        let recorded = self.at_write.iter().find(|s| s.service == *service)?;
        let now = start.invocation.as_ref()?;
        (*now == recorded.invocation).then_some(recorded.has_read)
    }

    /// Removes all that is recorded of an engine, whose files are as before gpusetup again.
    pub(super) fn forget(&mut self, engine: &dyn Engine, service: &Service) {
        self.changes.retain(|c| !engine.owns(&c.path));
        self.written.retain(|path, _| !engine.owns(path));
        self.asked.remove(&engine.facts().name);
        self.at_write.retain(|s| s.service != *service);
    }

    /// Records the starts of the services that a run has written files of, and whether it has made them read these.
    pub(super) fn note_reading(&mut self, host: &Host, services: &[Service], has_read: bool) {
        for service in services {
            self.at_write.retain(|s| s.service != *service);
            let start = start_of(host, service);
            self.at_write.extend(start.map(|invocation| StartAtWrite {
                service: service.clone(),
                invocation,
                has_read,
            }));
        }
    }

    /// Adds a later run. Undo still returns each file to what it was before the first run, together
    /// with what the user changed between the two runs.
    pub fn add(&mut self, later: Self) {
        for change in later.changes {
            match self.changes.iter_mut().find(|c| c.path == change.path) {
                Some(old) => {
                    let between = change.before.as_deref();
                    // If our part cannot be told from the user's, the whole text counts as the
                    // user's.
                    old.before = revert::revert(old, between).unwrap_or(change.before);
                    old.after = change.after;
                    let kind = merged(&old.kind, change.kind);
                    let (before, after) = (old.before.as_deref(), old.after.as_deref());
                    old.kind = revert::with_keys_in_use(kind, before, after);
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

/// The manager's identifier of a service's current start.
fn start_of(host: &Host, service: &Service) -> Option<String> {
    match service.state(host) {
        Answer::Known(ServiceState::Runs(start)) => start.invocation,
        _ => None,
    }
}

/// How many files the warning names; the JSON document lists all of them.
const NAMED: usize = 3;

/// The warning about entries without a checksum. They are used as they are.
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
    old: &crate::model::change::MergeKind,
    new: crate::model::change::MergeKind,
) -> crate::model::change::MergeKind {
    use crate::model::change::MergeKind::{Json, Toml};
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
    use crate::model::change::MergeKind;

    fn run(before: &str, after: &str) -> Receipt {
        let change = Change {
            path: "/etc/docker/daemon.json".into(),
            before: Some(before.into()),
            after: Some(after.into()),
            mode: 0o644,
            why: String::new(),
            kind: MergeKind::Json {
                keys: vec![vec!["features".into(), "cdi".into()]],
            },
        };
        Receipt {
            changes: vec![change],
            ..Receipt::default()
        }
    }

    #[test]
    fn the_users_changes_between_two_runs_are_kept() {
        let ours = |rest: &str| format!("{{{rest}\"features\":{{\"cdi\":true}}}}");
        let before = |record: &Receipt| record.changes[0].before.clone().unwrap();
        let mut receipt = run("{}", &ours(""));
        // The user changed nothing between the runs.
        receipt.add(run(&ours(""), &ours("")));
        assert_eq!(before(&receipt), "{}");
        // The user added a key and kept ours.
        receipt.add(run(&ours("\"debug\":true,"), &ours("\"debug\":true,")));
        assert_eq!(before(&receipt), "{\"debug\":true}");
        // The user rewrote the file without our keys.
        receipt.add(run("{\"debug\":false}", &ours("\"debug\":false,")));
        assert_eq!(before(&receipt), "{\"debug\":false}");
    }
}
