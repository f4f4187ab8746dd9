//! The steps of a run, in their order, and what is rolled back where one of them fails.

use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::error::engine_fault::EngineFault;
use crate::error::invocation::Invocation;
use crate::error::still_down::{self, StillDown};
use crate::host::{headroom, limits};
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
use crate::transaction::{change_io, checked_before, preflight, still_written, unread};
use crate::verify;

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

/// Said of an engine that did not come back with what earlier runs wrote.
const UNREAD_TAKEN_OUT: &str = "what an earlier run had written for it is taken out again";
/// Said of one that runs with that, and fails otherwise, or came back when it was started once more.
const UNREAD_READ: &str = "it runs with what an earlier run had written for it";

/// A run.
pub struct Run<'a> {
    context: RunContext<'a>,
    plan: &'a mut Plan,
    /// What earlier runs have done.
    receipt: Receipt,
    how: RunOptions,
    journal: Journal,
    states: States,
    /// Containers that ran before a restart and do not run again.
    down: Vec<StillDown>,
    /// What is left to do by hand for engines that were rolled back and do not run as before.
    left: Vec<String>,
    /// Engines out of whose files what earlier runs wrote was taken again.
    taken_out: Vec<String>,
}

impl<'a> Run<'a> {
    /// A run of this plan, with nothing done yet. `receipt` is that of the runs before it.
    pub fn new(
        context: &RunContext<'a>,
        plan: &'a mut Plan,
        receipt: &Receipt,
        how: RunOptions,
    ) -> Result<Self, Error> {
        let engines = plan.engines.iter().map(|(e, _)| e.facts().name.clone());
        let states = States::new(engines);
        Ok(Self {
            context: *context,
            journal: Journal::new(context.host, &plan.changes, receipt)?,
            receipt: receipt.clone(),
            plan,
            how,
            states,
            down: Vec::new(),
            left: Vec::new(),
            taken_out: Vec::new(),
        })
    }

    /// Carries it out. `commit` makes the last steps from the record of the runs before it, the plan and the journal.
    pub fn carry_out(
        &mut self,
        commit: impl FnOnce(Receipt, &Plan, &Journal) -> Commit,
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
        while self.how.restart
            && let Some((name, unknown)) = self.plan.unknown_containers()
        {
            self.go_on_without(&name, unknown)?;
        }
        for change in &self.plan.changes {
            preflight::ensure_as_planned(self.context.host, change)?;
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
            preflight::ensure_as_planned(self.context.host, change)?;
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
        let is_begun = self.states.of_run() > RunState::Planned;
        let is_alone = self.how.scope == RollbackScope::Run
            || self.plan.engines.len() < 2
            || !self.plan.has_work_besides(name);
        let is_restarted = self.journal.begun.iter().any(|s| s.engine == name);
        let has_unread = is_restarted && self.plan.unread.contains_key(name);
        let is_over = is_alone && !has_unread || matches!(cause, Error::Interrupted);
        let Some(at) = self.plan.position(name).filter(|_| !is_over) else {
            return Err(cause);
        };
        let host = self.context.host;
        if !is_alone {
            self.context.progress.failed(&cause.to_string());
        }
        let mut more = None;
        let has_changed = {
            let (engine, _) = &self.plan.engines[at];
            let mut changes = self.journal.changes.iter();
            changes.any(|c| engine.owns(&c.path))
        };
        if has_unread && !has_changed && self.states.of(name) >= RunState::Activated {
            // Another restart would put nothing back.
            more = Some(UNREAD_READ);
        } else if is_begun {
            let (engine, _) = &mut self.plan.engines[at];
            let mut remaining = roll_back_engine(&self.context, &mut **engine, &self.journal);
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
            if has_unread && remaining.left.is_empty() && !has_changed {
                more = Some(UNREAD_READ);
            } else if has_unread
                && !remaining.left.is_empty()
                && let Some(without) = self.take_unread_out(at)
            {
                remaining = without;
                more = Some(UNREAD_TAKEN_OUT);
            }
            self.down.extend(remaining.down);
            self.left.extend(remaining.left);
        }
        let (engine, _) = &self.plan.engines[at];
        self.journal.leave_out(&**engine);
        if is_begun {
            self.journal.store(host)?;
        }
        self.states.leave_out(name);
        if is_alone {
            return Err(cause);
        }
        self.plan.leave_out_failed(name, &cause, more);
        Ok(())
    }

    /// Takes out of an engine's files what earlier runs wrote and it has never read, since it does not come back with
    /// that, and starts it again. `None` if it does not come back without that either; then its files are as they were.
    fn take_unread_out(&mut self, at: usize) -> Option<Remaining> {
        let (engine, activation) = &mut self.plan.engines[at];
        let name = engine.facts().name.clone();
        let service = activation.service()?.clone();
        let changes = self.plan.unread.remove(&name)?;
        self.context.progress.warn(&format!(
            "{name}: what an earlier run has written may be why, so that is taken out"
        ));
        let taken = unread::take_out(
            &self.context,
            &mut **engine,
            &service,
            &changes,
            (&mut self.journal, &mut self.receipt),
        );
        match taken {
            Ok(remaining) => {
                self.taken_out.extend(remaining.is_some().then_some(name));
                remaining
            }
            Err(left) => {
                self.left.extend(left);
                None
            }
        }
    }

    fn commit(
        &mut self,
        commit: impl FnOnce(Receipt, &Plan, &Journal) -> Commit,
    ) -> Result<(), Error> {
        let commit = commit(self.receipt.clone(), self.plan, &self.journal);
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
    pub fn failed(&mut self, cause: Error) -> Error {
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
        if down.is_empty() && !self.taken_out.is_empty() {
            let engines = std::mem::take(&mut self.taken_out);
            return Error::TakenOut { cause, engines };
        }
        if down.is_empty() {
            return Error::RolledBack(cause);
        }
        let cause = Some(cause);
        Error::ContainersDown { cause, down }
    }
}
