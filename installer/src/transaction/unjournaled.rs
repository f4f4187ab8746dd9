//! Files that are made anew at every boot, written beside the journal, and known to undo.

use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, Side};
use crate::transaction::change_io;
use crate::transaction::receipt::Receipt;

/// Carries them out beside a receipt; where one fails, those before it are noted all the same.
pub fn make_all(host: &Host, changes: &[Change]) -> Result<(), Error> {
    let put = |c: &Change| change_io::put(host, c, Side::After, None);
    let failed = changes
        .iter()
        .map(put)
        .enumerate()
        .find(|(_, put)| put.is_err());
    let (made, result) = failed.unwrap_or((changes.len(), Ok(())));
    known_to_undo(host, &changes[..made])?;
    result
}

/// What was not there at install, the link of a GPU more, is undo's to remove too.
fn known_to_undo(host: &Host, changes: &[Change]) -> Result<(), Error> {
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
