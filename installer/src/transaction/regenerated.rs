//! Writes, without a journal, the files that every boot creates again: the CDI spec, the stored
//! inventory, the copy of the policy, the links in /dev/char and the device nodes.
//!
//! Nothing else may skip the journal. An interrupted write does no harm here, because the next
//! refresh writes all of these files again. The receipt lists each file with a kind that marks it
//! as such, so that undo removes it.

use std::path::Path;

use gpu_host::DeviceNode;
use gpu_inject::generate::host_files;
use gpu_inject::policy::{LAST_SEEN, LastSeen};

use crate::error::Error;
use crate::files::atomic_write;
use crate::host::Host;
use crate::model::change::{Change, MergeKind, Side};
use crate::transaction::change_io;
use crate::transaction::journal::Journal;
use crate::transaction::receipt::Receipt;

/// Makes these changes and records them in the receipt. If one fails, those made before it are
/// still recorded. A change of any other kind belongs in a run: it is refused before anything is
/// written.
pub fn make_files(host: &Host, changes: &[Change]) -> Result<(), Error> {
    if let Some(other) = changes.iter().find(|c| !is_regenerated(c)) {
        let path = other.path.display();
        let why = format!("{path} is not made anew at boot, so only a run may write it");
        return Err(Error::Mistake(why));
    }
    // A run may have died after its commit and before it stored its receipt. Finish it first, or
    // its receipt would later replace the one that is written here.
    match Journal::load(host) {
        Ok(journal) => {
            if let Some(commit) = journal.and_then(|j| j.commit) {
                commit.finish(host)?;
            }
        }
        // These files are made at every boot, whatever the state of a run; doctor reports a leftover journal.
        Err(e) => log::warn!("{e}"),
    }
    let put = |c: &Change| change_io::write_side(host, c, Side::After, None);
    let failed = changes
        .iter()
        .map(put)
        .enumerate()
        .find(|(_, put)| put.is_err());
    let (made, result) = failed.unwrap_or((changes.len(), Ok(())));
    note(host, &changes[..made])?;
    result
}

/// Keeps a copy of the policy, by which doctor and refresh notice one that disappears. A refresh makes it too, so it is no
/// failure that it cannot be written.
pub fn keep_policy(host: &Host) {
    let path = Path::new(LAST_SEEN);
    let kept = match LastSeen::of(host.root()) {
        LastSeen::Keep(text) => atomic_write::write(host, path, &text, 0o644),
        LastSeen::Forget => atomic_write::remove(host, path),
        LastSeen::Same | LastSeen::Gone => Ok(()),
    };
    if let Err(e) = kept {
        log::warn!("{e}");
    }
}

/// Creates these device nodes; one that exists by then is left alone. They are the driver's own
/// nodes, as `nvidia-modprobe` would create them, and programs have them open: undo removes none of
/// them, so the receipt does not list them.
pub fn make_nodes<'a>(
    host: &Host,
    nodes: impl IntoIterator<Item = &'a DeviceNode>,
) -> Result<(), Error> {
    for node in nodes {
        log::debug!("make node {}", node.host_path.display());
        host_files::make_node(host.root(), node)
            .map_err(Error::file(&node.host_path, "make device node"))?;
    }
    Ok(())
}

fn is_regenerated(change: &Change) -> bool {
    matches!(change.kind, MergeKind::Generated | MergeKind::Link) && change.after.is_some()
}

/// Adds to the receipt what did not exist at install, for example the link of a GPU that was added
/// later, so that undo removes it too.
fn note(host: &Host, changes: &[Change]) -> Result<(), Error> {
    let Some(mut receipt) = Receipt::load(host)? else {
        return Ok(());
    };
    let known = receipt.changes.len();
    for change in changes {
        if receipt.changes.iter().all(|c| c.path != change.path) {
            receipt.changes.push(change.clone());
            receipt.note_time([&change.path]);
        }
    }
    if receipt.changes.len() > known {
        receipt.store(host)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::transaction::journal::Commit;

    fn tree() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        (dir, host)
    }

    fn change(path: &str, kind: MergeKind) -> Change {
        Change {
            path: path.into(),
            before: None,
            after: Some("text".into()),
            mode: 0o644,
            why: "w".into(),
            kind,
        }
    }

    fn receipt(of: &[Change]) -> Receipt {
        Receipt {
            version: "1".into(),
            changes: of.to_vec(),
            ..Receipt::default()
        }
    }

    fn noted(host: &Host) -> Vec<String> {
        let receipt = Receipt::load(host).unwrap().unwrap();
        let paths = receipt.changes.iter();
        paths.map(|c| c.path.display().to_string()).collect()
    }

    #[test]
    fn only_regenerated_files_may_be_written_without_a_journal() {
        let (dir, host) = tree();
        let link = change("/dev/char/195:0", MergeKind::Link);
        let removed = Change {
            after: None,
            ..change("/spec", MergeKind::Generated)
        };
        for other in [change("/etc/x.conf", MergeKind::Own), removed] {
            let failure = make_files(&host, &[link.clone(), other]).unwrap_err();
            assert!(failure.to_string().contains("only a run"), "{failure}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn regenerated_files_are_noted_in_a_receipt_only_if_there_is_one() {
        let (dir, host) = tree();
        let spec = change("/spec", MergeKind::Generated);
        let link = change("/dev/char/195:0", MergeKind::Link);
        make_files(&host, std::slice::from_ref(&spec)).unwrap();
        assert!(dir.path().join("spec").exists());
        assert!(Receipt::load(&host).unwrap().is_none());
        receipt(std::slice::from_ref(&spec)).store(&host).unwrap();
        make_files(&host, &[spec, link]).unwrap();
        assert_eq!(noted(&host), ["/spec", "/dev/char/195:0"]);
    }

    #[test]
    fn the_receipt_of_an_unrecorded_run_is_written_first() {
        let (_dir, host) = tree();
        let spec = change("/spec", MergeKind::Generated);
        let mut journal = Journal::new(&host, &[], &Receipt::default()).unwrap();
        journal.commit = Some(Commit {
            receipt: Some(receipt(&[spec])),
            directories: Vec::new(),
        });
        journal.store(&host).unwrap();
        make_files(&host, &[change("/dev/char/195:0", MergeKind::Link)]).unwrap();
        assert!(Journal::load(&host).unwrap().is_none());
        assert_eq!(noted(&host), ["/spec", "/dev/char/195:0"]);
    }
}
