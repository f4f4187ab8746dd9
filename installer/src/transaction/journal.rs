//! The journal: the changes that a run is going to make, on disk from before the first file is
//! touched until after the last.
//!
//! The next run that finds the journal of a run that died rolls that run back, or finishes it if everything was done
//! and checked. `commit` tells these apart: storing it is the moment at which the new state becomes the valid one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engines::engine::Engine;
use crate::error::Error;
use crate::files::atomic_write;
use crate::files::attributes::Attributes;
use crate::host::service::Service;
use crate::host::{Host, RECEIPT};
use crate::model::change::{Change, Side};
use crate::transaction::receipt::{self, JOURNAL, Receipt};
use crate::transaction::started_restart::StartedRestart;
use crate::transaction::{change_io, state_file};

/// A run. On disk its entries have not been checked yet ([`crate::transaction::stored`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Journal<C = Change> {
    /// Changes in the order they are made.
    pub changes: Vec<C>,
    /// Directories that are created for them, outermost first.
    pub directories: Vec<PathBuf>,
    /// Owner, mode and extended attributes of files that are removed or restored. Every other file
    /// carries its own.
    #[serde(default)]
    pub attributes: BTreeMap<PathBuf, Attributes>,
    /// Services whose unit files changed, so that their manager read them again.
    #[serde(default)]
    pub units: Vec<Service>,
    /// Services whose restart has begun. It is empty before the first restart, so a run that died
    /// while it wrote files is rolled back without stopping a container.
    #[serde(default)]
    pub begun: Vec<StartedRestart>,
    /// Set once everything is done and checked: the steps that are left.
    pub commit: Option<Commit<C>>,
    /// Files for which an older gpusetup stored no checksum.
    #[serde(skip)]
    pub unchecked: BTreeSet<PathBuf>,
}

/// The last steps of a run. They can be repeated: the result is the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commit<C = Change> {
    /// The receipt that is valid after the run; `None` removes it.
    pub receipt: Option<Receipt<C>>,
    /// Directories that are no longer needed.
    pub directories: Vec<PathBuf>,
}

impl Commit {
    /// Finishes a run whose changes are all made.
    pub(super) fn finish(&self, host: &Host) -> Result<(), Error> {
        match &self.receipt {
            Some(receipt) => receipt.store(host)?,
            None => atomic_write::remove(host, &host.state(RECEIPT))?,
        }
        atomic_write::remove_dirs(host, &self.directories)?;
        delete(host)
    }
}

impl Journal {
    /// The journal of a run that makes these changes; `receipt` is that of the runs before it.
    pub fn new(host: &Host, changes: &[Change], receipt: &Receipt) -> Result<Self, Error> {
        let mut directories: Vec<PathBuf> = Vec::new();
        let mut attributes = receipt.attributes.clone();
        for change in changes {
            if change.after.is_none() {
                let current = change_io::attributes(host, change)?;
                attributes.extend(current.map(|a| (change.path.clone(), a)));
                continue;
            }
            for dir in change_io::missing_dirs(host, change)? {
                if !directories.contains(&dir) {
                    directories.push(dir);
                }
            }
        }
        Ok(Self {
            changes: changes.to_vec(),
            directories,
            attributes,
            units: Vec::new(),
            begun: Vec::new(),
            commit: None,
            unchecked: BTreeSet::new(),
        })
    }

    /// Makes one of its changes.
    pub(super) fn make(&self, host: &Host, change: &Change) -> Result<(), Error> {
        let attributes = self.attributes.get(&change.path);
        change_io::write_side(host, change, Side::After, attributes)
    }

    /// The journal of a run that did not end; `None` if there is none.
    pub fn load(host: &Host) -> Result<Option<Self>, Error> {
        state_file::load(host, JOURNAL)
    }

    /// The number of bytes in all texts of the journal, both sides of each change.
    pub fn text_length(&self) -> usize {
        let texts = self.changes.iter().chain(
            self.commit
                .iter()
                .flat_map(|c| c.receipt.iter().flat_map(|r| &r.changes)),
        );
        let length = |c: &Change| {
            let sides = [Side::Before, Side::After].map(|side| c.text(side).map_or(0, str::len));
            sides.iter().sum::<usize>()
        };
        texts.map(length).sum()
    }

    /// A warning if entries have no checksum.
    pub fn remark(&self) -> Option<String> {
        receipt::remark(JOURNAL, &self.unchecked, self.changes.len())
    }

    /// Writes the journal and syncs it to disk.
    pub(super) fn store(&self, host: &Host) -> Result<(), Error> {
        state_file::store(host, JOURNAL, self)
    }

    /// Rolls the files back, however many of them were written. Returns what could not be rolled
    /// back.
    pub(super) fn roll_back(&self, host: &Host, mut report: impl FnMut(&Change)) -> Vec<String> {
        let mut left = Vec::new();
        for change in self.changes.iter().rev() {
            match self.roll_back_one(host, change) {
                Ok(true) => report(change),
                Ok(false) => {}
                Err(e) => left.push(format!("put back {}: {e}", change.path.display())),
            }
        }
        if let Err(e) = atomic_write::remove_dirs(host, &self.directories) {
            left.push(e.to_string());
        }
        left
    }

