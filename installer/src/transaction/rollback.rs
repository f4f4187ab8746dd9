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
pub fn roll_back_files(host: &Host, journal: &Journal, progress: &Progress) -> Vec<String> {
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

/// Rolls back what the run did to one engine. The journal is left as it is: a recovery that finds it
/// rolls back everything.
pub fn roll_back_engine(
    context: &RunContext,
    engine: &mut dyn Engine,
    journal: &Journal,
) -> Remaining {
    let &RunContext { host, progress, .. } = context;
    let part = journal.part_of(engine);
    let left = roll_back_files(host, &part, progress);
    if !left.is_empty() {
        let down = Vec::new();
        return Remaining { left, down };
    }
    engine.read_again(host);
    activate_again(host, &[&*engine], &part, progress)
}

/// A run that died and has now been rolled back or finished.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Files for which its journal had no checksum.
    pub unchecked: BTreeSet<PathBuf>,
    /// What could not be put back: only engines, unless the run was given up.
    pub left: Vec<String>,
    /// The new path of the journal of a run that was given up.
    pub given_up: Option<PathBuf>,
}

/// What to do if something is left of a run that was rolled back.
pub fn way_on() -> String {
    format!(
        "then run `{}`; if that cannot be mended, run `{}`, which puts back the rest and lets later commands go on",
        Invocation::Recover,
        Invocation::RecoverGivingUp
    )
}

/// What a recovery makes of an engine that does not come back although its files are as before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeadEngine {
    /// The recovery has failed, and the journal stays.
    Fails,
    /// The recovery is done: such an engine is no different from one that somebody has stopped.
    IsNamed,
}

/// Recovers from a run that died, before a run that needs the receipt. If the receipt cannot be
/// used, nothing is rolled back. An engine that does not come back is named, and does not keep
/// the later run from going on.
pub fn recover_before_run(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    // The journal of a committed run contains its receipt. One that cannot be read is reported by
    // `recover`, unless the receipt cannot be read either.
    if !is_committed(host) {
        Receipt::load(host)?;
    }
    end(host, progress, DeadEngine::IsNamed)
}

/// Recovers from a run that died: rolls it back or, if everything was done and checked, stores its
/// receipt. `None` if there was no such run.
pub fn recover(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    end(host, progress, DeadEngine::Fails)
}

/// The same, but what cannot be put back is given up: the journal is renamed, so that later commands
/// go on. A run that only has to be recorded is not given up, since undo needs its receipt.
pub fn recover_or_give_up(host: &Host, progress: &Progress) -> Result<Option<Recovered>, Error> {
    match recover_from_journal(host, progress, DeadEngine::IsNamed) {
        Err(cause) if !matches!(cause, Error::ContainersDown { .. }) && !is_committed(host) => {
            let given_up = Some(journal::set_aside(host)?);
            limits::end();
            let left = match cause {
                Error::RollbackIncomplete { left, .. } => left,
                cause => vec![cause.to_string()],
            };
            Ok(Some(Recovered {
                left,
                given_up,
                ..Recovered::default()
            }))
        }
        ended => ended,
    }
}

fn is_committed(host: &Host) -> bool {
    Journal::load(host).is_ok_and(|j| j.is_some_and(|j| j.commit.is_some()))
}

fn end(
    host: &Host,
    progress: &Progress,
    dead_engine: DeadEngine,
) -> Result<Option<Recovered>, Error> {
    let way_on = || {
        if is_committed(host) {
            format!("then run `{}`", Invocation::Recover)
        } else {
            way_on()
        }
    };
    recover_from_journal(host, progress, dead_engine).map_err(|cause| match cause {
        Error::RollbackIncomplete { cause, mut left } => {
            left.push(way_on());
            Error::RollbackIncomplete { cause, left }
        }
        down @ Error::ContainersDown { .. } => down,
        cause => {
            let first = cause.fix().unwrap_or_else(|| "mend that".into());
            Error::RollbackIncomplete {
                cause: Box::new(cause),
                left: vec![first, way_on()],
            }
        }
    })
}

fn recover_from_journal(
    host: &Host,
    progress: &Progress,
    dead_engine: DeadEngine,
) -> Result<Option<Recovered>, Error> {
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
    let mut recovered = Recovered {
        unchecked: journal.unchecked.clone(),
        ..Recovered::default()
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
    let are_files_back = left.is_empty();
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
    if left.is_empty() && !down.is_empty() {
        journal::delete(host)?;
        limits::end();
        return Err(Error::ContainersDown { cause: None, down });
    }
    left.extend((!down.is_empty()).then(|| still_down::start_command(&down)));
    if left.is_empty() || are_files_back && dead_engine == DeadEngine::IsNamed {
        journal::delete(host)?;
        limits::end();
        for one in &left {
            progress.warn(&format!("left of the earlier run: {one}"));
        }
        recovered.left = left;
        return Ok(Some(recovered));
    }
    Err(Error::RollbackIncomplete {
        cause: Box::new(Error::EarlierRun),
        left,
    })
}
