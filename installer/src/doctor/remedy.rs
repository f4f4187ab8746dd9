//! What to do about a problem on this host: what problems.toml says, with what the check saw in place of what is usual.

use crate::doctor::catalog::Problem;
use crate::doctor::facts::HostFacts;
use crate::error::invocation::Invocation;

/// What to do about a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// In words.
    pub words: String,
    /// As a command to type, if one command does it on this host.
    pub command: Option<String>,
    /// Whether `--fix` may do it on this host.
    pub is_safe: bool,
}

/// Changes the table's remedy into the one for this host.
pub type Fit = fn(&HostFacts, Remedy) -> Remedy;

/// Remedies that depend on the host, with the ids of their problems.
pub type Remedies = &'static [(&'static str, Fit)];

impl Remedy {
    /// What the table says.
    pub fn of_table(problem: &Problem) -> Self {
        Self {
            words: problem.fix.clone(),
            command: problem.command.clone(),
            is_safe: problem.safe,
        }
    }

    /// The same with other words.
    pub fn in_words(self, words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            ..self
        }
    }

    /// The same with this command.
    pub fn by(self, command: impl Into<String>) -> Self {
        Self {
            command: Some(command.into()),
            ..self
        }
    }

    /// The same with this command of gpusetup.
    pub fn by_ours(self, command: Invocation) -> Self {
        self.by(command.to_string())
    }

    /// The same with the table's command only if it works here.
    pub fn by_command_if(self, works: bool) -> Self {
        Self {
            command: self.command.filter(|_| works),
            ..self
        }
    }

    /// The same with this command or, if there is none, without a command.
    pub fn by_any(self, command: Option<String>) -> Self {
        Self { command, ..self }
    }

    /// The same for entries of runtimes whose programs are gone: gpusetup takes the place of one named `nvidia` alone.
    pub fn taking_places(self, entries: &[String]) -> Self {
        let is_ours = |entry: &String| entry.starts_with("runtime \"nvidia\" ");
        let does_all = entries.iter().all(is_ours);
        self.by_command_if(does_all)
    }

    /// The same, but not for `--fix`.
    pub fn by_hand(self) -> Self {
        Self {
            is_safe: false,
            ..self
        }
    }
}
