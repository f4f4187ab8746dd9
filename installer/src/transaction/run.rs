//! Carries out a plan as a transaction: makes all of its changes, or none.

use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::error::engine_fault::EngineFault;
use crate::error::exit::Exit;
use crate::error::invocation::Invocation;
use crate::host::{Host, headroom, limits};
use crate::model::change::{Change, ChangeVerb};
use crate::model::still_down::{self, StillDown};
use crate::terminal::context::RunContext;
use crate::transaction::activate::{Remaining, activate, check_all};
use crate::transaction::journal::{Commit, Journal};
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;
use crate::transaction::rollback::roll_back;
use crate::transaction::states::{RunState, States};
use crate::transaction::{change_io, checked_before, preflight};
use crate::verify;

/// What a run does besides writing files.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Fail before anything is written if an engine refuses its current configuration. Not for an undo, which may be
    /// what repairs it.
    pub checks_before: bool,
    /// Restart the engines that need it.
    pub restart: bool,
    /// Run a container in each engine.
    pub verify: bool,
}

/// The result of a run that was carried out.
#[derive(Debug, Default)]
pub struct Ended {
    /// The results of the containers, if they were asked for.
    pub outcome: verify::Outcome,
    /// Containers that ran before a restart and do not run again.
    pub down: Vec<StillDown>,
}

impl Ended {
    /// The exit code of the command.
    pub fn exit(&self) -> Exit {
        match (self.down.as_slice(), self.outcome.not_verified.as_slice()) {
            ([], []) => Exit::Done,
            ([], _) => Exit::Partly,
            _ => Exit::ContainersDown,
        }
    }
}

/// Carries out the plan and stores a receipt. If anything fails, everything is rolled back and the error says why.
pub fn apply(context: &RunContext, plan: &mut Plan, how: RunOptions) -> Result<Ended, Error> {
    let earlier = Receipt::load(context.host)?.unwrap_or_default();
    let (services, options) = (plan.services(), plan.recorded_options());
    let restarts = how.restart;
    carry_out(context, plan, &earlier, how, |journal| {
        let mut receipt = earlier.clone();
        receipt.add(Receipt {
            version: env!("CARGO_PKG_VERSION").into(),
            changes: journal.changes.clone(),
            directories: journal.directories.clone(),
            attributes: journal.attributes.clone(),
            services: services.clone(),
            asked: options,
            ..Receipt::default()
        });
        receipt.note_starts(context.host, &journal.begun);
        receipt.note_reading(context.host, &services, restarts);
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
    carry_out(context, plan, receipt, how, |_| Commit {
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
    };
    carry_out(context, &mut Plan::of_file(change), &receipt, how, |_| {
        Commit {
            receipt: earlier,
            directories: Vec::new(),
        }
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
    commit: impl FnOnce(&Journal) -> Commit,
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
}

impl Run<'_> {
    fn carry_out(&mut self, commit: impl FnOnce(&Journal) -> Commit) -> Result<Ended, Error> {
        self.ensure_possible()?;
        self.write()?;
        let down = self.activate()?;
        let outcome = self.verify()?;
        self.commit(commit)?;
        Ok(Ended { outcome, down })
    }

    /// The preflight checks.
    fn ensure_possible(&self) -> Result<(), Error> {
        for change in &self.plan.changes {
            ensure_as_planned(self.context.host, change)?;
            let is_known = self.journal.attributes.contains_key(&change.path);
            preflight::ensure_writable(self.context.host, change, is_known)?;
        }
        if self.how.checks_before {
            checked_before::ensure_accepted(self.context.host, self.plan)?;
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
        check_all(self.context.host, self.plan, self.context.progress)
    }

    fn activate(&mut self) -> Result<Vec<StillDown>, Error> {
        let down = if self.how.restart {
            let (journal, states) = (&mut self.journal, &mut self.states);
            activate(&self.context, self.plan, journal, states)?
        } else {
            Vec::new()
        };
        self.states.reach_all(RunState::Activated);
        Ok(down)
    }

    fn verify(&mut self) -> Result<verify::Outcome, Error> {
        let verified = if self.how.verify {
            verify_all(&self.context, self.plan, &mut self.states)?
        } else {
            verify::Outcome::default()
        };
        self.states.reach_all(RunState::Verified);
        Ok(verified)
    }

    fn commit(&mut self, commit: impl FnOnce(&Journal) -> Commit) -> Result<(), Error> {
        let commit = commit(&self.journal);
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
        match checked_before::ensure_accepted(self.context.host, self.plan) {
            Ok(()) => cause,
            Err(before) => {
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
        let Remaining { mut left, down } = roll_back(&self.context, self.plan, &self.journal);
        let cause = Box::new(self.as_found(cause));
        if !left.is_empty() {
            left.extend((!down.is_empty()).then(|| still_down::start_command(&down)));
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

fn verify_all(
    context: &RunContext,
    plan: &Plan,
    states: &mut States,
) -> Result<verify::Outcome, Error> {
    let &RunContext {
        signals, progress, ..
    } = context;
    signals.ensure_none()?;
    let engines = plan.engines.iter().map(|(e, _)| &**e);
    let wanted = verify::Expectation {
        gpus: plan.gpus,
        reload: true,
    };
    let outcome = verify::run(context, engines, wanted)?;
    let verified = &outcome.verified;
    for (engine, _) in &plan.engines {
        let name = &engine.facts().name;
        let mut of_engine = verified.iter().filter(|v| v.engine == *name);
        if of_engine.all(|v| v.ok) {
            states.reach(name, RunState::Verified);
        }
    }
    if let Some(bad) = verify::dead(verified) {
        let detail = bad.detail.clone();
        return Err(Error::engine(
            &bad.engine,
            EngineFault::NoContainer { detail },
        ));
    }
    if let Some(bad) = verified.iter().find(|v| !v.ok) {
        let (how, detail) = (bad.how.clone(), bad.detail.clone());
        return Err(Error::engine(
            &bad.engine,
            EngineFault::NoGpu { how, detail },
        ));
    }
    // This is no reason for a rollback: containers would lose their GPUs with the old configuration too.
    for v in verified {
        if let Some(trouble) = &v.driver_trouble {
            progress.warn(&format!("{} ({}): {trouble}", v.engine, v.how));
        }
    }
    for lost in verified.iter().filter(|v| v.loss().is_some()) {
        progress.warn(&format!(
            "{} ({}): containers lose their GPUs when systemd reloads",
            lost.engine, lost.how
        ));
    }
    Ok(outcome)
}
