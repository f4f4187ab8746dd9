//! What a host is due, and what does not run on it: engines that have not read their files, engines that fail, and a run
//! of gpusetup that did not end.

use std::path::PathBuf;

use serde::Serialize;

/// Who changed the files that an engine has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// gpusetup: without a restart, what it has set up is not in effect.
    Ours,
    /// Somebody else, or gpusetup as it put a file back. When the engine restarts for it is not gpusetup's to decide.
    Theirs,
}

/// A restart that an engine needs before it uses its files as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestartDue {
    /// Name of the engine.
    pub engine: String,
    /// Name of its service.
    pub service: String,
    /// Whose change it has not read.
    pub whose: Whose,
    /// What it has not read: `it has not read what gpusetup wrote`.
    pub why: String,
    /// The command that does it; `None` if its service does not run the engine, so that no command of ours would.
    pub command: Option<String>,
    /// Who has to restart it, if its service does not run it.
    pub by_another: Option<String>,
}

/// An engine whose service fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineDown {
    /// Name of the engine.
    pub engine: String,
    /// Name of its service.
    pub service: String,
    /// How it fails, according to its manager.
    pub why: String,
    /// Where more about it can be read.
    pub log: String,
}

/// An engine of which it is not known whether it has read its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotKnown {
    /// Name of the engine.
    pub engine: String,
    /// Why it is not known.
    pub why: String,
}

/// A run of gpusetup that did not end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterruptedRun {
    /// Its journal.
    pub journal: PathBuf,
    /// What became of it.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// All of this for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// Restarts that are due.
    pub due: Vec<RestartDue>,
    /// Engines that fail.
    pub down: Vec<EngineDown>,
    /// Engines of which it is not known whether a restart is due.
    pub not_known: Vec<NotKnown>,
    /// A run that did not end.
    pub interrupted: Option<InterruptedRun>,
}

impl HostState {
    /// Restarts that gpusetup owes.
    pub fn ours(&self) -> impl Iterator<Item = &RestartDue> {
        self.due.iter().filter(|d| d.whose == Whose::Ours)
    }

    /// Those of them that gpusetup can do itself.
    pub fn doable(&self) -> impl Iterator<Item = &RestartDue> {
        self.ours().filter(|d| d.command.is_some())
    }

    /// Whether somebody has to do something: set-up that is not in effect, an engine that fails, a run that did not
    /// end, or a question that had no answer. Somebody else's change that waits for a restart is no such thing.
    pub fn needs_action(&self) -> bool {
        self.ours().next().is_some()
            || !self.down.is_empty()
            || !self.not_known.is_empty()
            || self.interrupted.is_some()
    }
}
