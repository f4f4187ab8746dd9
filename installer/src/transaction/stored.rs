//! The form in which a journal and a receipt store changes on disk: each text has its own checksum,
//! so that a damaged file still shows which entries are intact.
//!
//! [`Receipt`] and [`Journal`] are generic over their entries. When read, they contain [`StoredChange`],
//! which can only be checked. The check turns each into a [`Change`], which can be acted on.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::change::{Change, MergeKind, Side};
use crate::transaction::journal::{Commit, Journal};
use crate::transaction::receipt::Receipt;
use crate::transaction::state_file::Lacks;
use crate::transaction::state_file::{Checked, Sum};

/// A change as it is stored on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoredChange {
    path: PathBuf,
    before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before_sha256: Option<Sum>,
    after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_sha256: Option<Sum>,
    mode: u32,
    why: String,
    kind: MergeKind,
}

/// Changes that were read, and the paths of those without checksums, which an older gpusetup wrote.
struct Opened {
    changes: Vec<Change>,
    unchecked: BTreeSet<PathBuf>,
}

impl StoredChange {
    fn seal(change: &Change, unchecked: &BTreeSet<PathBuf>) -> Self {
        let has_sums = !unchecked.contains(&change.path);
        let sum = |side| change.text(side).filter(|_| has_sums).map(Sum::of);
        Self {
            path: change.path.clone(),
            before: change.before.clone(),
            before_sha256: sum(Side::Before),
            after: change.after.clone(),
            after_sha256: sum(Side::After),
            mode: change.mode,
            why: change.why.clone(),
            kind: change.kind.clone(),
        }
    }

    /// Whether each of its texts has a checksum. An error names the texts that do not match theirs.
    fn is_checked(&self) -> Result<bool, String> {
        let sides = [
            ("before", &self.before, &self.before_sha256),
            ("after", &self.after, &self.after_sha256),
        ];
        let mut is_checked = true;
        let mut broken = Vec::new();
        for (name, text, sum) in sides {
            match (text, sum) {
                (Some(text), Some(sum)) if Sum::of(text) == *sum => {}
                (None, None) => {}
                (Some(_), None) => is_checked = false,
                (_, Some(_)) => broken.push(name),
            }
        }
        if broken.is_empty() {
            return Ok(is_checked);
        }
        let broken = broken.join(" and ");
        Err(format!(
            "{}: the text {broken} it is not the one that was noted",
            self.path.display()
        ))
    }
}

fn opened(entries: Vec<StoredChange>, has_sums: bool) -> Result<Opened, Lacks> {
    let mut lacks = Vec::new();
    let mut opened = Opened {
        changes: Vec::new(),
        unchecked: BTreeSet::new(),
    };
    let count = entries.len();
    for (n, entry) in entries.into_iter().enumerate() {
        let lack = |what: &str| format!("entry {} of {count}, {what}", n + 1);
        match entry.is_checked() {
            Ok(true) if has_sums => {}
            Ok(_) => {
                opened.unchecked.insert(entry.path.clone());
            }
            Err(what) => lacks.push(lack(&what)),
        }
        opened.changes.push(Change {
            path: entry.path,
            before: entry.before,
            after: entry.after,
            mode: entry.mode,
            why: entry.why,
            kind: entry.kind,
        });
    }
    if lacks.is_empty() {
        Ok(opened)
    } else {
        Err(Lacks(lacks))
    }
}

fn sealed(changes: &[Change], unchecked: &BTreeSet<PathBuf>) -> Vec<StoredChange> {
    let entries = changes.iter().map(|c| StoredChange::seal(c, unchecked));
    entries.collect()
}

impl Checked for Receipt {
    type Stored = Receipt<StoredChange>;

    fn checked(stored: Receipt<StoredChange>, has_sums: bool) -> Result<Self, Lacks> {
        let Opened { changes, unchecked } = opened(stored.changes, has_sums)?;
        Ok(Self {
            version: stored.version,
            changes,
            directories: stored.directories,
            attributes: stored.attributes,
            services: stored.services,
            written: stored.written,
            asked: stored.asked,
            started: stored.started,
            at_write: stored.at_write,
            unchecked,
        })
    }

    fn stored(&self) -> Receipt<StoredChange> {
        Receipt {
            version: self.version.clone(),
            changes: sealed(&self.changes, &self.unchecked),
            directories: self.directories.clone(),
            attributes: self.attributes.clone(),
            services: self.services.clone(),
            written: self.written.clone(),
            asked: self.asked.clone(),
            started: self.started.clone(),
            at_write: self.at_write.clone(),
            unchecked: BTreeSet::new(),
        }
    }
}

impl Checked for Journal {
    type Stored = Journal<StoredChange>;

    fn checked(stored: Journal<StoredChange>, has_sums: bool) -> Result<Self, Lacks> {
        let Opened { changes, unchecked } = opened(stored.changes, has_sums)?;
        let commit = match stored.commit {
            None => None,
            Some(commit) => Some(Commit {
                receipt: match commit.receipt {
                    None => None,
                    Some(receipt) => Some(Receipt::checked(receipt, has_sums)?),
                },
                directories: commit.directories,
            }),
        };
        Ok(Self {
            changes,
            directories: stored.directories,
            attributes: stored.attributes,
            units: stored.units,
            begun: stored.begun,
            commit,
            unchecked,
        })
    }

    fn stored(&self) -> Journal<StoredChange> {
        let commit = self.commit.as_ref().map(|commit| Commit {
            receipt: commit.receipt.as_ref().map(Checked::stored),
            directories: commit.directories.clone(),
        });
        Journal {
            changes: sealed(&self.changes, &self.unchecked),
            directories: self.directories.clone(),
            attributes: self.attributes.clone(),
            units: self.units.clone(),
            begun: self.begun.clone(),
            commit,
            unchecked: BTreeSet::new(),
        }
    }
}
