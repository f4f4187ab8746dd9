//! Carries out a plan as a transaction: makes all of its changes, or none; or, of several engines, none for one that fails.

use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::error::engine_fault::EngineFault;
use crate::error::invocation::Invocation;
use crate::error::still_down::{self, StillDown};
use crate::host::{Host, headroom, limits};
use crate::model::change::{Change, ChangeVerb};
use crate::terminal::context::RunContext;
use crate::transaction::activate::{Remaining, activate, check_all, read_units};
use crate::transaction::ended::Ended;
use crate::transaction::journal::{Commit, Journal};
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;
use crate::transaction::rollback::{roll_back, roll_back_engine, way_on};
use crate::transaction::run_options::{RollbackScope, RunOptions};
use crate::transaction::states::{RunState, States};
use crate::transaction::verification::verify_all;
use crate::transaction::{change_io, checked_before, preflight, still_written};
use crate::verify;

/// Carries out the plan and stores a receipt. If anything fails, everything is rolled back and the error says why.
pub fn apply(context: &RunContext, plan: &mut Plan, how: RunOptions) -> Result<Ended, Error> {
    let earlier = Receipt::load(context.host)?.unwrap_or_default();
    let restarts = how.restart;
    carry_out(context, plan, &earlier, how, |plan, journal| {
        let mut receipt = earlier.clone();
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
    })
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
    carry_out(context, plan, receipt, how, |_, _| Commit {
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
    carry_out(context, &mut plan, &receipt, how, |_, _| Commit {
        receipt: earlier,
        directories: Vec::new(),
    })
    .map(drop)
}

/// Counts the changes for a message: `wrote 2 files, removed 12`.
fn counted(changes: &[Change]) -> String {
    let is_removed = |c: &&Change| c.verb() == ChangeVerb::Remove;
    let removed = changes.iter().filter(is_removed).count();
    let files = |n: usize| if n == 1 { "file" } else { "files" };
    match (changes.len() - removed, removed) {
        (0, removed) => format!("removed {removed} {}", files(removed)),
        (wrote, 0) => format!("wrote {wrote} {}", files(wrote)),
        (wrote, removed) => format!("wrote {wrote} {}, removed {removed}", files(wrote)),
    }
}

fn carry_out(
    context: &RunContext,
    plan: &mut Plan,
    receipt: &Receipt,
    how: RunOptions,
    commit: impl FnOnce(&Plan, &Journal) -> Commit,
) -> Result<Ended, Error> {
    if how.restart {
        plan.ensure_containers_are_known()?;
    }
    let engines = plan.engines.iter().map(|(e, _)| e.facts().name.clone());
    let states = States::new(engines);
    let mut run = Run {
        context: *context,
        journal: Journal::new(context.host, &plan.changes, receipt)?,
        plan,
        how,
        states,
        down: Vec::new(),
        left: Vec::new(),
    };
    let ended = run.carry_out(commit);
    ended.map_err(|cause| run.failed(cause))
}

struct Run<'a> {
    context: RunContext<'a>,
    plan: &'a mut Plan,
    how: RunOptions,
    journal: Journal,
    states: States,
    /// Containers that ran before a restart and do not run again.
    down: Vec<StillDown>,
    /// What is left to do by hand for engines that were rolled back and do not run as before.
    left: Vec<String>,
}

impl Run<'_> {
    fn carry_out(
        &mut self,
        commit: impl FnOnce(&Plan, &Journal) -> Commit,
    ) -> Result<Ended, Error> {
        self.ensure_possible()?;
        self.write()?;
        self.activate()?;
        let mut outcome = self.verify()?;
        if self.how.looks_again {
            self.look_again(&mut outcome)?;
        }
        self.commit(commit)?;
        Ok(Ended {
            outcome,
            down: std::mem::take(&mut self.down),
            skipped: self.plan.skipped.clone(),
            left: std::mem::take(&mut self.left),
            left_earlier: Vec::new(),
        })
    }

    /// The preflight checks.
    fn ensure_possible(&mut self) -> Result<(), Error> {
        for change in &self.plan.changes {
            ensure_as_planned(self.context.host, change)?;
            let is_known = self.journal.attributes.contains_key(&change.path);
            preflight::ensure_writable(self.context.host, change, is_known)?;
        }
        if self.how.checks_before {
            for (name, refused) in checked_before::refusing(self.context.host, self.plan) {
                self.go_on_without(&name, refused)?;
            }
        }
        // The preflight checks read files as well: fail if any of those reads failed.
        self.context.host.ensure_fully_readable()?;
        headroom::ensure_memory_to_write(self.journal.text_length())
    }

    fn write(&mut self) -> Result<(), Error> {
        limits::begin();
        self.states.reach_all(RunState::Written);
        self.journal.store(self.context.host)?;
        for change in &self.plan.changes {
            self.context.signals.ensure_none()?;
            // Check again, since time has passed since the preflight checks.
            ensure_as_planned(self.context.host, change)?;
            self.journal.make(self.context.host, change)?;
        }
        if !self.plan.changes.is_empty() {
            self.context.progress.done(&counted(&self.plan.changes));
        }
        self.plan.read_again(self.context.host);
        for (name, checked) in check_all(self.context.host, self.plan) {
            match checked {
                Ok(true) => {
                    let accepts = format!("{name} accepts its configuration");
                    self.context.progress.done(&accepts);
                }
                Ok(false) => {}
                Err(e) => self.go_on_without(&name, e)?,
            }
        }
        Ok(())
    }

    fn activate(&mut self) -> Result<(), Error> {
        if self.how.restart {
            read_units(self.context.host, self.plan, &mut self.journal)?;
            let mut n = 0;
            while let Some(one) = self.plan.engines.get(n) {
                let (journal, states) = (&mut self.journal, &mut self.states);
                match activate(&self.context, one, journal, states) {
                    Ok(down) => {
                        self.down.extend(down);
                        n += 1;
                    }
                    Err(e) => {
                        let name = one.0.facts().name.clone();
                        self.go_on_without(&name, e)?;
                    }
                }
            }
        }
        self.states.reach_all(RunState::Activated);
        Ok(())
    }

    /// Verifies the engines; again without an engine in which a container has failed.
    fn verify(&mut self) -> Result<verify::Outcome, Error> {
        let outcome = loop {
            if !self.how.verify {
                break verify::Outcome::default();
            }
            match verify_all(&self.context, self.plan, &mut self.states) {
                Err(Error::Engine { engine, fault }) => {
                    self.go_on_without(&engine, Error::engine(&engine, fault))?;
                }
                ended => break ended?,
            }
        };
        self.states.reach_all(RunState::Verified);
        Ok(outcome)
    }

    /// Fails the engines whose files were rewritten since without what this run has set up: it is lost at their next start.
    fn look_again(&mut self, outcome: &mut verify::Outcome) -> Result<(), Error> {
        let host = self.context.host;
        while let Some(lost) = still_written::first_lost(host, &self.journal.changes)? {
            let path = lost.path.clone();
            let mut engines = self.plan.engines.iter();
            let Some((engine, _)) = engines.find(|(engine, _)| engine.owns(&path)) else {
                return Err(Error::config(&path, ConfigFault::Meanwhile));
            };
            let name = engine.facts().name.clone();
            let file = path.display().to_string();
            self.go_on_without(&name, Error::engine(&name, EngineFault::Rewritten { file }))?;
            outcome.leave_out(&name);
        }
        Ok(())
    }

    /// Rolls back the engine that failed and goes on with the others. Fails with the cause if the
    /// whole run must be rolled back.
    fn go_on_without(&mut self, name: &str, cause: Error) -> Result<(), Error> {
        let is_alone = self.how.scope == RollbackScope::Run || self.plan.engines.len() < 2;
        let at = self.plan.position(name).filter(|_| !is_alone);
        let one = at.and_then(|at| self.plan.engines.get_mut(at));
        let Some((engine, _)) = one.filter(|_| !matches!(cause, Error::Interrupted)) else {
            return Err(cause);
        };
        if self.plan.changes.iter().all(|c| engine.owns(&c.path)) {
            return Err(cause);
        }
        let host = self.context.host;
        self.context.progress.failed(&cause.to_string());
        if self.states.of_run() > RunState::Planned {
            let remaining = roll_back_engine(&self.context, &mut **engine, &self.journal);
            let is_back = |c: &Change| {
                let current = change_io::current(host, c);
                // What somebody else has written since is not ours to put back.
                current.is_ok_and(|current| {
                    current == c.before || !still_written::is_in(c, current.as_deref())
                })
            };
            let mut its = self.journal.changes.iter().filter(|c| engine.owns(&c.path));
            if !its.all(is_back) {
                // The rollback of the whole run tries again, and says what is left.
                return Err(cause);
            }
            self.journal.leave_out(&**engine);
            self.journal.store(host)?;
            self.down.extend(remaining.down);
            self.left.extend(remaining.left);
        } else {
            self.journal.leave_out(&**engine);
        }
        self.plan.leave_out_failed(name, &cause);
        self.states.leave_out(name);
        Ok(())
    }

    fn commit(&mut self, commit: impl FnOnce(&Plan, &Journal) -> Commit) -> Result<(), Error> {
        let commit = commit(self.plan, &self.journal);
        self.journal.commit = Some(commit.clone());
        if let Err(e) = self.journal.store(self.context.host) {
            // The file may be in place although syncing its directory failed. `recover` decides by the state on disk,
            // so this code does too.
            match Journal::load(self.context.host) {
                Ok(Some(Journal {
                    commit: Some(_), ..
                })) => {}
                Ok(_) => return Err(e),
                // The state is not known: a rollback could undo what a recovery would then treat as done.
                Err(unknown) => {
                    self.states.reach_all(RunState::Committed);
                    return Err(unknown);
                }
            }
        }
        self.states.reach_all(RunState::Committed);
        commit.finish(self.context.host)?;
        limits::end();
        Ok(())
    }

    /// An engine may refuse its configuration for a fault that existed before this run, which shows once the files
    /// are restored.
    fn as_found(&self, cause: Error) -> Error {
        let refuses = matches!(
            cause,
            Error::Engine {
                fault: EngineFault::Refuses { .. },
                ..
            }
        );
        if !refuses || self.how.checks_before {
            return cause;
        }
        let mut refusing = checked_before::refusing(self.context.host, self.plan).into_iter();
        match refusing.next() {
            None => cause,
            Some((_, before)) => {
                self.context.progress.failed(&before.to_string());
                before
            }
        }
    }

    /// Rolls the run back from the state it had reached, and returns its error.
    fn failed(&mut self, cause: Error) -> Error {
        log::debug!("failed with {}", self.states);
        match self.states.of_run() {
            RunState::Planned => return cause,
            RunState::Committed => {
                return Error::RollbackIncomplete {
                    cause: Box::new(cause),
                    left: vec![format!(
                        "everything was done, but not noted down: run `{}`",
                        Invocation::Recover
                    )],
                };
            }
            RunState::Written | RunState::Activated | RunState::Verified => {}
        }
        match cause {
            Error::Interrupted => self
                .context
                .progress
                .warn("interrupted: putting everything back"),
            _ => self.context.progress.failed(&cause.to_string()),
        }
        let Remaining { mut left, mut down } = roll_back(&self.context, self.plan, &self.journal);
        let way_on = (!left.is_empty()).then(way_on);
        left.append(&mut self.left);
        down.append(&mut self.down);
        let cause = Box::new(self.as_found(cause));
        if !left.is_empty() {
            left.extend((!down.is_empty()).then(|| still_down::start_command(&down)));
            left.extend(way_on);
            return Error::RollbackIncomplete { cause, left };
        }
        limits::end();
        if down.is_empty() {
            return Error::RolledBack(cause);
        }
        let cause = Some(cause);
        Error::ContainersDown { cause, down }
    }
}

fn ensure_as_planned(host: &Host, change: &Change) -> Result<(), Error> {
    if change_io::current(host, change)? == change.before {
        return Ok(());
    }
    Err(Error::config(&change.path, ConfigFault::Meanwhile))
}
