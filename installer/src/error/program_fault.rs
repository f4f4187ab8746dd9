//! Why a program of the host that we run failed.

use std::io;
use std::sync::Arc;

use crate::error::invocation::Invocation;
use crate::error::system_fix;

/// Why a program failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProgramFault {
    /// It could not be started, or waiting for its end failed.
    #[error("{0}")]
    System(#[source] Arc<io::Error>),
    /// It exceeded its time limit and was killed.
    #[error("not done after {0} s")]
    TooSlow(u64),
    /// It ended with an error; this is its message.
    #[error("{0}")]
    Failed(String),
    /// Nothing is run where only a directory tree is changed.
    #[error("nothing is run in a directory tree")]
    InTree,
}

impl ProgramFault {
    /// What to do about it, for the program with this command line.
    pub fn fix(&self, line: &str) -> Option<String> {
        match self {
            Self::System(e) if e.kind() == io::ErrorKind::NotFound => {
                let program = line.split(' ').next().unwrap_or_default();
                Some(format!("install {program}, or put it on the PATH"))
            }
            Self::System(e) => system_fix::of(e),
            Self::TooSlow(_) => Some("find out what it waits for, then run this again".into()),
            // Running it by hand could stop containers, and after a rollback it would not fail.
            Self::Failed(_) => None,
            Self::InTree => Some(format!("leave {} out", Invocation::Root)),
        }
    }
}