    /// Adds the changes of another one.
    pub(super) fn extend(&mut self, more: Self) {
        self.changes.extend(more.changes);
        self.directories.extend(more.directories);
        self.attributes.extend(more.attributes);
    }

    /// The part of this journal that is about one engine.
    pub(super) fn part_of(&self, engine: &dyn Engine) -> Self {
        let name = &engine.facts().name;
        let changes = self.changes.iter().filter(|c| engine.owns(&c.path));
        let begun = self.begun.iter().filter(|s| s.engine == *name);
        Self {
            changes: changes.cloned().collect(),
            begun: begun.cloned().collect(),
            ..self.clone()
        }
    }

    /// Removes the part of an engine.
    pub(super) fn leave_out(&mut self, engine: &dyn Engine) {
        self.changes.retain(|c| !engine.owns(&c.path));
        self.begun.retain(|s| s.engine != engine.facts().name);
    }

    /// Rolls one file back; returns whether there was anything to roll back. A file that matches neither side of the
    /// change has been changed by another program since, and is left unchanged.
    fn roll_back_one(&self, host: &Host, change: &Change) -> Result<bool, Error> {
        change_io::remove_temporary_of(host, change)?;
        let current = change_io::current(host, change)?;
        if current != change.after || current == change.before {
            return Ok(false);
        }
        let attributes = self.attributes.get(&change.path);
        change_io::write_side(host, change, Side::Before, attributes)?;
        Ok(true)
    }
}

/// Removes the journal, the temporary files that a killed run left, and, once it is empty, the
/// state directory.
pub(super) fn delete(host: &Host) -> Result<(), Error> {
    let journal = host.state(JOURNAL);
    atomic_write::remove_temporary(host, &host.state(RECEIPT))?;
    atomic_write::remove_temporary(host, &journal)?;
    atomic_write::remove(host, &journal)?;
    let dir = journal.parent().unwrap_or(Path::new("/"));
    atomic_write::remove_dirs(host, &[dir.to_owned()])
}

/// Renames the journal of a run that is given up, so that later commands do not find it. Returns its
/// new path.
pub(super) fn set_aside(host: &Host) -> Result<PathBuf, Error> {
    let journal = host.state(JOURNAL);
    let aside = journal.with_extension("json.given-up");
    atomic_write::rename(host, &journal, &aside)?;
    delete(host)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;
    use crate::model::change::MergeKind;

    fn looks(path: &Path) -> (u32, u32, u32, Option<Vec<u8>>, String) {
        let metadata = fs::metadata(path).unwrap();
        (
            metadata.uid(),
            metadata.gid(),
            metadata.mode(),
            xattr::get(path, "user.note").unwrap(),
            fs::read_to_string(path).unwrap(),
        )
    }

    /// A file of the user's that we remove, and that a link leads to.
    #[test]
    fn a_restored_file_has_its_old_attributes() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let link = dir.path().join("link");
        fs::write(&real, "text").unwrap();
        symlink("/real", &link).unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o604)).unwrap();
        xattr::set(&real, "user.note", b"kept").unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&real, Some(7), Some(8)).unwrap();
        }
        let was = looks(&real);
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let change = Change {
            path: "/link".into(),
            before: Some("text".into()),
            after: None,
            mode: 0o644,
            why: String::new(),
            kind: MergeKind::Own,
        };
        let changes = [change.clone()];
        let journal = Journal::new(&host, &changes, &Receipt::default()).unwrap();
        journal.store(&host).unwrap();
        journal.make(&host, &change).unwrap();
        assert!(!real.exists() && link.is_symlink());
        // Rolled back by the next run, which finds the journal.
        let journal = Journal::load(&host).unwrap().unwrap();
        assert!(journal.roll_back(&host, |_| ()).is_empty());
        assert_eq!(looks(&real), was);
        assert!(link.is_symlink());

        // Removed by a run that ended well, and restored by a much later undo.
        journal.make(&host, &change).unwrap();
        let receipt = Receipt {
            attributes: journal.attributes,
            ..Receipt::default()
        };
        receipt.store(&host).unwrap();
        let receipt = Receipt::load(&host).unwrap().unwrap();
        let back = Change {
            before: None,
            after: change.before.clone(),
            ..change
        };
        let changes = [back.clone()];
        let journal = Journal::new(&host, &changes, &receipt).unwrap();
        crate::transaction::preflight::ensure_writable(
            &host,
            &back,
            journal.attributes.contains_key(&back.path),
        )
        .unwrap();
        journal.make(&host, &back).unwrap();
        assert_eq!(looks(&real), was);
        assert!(link.is_symlink());
    }

    #[test]
    fn a_journal_that_could_not_be_read_back_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let change = Change {
            path: "/large".into(),
            before: Some("\u{1}".repeat(11 << 20)),
            after: Some(String::new()),
            mode: 0o644,
            why: String::new(),
            kind: MergeKind::Own,
        };
        let journal = Journal::new(&host, &[change], &Receipt::default()).unwrap();
        assert!(journal.store(&host).is_err());
        assert!(Journal::load(&host).unwrap().is_none());
    }
}
