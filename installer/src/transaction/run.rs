//! Carrying a plan out: all of it, or nothing.

use crate::error::Error;
use crate::host::signals::Interrupt;
use crate::host::{Host, headroom, limits};
use crate::model::change::Change;
use crate::terminal::progress::Progress;
use crate::transaction::activate::{check_all, restart};
use crate::transaction::journal::{Commit, Journal};
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;
use crate::transaction::rollback::roll_back;
use crate::transaction::{change_io, preflight};
use crate::verify;

/// What a run shall do besides writing.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Restart the engines that need it.
    pub restart: bool,
    /// Run a container in each engine.
    pub verify: bool,
}

/// Carries the plan out and keeps a receipt; on any failure everything is put back and the
/// error says why.
pub fn apply(
    host: &Host,
    plan: &Plan,
    how: RunOptions,
    signals: &Interrupt,
    progress: &Progress,
) -> Result<Vec<verify::Verified>, Error> {
    let earlier = Receipt::load(host)?.unwrap_or_default();
    carry_out(host, plan, &earlier, how, signals, progress, |journal| {
        let mut receipt = earlier.clone();
        receipt.add(Receipt {
            version: env!("CARGO_PKG_VERSION").into(),
            changes: journal.changes.clone(),
            directories: journal.directories.clone(),
            attributes: journal.attributes.clone(),
            services: plan.services(),
            asked: plan.asked(),
            ..Receipt::default()
        });
        receipt.note_time(journal.changes.iter().map(|c| &c.path));
        Commit {
            receipt: Some(receipt),
            directories: Vec::new(),
        }
    })
}

/// Keeps in the receipt what a plan without changes was asked for; nothing where there is none.
pub fn note(host: &Host, plan: &Plan) -> Result<(), Error> {
    let Some(mut receipt) = Receipt::load(host)? else {
        return Ok(());
    };
    let was = receipt.asked.clone();
    receipt.asked.extend(plan.asked());
    if receipt.asked == was {
        return Ok(());
    }
    receipt.store(host)
}

/// The same for a plan that takes a receipt's changes back: no receipt stands after it.
pub fn undo(
    host: &Host,
    plan: &Plan,
    receipt: &Receipt,
    how: RunOptions,
    signals: &Interrupt,
    progress: &Progress,
) -> Result<(), Error> {
    carry_out(host, plan, receipt, how, signals, progress, |_| Commit {
        receipt: None,
        directories: receipt.directories.clone(),
    })
    .map(drop)
}

/// `wrote 2 files, removed 12`
fn counted(changes: &[Change]) -> String {
    let removed = changes.iter().filter(|c| c.after.is_none()).count();
    let files = |n: usize| if n == 1 { "file" } else { "files" };
    match (changes.len() - removed, removed) {
        (0, removed) => format!("removed {removed} {}", files(removed)),
        (wrote, 0) => format!("wrote {wrote} {}", files(wrote)),
        (wrote, removed) => format!("wrote {wrote} {}, removed {removed}", files(wrote)),
    }
}

fn carry_out(
    host: &Host,
    plan: &Plan,
    receipt: &Receipt,
    how: RunOptions,
    signals: &Interrupt,
    progress: &Progress,
    commit: impl FnOnce(&Journal) -> Commit,
) -> Result<Vec<verify::Verified>, Error> {
    if how.restart {
        plan.ensure_containers_are_known()?;
    }
    let mut journal = Journal::new(host, &plan.changes, receipt)?;
    // Before that there is nothing of ours to put back, though files may look as we want them:
    // another run's.
    let mut begun = false;
    let result =
        steps(host, plan, how, signals, progress, &mut journal, &mut begun).and_then(|verified| {
            let commit = commit(&journal);
            journal.commit = Some(commit.clone());
            if let Err(e) = journal.store(host) {
                // It can be in its place and only its directory not synced. What stands there is
                // what `recover` would go by, so that decides.
                let stands = Journal::load(host).ok().flatten();
                if stands.is_none_or(|j| j.commit.is_none()) {
                    return Err(e);
                }
            }
            Ok((verified, commit))
        });
    match result {
        Ok((verified, commit)) => match commit.finish(host) {
            Ok(()) => {
                limits::end();
                Ok(verified)
            }
            Err(cause) => Err(Error::RollbackIncomplete {
                cause: Box::new(cause),
                left: vec![
                    "everything was done, but not noted down: run `gpusetup recover`".into(),
                ],
            }),
        },
        Err(cause) if !begun => Err(cause),
        Err(cause) => {
            match cause {
                Error::Interrupted => progress.warn("interrupted: putting everything back"),
                _ => progress.failed(&cause.to_string()),
            }
            match roll_back(host, plan, &journal, progress) {
                left if left.is_empty() => {
                    limits::end();
                    Err(Error::RolledBack(Box::new(cause)))
                }
                left => Err(Error::RollbackIncomplete {
                    cause: Box::new(cause),
                    left,
                }),
            }
        }
    }
}

fn steps(
    host: &Host,
    plan: &Plan,
    how: RunOptions,
    signals: &Interrupt,
    progress: &Progress,
    journal: &mut Journal,
    begun: &mut bool,
) -> Result<Vec<verify::Verified>, Error> {
    for change in &plan.changes {
        ensure_as_planned(host, change)?;
        preflight::ensure_writable(host, change, journal.attributes.contains_key(&change.path))?;
    }
    // What was looked at for these, too.
    host.ensure_fully_readable()?;
    headroom::ensure_memory_to_write(journal.text_length())?;
    limits::begin();
    *begun = true;
    journal.store(host)?;
    for change in &plan.changes {
        signals.check()?;
        // Once more: time has passed since the first.
        ensure_as_planned(host, change)?;
        journal.make(host, change)?;
    }
    progress.done(&counted(&plan.changes));
    check_all(host, plan, progress)?;
    if how.restart {
        restart(host, plan, signals, progress, journal)?;
    }
    if how.verify {
        return verify_all(host, plan, signals, progress);
    }
    Ok(Vec::new())
}

fn ensure_as_planned(host: &Host, change: &Change) -> Result<(), Error> {
    if change_io::current(host, change)? == change.before {
        return Ok(());
    }
    Err(Error::Config {
        path: change.path.clone(),
        why: "was changed by somebody else meanwhile".into(),
        fix: "run this again".into(),
    })
}

fn verify_all(
    host: &Host,
    plan: &Plan,
    signals: &Interrupt,
    progress: &Progress,
) -> Result<Vec<verify::Verified>, Error> {
    signals.check()?;
    let engines = plan.engines.iter().map(|(e, _)| &**e);
    let verified = verify::run(host, engines, plan.gpus, true, signals, progress)?;
    if let Some(bad) = verify::dead(&verified) {
        return Err(Error::failed(
            format!(
                "{} runs no container here, with a GPU or without: {}",
                bad.engine, bad.detail
            ),
            format!(
                "mend {0} first, or leave the check out: gpusetup install --no-verify",
                bad.engine
            ),
        ));
    }
    if let Some(bad) = verified.iter().find(|v| !v.ok) {
        let what = format!("{} ({}): {}", bad.engine, bad.how, bad.detail);
        return Err(Error::failed(
            what,
            "`gpusetup install --no-verify` leaves this check out",
        ));
    }
    // Not put back for that: it would be no better before.
    for lost in verified.iter().filter(|v| v.lost().is_some()) {
        progress.warn(&format!(
            "{} ({}): containers lose their GPUs when systemd reloads",
            lost.engine, lost.how
        ));
    }
    Ok(verified)
}
