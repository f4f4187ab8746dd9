//! How far a run has come, for each engine by itself, which decides what a rollback has to do.

use std::collections::BTreeMap;
use std::fmt;

/// The states of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunState {
    /// Nothing is written. Files may already look as we want them, but then another run wrote them.
    Planned,
    /// The journal is on disk. Any files that are already written can be rolled back from it.
    Written,
    /// The files have taken effect in the engine.
    Activated,
    /// Containers have shown that GPUs work, if verification was requested.
    Verified,
    /// The journal says that everything is done: a recovery finishes the run and rolls nothing
    /// back.
    Committed,
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planned => "planned",
            Self::Written => "written",
            Self::Activated => "activated",
            Self::Verified => "verified",
            Self::Committed => "committed",
        })
    }
}

/// The state of each engine of a run.
#[derive(Clone, Debug)]
pub struct States {
    engines: BTreeMap<String, RunState>,
    /// For a run that touches no engine, such as one that only writes CDI specs.
    files: RunState,
}

impl States {
    /// For these engines, with nothing written.
    pub fn new(engines: impl IntoIterator<Item = String>) -> Self {
        let engines = engines.into_iter().map(|name| (name, RunState::Planned));
        Self {
            engines: engines.collect(),
            files: RunState::Planned,
        }
    }

    /// Records that one engine has reached this state.
    pub fn reach(&mut self, engine: &str, state: RunState) {
        if let Some(of_engine) = self.engines.get_mut(engine) {
            *of_engine = state;
        }
    }

    /// The state of one engine.
    pub fn of(&self, engine: &str) -> RunState {
        self.engines.get(engine).copied().unwrap_or(self.files)
    }

    /// Removes an engine that has been rolled back and is no longer part of the run.
    pub fn leave_out(&mut self, engine: &str) {
        self.engines.remove(engine);
    }

    /// Records that all engines have reached this state.
    pub fn reach_all(&mut self, state: RunState) {
        self.files = state;
        self.engines
            .values_mut()
            .for_each(|of_engine| *of_engine = state);
    }

    /// The state of the run: that of the engine that is furthest behind.
    pub fn of_run(&self) -> RunState {
        let least = self.engines.values().min();
        least.copied().unwrap_or(self.files)
    }
}

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.engines.is_empty() {
            return write!(f, "files {}", self.files);
        }
        let engines = self.engines.iter();
        let engines: Vec<String> = engines
            .map(|(name, state)| format!("{name} {state}"))
            .collect();
        f.write_str(&engines.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_advanced_engine_decides_the_state_of_a_run() {
        let mut states = States::new(["docker".to_owned(), "crio".to_owned()]);
        assert_eq!(states.of_run(), RunState::Planned);
        states.reach_all(RunState::Written);
        states.reach("docker", RunState::Activated);
        states.reach("podman", RunState::Verified);
        assert_eq!(states.of_run(), RunState::Written);
        assert_eq!(states.to_string(), "crio written, docker activated");
        states.reach("crio", RunState::Activated);
        assert_eq!(states.of_run(), RunState::Activated);
    }

    #[test]
    fn the_files_decide_the_state_of_a_run_without_engines() {
        let mut states = States::new([]);
        states.reach("docker", RunState::Committed);
        assert_eq!(
            (states.of_run(), states.to_string().as_str()),
            (RunState::Planned, "files planned")
        );
        states.reach_all(RunState::Written);
        assert_eq!(states.of_run(), RunState::Written);
    }
}
