//! How far a run has come, for each engine by itself, which decides what a rollback has to do.

use std::collections::BTreeMap;
use std::fmt;

/// The states of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing is written. Files may already look as we want them, but then another run wrote them.
    Planned,
    /// The journal is on disk. Any files that are already written can be rolled back from it.
    Written,
    /// The files have taken effect in the engine.
    Activated,
    /// Containers have shown that GPUs work, if that was asked for.
    Verified,
    /// The journal says that everything is done: a recovery finishes the run and rolls nothing
    /// back.
    Committed,
}

impl fmt::Display for State {
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
    engines: BTreeMap<String, State>,
    /// Of a run that touches no engine, such as one that writes CDI specs alone.
    files: State,
}

impl States {
    /// Of these engines, with nothing written.
    pub fn new(engines: impl IntoIterator<Item = String>) -> Self {
        let engines = engines.into_iter().map(|name| (name, State::Planned));
        Self {
            engines: engines.collect(),
            files: State::Planned,
        }
    }

    /// One engine has come so far.
    pub fn reach(&mut self, engine: &str, state: State) {
        if let Some(of_engine) = self.engines.get_mut(engine) {
            *of_engine = state;
        }
    }

    /// All of them have.
    pub fn reach_all(&mut self, state: State) {
        self.files = state;
        self.engines
            .values_mut()
            .for_each(|of_engine| *of_engine = state);
    }

    /// How far the run has come: as far as the engine that has come least.
    pub fn of_run(&self) -> State {
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
    fn a_run_is_as_far_as_the_engine_that_has_come_least() {
        let mut states = States::new(["docker".to_owned(), "crio".to_owned()]);
        assert_eq!(states.of_run(), State::Planned);
        states.reach_all(State::Written);
        states.reach("docker", State::Activated);
        states.reach("podman", State::Verified);
        assert_eq!(states.of_run(), State::Written);
        assert_eq!(states.to_string(), "crio written, docker activated");
        states.reach("crio", State::Activated);
        assert_eq!(states.of_run(), State::Activated);
    }

    #[test]
    fn a_run_without_engines_is_as_far_as_its_files() {
        let mut states = States::new([]);
        states.reach("docker", State::Committed);
        assert_eq!(
            (states.of_run(), states.to_string().as_str()),
            (State::Planned, "files planned")
        );
        states.reach_all(State::Written);
        assert_eq!(states.of_run(), State::Written);
    }
}
