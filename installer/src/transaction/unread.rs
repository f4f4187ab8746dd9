//! Takes out of one engine's files what earlier runs wrote and it has not read, because it does not come back with that.
//!
//! Such files are from a run that restarted nothing. As long as the engine was not restarted it ran all the same, so a
//! restart that fails for them must not leave it down.

use crate::engines::engine::Engine;
use crate::error::Error;
use crate::host::service::Service;
use crate::model::change::Change;
use crate::terminal::context::RunContext;
use crate::transaction::activate::{Remaining, activate_again};
use crate::transaction::journal::Journal;
use crate::transaction::preflight;
use crate::transaction::receipt::Receipt;
use crate::transaction::rollback;

/// Makes these changes and starts the engine again; the receipt then has nothing of it any more. `None` if it does not
/// come back: its files are then as they were. The error is what has to be done by hand. The journal has its restart
/// already.
pub fn take_out(
    context: &RunContext,
    engine: &mut dyn Engine,
    service: &Service,
    changes: &[Change],
    (journal, receipt): (&mut Journal, &mut Receipt),
) -> Result<Option<Remaining>, Vec<String>> {
    let &RunContext { host, progress, .. } = context;
    let failed = |e: Error| vec![e.to_string()];
    for change in changes {
        preflight::ensure_as_planned(host, change).map_err(failed)?;
    }
    let begun: Vec<_> = journal.begun.clone();
    journal.leave_out(engine);
    journal.begun = begun;
    journal.extend(Journal::new(host, changes, receipt).map_err(failed)?);
    // A drop-in of its unit.
    if changes.iter().any(|c| c.path.starts_with("/etc/systemd")) {
        journal.units.push(service.clone());
    }
    journal.store(host).map_err(failed)?;
    let made = changes.iter().try_for_each(|c| journal.make(host, c));
    engine.read_again(host);
    let part = journal.part_of(engine);
    let remaining = match made {
        Ok(()) => activate_again(host, &[&*engine], &part, progress),
        Err(e) => Remaining {
            left: vec![e.to_string()],
            ..Remaining::default()
        },
    };
    if !remaining.left.is_empty() {
        let left = rollback::roll_back_files(host, &part, progress);
        engine.read_again(host);
        return if left.is_empty() { Ok(None) } else { Err(left) };
    }
    // In this order: a receipt that still has what is taken out already does no harm.
    journal.leave_out(engine);
    journal.store(host).map_err(failed)?;
    receipt.forget(engine, service);
    receipt.store(host).map_err(failed)?;
    Ok(Some(remaining))
}
