//! Rolls back a run that failed, or one that died and left its journal.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::engines;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::error::still_down;
use crate::host::{Host, headroom, limits};
use crate::model::change::{MergeKind, Side};
use crate::terminal::context::RunContext;
use crate::terminal::progress::Progress;
use crate::transaction::activate::{Remaining, activate_again};
use crate::transaction::journal::{self, Journal};
use crate::transaction::plan::Plan;
use crate::transaction::receipt::{JOURNAL, Receipt};

/// Reports each file on a line of its own, but all links on one: with many GPUs there are hundreds.
fn roll_back_files(host: &Host, journal: &Journal, progress: &Progress) -> Vec<String> {
    let mut links = 0;
    let left = journal.roll_back(host, |change| {
        if change.kind == MergeKind::Link {
            links += 1;
        } else {
            progress.back(&format!("put back {}", change.path.display()));
        }
    });
    if links > 0 {
        progress.back(&format!("took back {links} links in /dev/char"));
    }
    left
}

/// Rolls the run back and returns what could not be rolled back. If anything is left, the journal
/// stays for `recover`.
pub fn roll_back(context: &RunContext, plan: &mut Plan, journal: &Journal) -> Remaining {
    let &RunContext { host, progress, .. } = context;
    let mut left = roll_back_files(host, journal, progress);
    if !journal.begun.is_empty() {
        plan.read_again(host);
    }
    let engines: Vec<&dyn Engine> = plan.engines.iter().map(|(engine, _)| &**engine).collect();
    let Remaining { left: more, down } = activate_again(host, &engines, journal, progress);
    left.extend(more);
    if left.is_empty()
        && let Err(e) = journal::delete(host)
    {
        left.push(format!("{}: {e}", host.state(JOURNAL).display()));
    }
    Remaining { left, down }
}

/// A run that died and has now been rolled back or finished.
pub struct Recovered {
    /// Files for which its journal had no checksum.
    pub unchecked: BTreeSet<PathBuf>,
}

/// Recovers from a run that died, before a run that needs the receipt. If the receipt cannot be
/// used, nothing is rolled back.
pub fn recover_before_run(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    // The journal of a committed run contains its receipt. One that cannot be read is reported by
    // `recover`, unless the receipt cannot be read either.
    let has_receipt = Journal::load(host).is_ok_and(|j| j.is_some_and(|j| j.commit.is_some()));
    if !has_receipt {
        Receipt::load(host)?;
    }
    recover(host, progress)
}

/// Recovers from a run that died: rolls it back or, if everything was done and checked, stores its
/// receipt. `None` if there was no such run.
pub fn recover(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    recover_from_journal(host, progress).map_err(|cause| match cause {
        whole @ (Error::RollbackIncomplete { .. } | Error::ContainersDown { .. }) => whole,
        cause => {
            let first = cause.fix().unwrap_or_else(|| "mend that".into());
            Error::RollbackIncomplete {
                cause: Box::new(cause),
                left: vec![first, format!("then run `{}`", Invocation::Recover)],
            }
        }
    })
}

fn recover_from_journal(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    let Some(journal) = Journal::load(host)? else {
        // A run that died before its journal was on disk leaves only a temporary file.
        journal::delete(host)?;
        return Ok(None);
    };
    if let Some(remark) = journal.remark() {
        progress.warn(&remark);
    }
    limits::begin();
    headroom::ensure_memory_to_write(journal.text_length())?;
    let recovered = Recovered {
        unchecked: journal.unchecked.clone(),
    };
    if let Some(commit) = &journal.commit {
        progress.done("an earlier run was done but did not end; noting down what it did");
        commit.finish(host)?;
        limits::end();
        return Ok(Some(recovered));
    }
    let back = journal.changes.iter();
    headroom::ensure_file_size(back.filter_map(|c| c.text(Side::Before)))?;
    progress.back("an earlier run did not end; putting back what it did");
    let mut left = roll_back_files(host, &journal, progress);
    let mut down = Vec::new();
    if host.is_live() {
        let detected = if journal.begun.is_empty() {
            Vec::new()
        } else {
            engines::detect(host)
        };
        let engines: Vec<&dyn Engine> = detected.iter().map(|engine| &**engine).collect();
        let remaining = activate_again(host, &engines, &journal, progress);
        left.extend(remaining.left);
        down = remaining.down;
    }
    if left.is_empty() {
        journal::delete(host)?;
        limits::end();
        return match down.as_slice() {
            [] => Ok(Some(recovered)),
            _ => Err(Error::ContainersDown { cause: None, down }),
        };
    }
    left.extend((!down.is_empty()).then(|| still_down::start_command(&down)));
    Err(Error::RollbackIncomplete {
        cause: Box::new(Error::EarlierRun),
        left,
    })
}
