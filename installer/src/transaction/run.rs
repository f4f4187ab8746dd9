//! Carries out a plan as a transaction: makes all of its changes, or none; or, of several engines, none for one that fails.

use crate::error::Error;
use crate::host::Host;
use crate::model::change::Change;
use crate::terminal::context::RunContext;
use crate::transaction::ended::Ended;
use crate::transaction::journal::{Commit, Journal};
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;
use crate::transaction::run_options::{RollbackScope, RunOptions};
use crate::transaction::steps::Run;

/// Carries out the plan and stores a receipt. If anything fails, everything is rolled back and the error says why.
pub fn apply(context: &RunContext, plan: &mut Plan, how: RunOptions) -> Result<Ended, Error> {
    let earlier = Receipt::load(context.host)?.unwrap_or_default();
    let restarts = how.restart;
    carry_out(
        context,
        plan,
        &earlier,
        how,
        |mut receipt, plan, journal| {
            receipt.add(Receipt {
                version: env!("CARGO_PKG_VERSION").into(),
                changes: journal.changes.clone(),
                directories: journal.directories.clone(),
                attributes: journal.attributes.clone(),
                services: plan.services(),
                asked: plan.recorded_options(),
                ..Receipt::default()
            });
            receipt.note_starts(context.host, &journal.begun);
            receipt.note_reading(context.host, &plan.services(), restarts);
            receipt.note_time(journal.changes.iter().map(|c| &c.path));
            Commit {
                receipt: Some(receipt),
                directories: Vec::new(),
            }
        },
    )
}

/// Records in the receipt the options of a plan that has no changes. Does nothing if there is no
/// receipt.
pub fn note(host: &Host, plan: &Plan) -> Result<(), Error> {
    let Some(mut receipt) = Receipt::load(host)? else {
        return Ok(());
    };
    let was = receipt.asked.clone();
    receipt.asked.extend(plan.recorded_options());
    if receipt.asked == was {
        return Ok(());
    }
    receipt.store(host)
}

/// Carries out a plan that undoes a receipt's changes. No receipt is left afterwards.
pub fn undo(
    context: &RunContext,
    plan: &mut Plan,
    receipt: &Receipt,
    how: RunOptions,
) -> Result<Ended, Error> {
    carry_out(context, plan, receipt, how, |_, _, _| Commit {
        receipt: None,
        directories: receipt.directories.clone(),
    })
}

/// Writes one file as the user asks. It is journaled like any other change, but undo does not
/// revert it.
pub fn edit(context: &RunContext, change: Change) -> Result<(), Error> {
    let earlier = Receipt::load(context.host)?;
    let receipt = earlier.clone().unwrap_or_default();
    let how = RunOptions {
        checks_before: false,
        restart: false,
        verify: false,
        looks_again: false,
        scope: RollbackScope::Run,
    };
    let mut plan = Plan::of_file(change);
    carry_out(context, &mut plan, &receipt, how, |_, _, _| Commit {
        receipt: earlier,
        directories: Vec::new(),
    })
    .map(drop)
}

fn carry_out(
    context: &RunContext,
    plan: &mut Plan,
    receipt: &Receipt,
    how: RunOptions,
    commit: impl FnOnce(Receipt, &Plan, &Journal) -> Commit,
) -> Result<Ended, Error> {
    let mut run = Run::new(context, plan, receipt, how)?;
    let ended = run.carry_out(commit);
    ended.map_err(|cause| run.failed(cause))
}
