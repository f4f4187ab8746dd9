//! Looks for a run that did not end, without doing anything about it.

use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::model::host_state::InterruptedRun;
use crate::transaction::journal::Journal;
use crate::transaction::lock;
use crate::transaction::receipt::JOURNAL;

/// The run that did not end; `None` if there is none. Fails if a run is going on: what it has written so far is no
/// state of the host.
pub fn find(host: &Host) -> Result<Option<InterruptedRun>, Error> {
    let journal = host.state(JOURNAL);
    let loaded = Journal::load(host);
    if matches!(loaded, Ok(None)) {
        return Ok(None);
    }
    lock::ensure_free(host)?;
    let recover = Invocation::Recover;
    let (what, fix) = match &loaded {
        // It has ended since the first look.
        Ok(None) => return Ok(None),
        Ok(Some(journal)) if journal.commit.is_some() => (
            "an earlier run did everything, but did not note that down".to_owned(),
            format!("`{recover}` does"),
        ),
        Ok(Some(_)) => (
            "an earlier run did not end".to_owned(),
            format!("`{recover}` puts back what it did"),
        ),
        Err(e) => {
            let first = e.fix().unwrap_or_else(|| "mend that".into());
            (
                format!("an earlier run did not end, and its journal cannot be used: {e}"),
                format!("{first}; then run `{recover}`"),
            )
        }
    };
    Ok(Some(InterruptedRun { journal, what, fix }))
}
