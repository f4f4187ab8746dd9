//! What is wrong with a container engine during a run, and what to do about it.

use crate::error::invocation::Invocation;

/// What is wrong. The engine's name comes before it in a message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineFault {
    /// It does not answer after a restart or reload.
    #[error("did not come back: {said}")]
    NotBack {
        /// Its last message.
        said: String,
        /// What to do, or where to read more, if that is known.
        fix: Option<String>,
    },
    /// It runs, but uses another configuration than the one that was written.
    #[error("runs, but {how}")]
    OtherConfig {
        /// How its configuration differs.
        how: String,
        /// Where to read more.
        fix: String,
    },
    /// Its own checker refuses the configuration that was written.
    #[error("refuses its configuration: {said}")]
    Refuses {
        /// The checker's message.
        said: String,
    },
    /// Its own checker refused the configuration before the run changed it.
    #[error("refused its configuration before gpusetup touched it: {said}")]
    RefusedBefore {
        /// The checker's message.
        said: String,
    },
    /// Its own checker does not list what was written.
    #[error("does not take {file} in")]
    NotTakenIn {
        /// The file.
        file: String,
        /// The command that shows what it reads.
        shown_by: String,
    },
    /// It restarts, and it is not known which containers that stops.
    #[error("restarts, and which of its containers run is not known: {why}")]
    ContainersUnknown {
        /// The reason.
        why: String,
    },
    /// Its version is not known, and the version decides what it reads.
    #[error("does not tell its version: {why}")]
    VersionUnknown {
        /// The reason.
        why: String,
    },
    /// The low-level program of its built-in runtime, which no file names, is not installed.
    #[error(
        "runs containers by its built-in runtime {runtime:?}, whose program is not installed: {looked_for}"
    )]
    NoBuiltIn {
        /// The runtime.
        runtime: String,
        /// The programs that were looked for.
        looked_for: String,
    },
    /// Somebody else has rewritten its file during the run.
    #[error(
        "was set up, and {file} was rewritten by another program before the end of the run, without what GPUs need"
    )]
    Rewritten {
        /// The file.
        file: String,
    },
    /// It runs no container at all.
    #[error("runs no container here, with a GPU or without: {detail}")]
    NoContainer {
        /// What went wrong.
        detail: String,
    },
    /// A container that should see the GPUs does not.
    #[error("({how}): {detail}")]
    NoGpu {
        /// How it requests GPUs.
        how: String,
        /// What went wrong.
        detail: String,
    },
}

impl EngineFault {
    /// What to do about it, for the engine of that name.
    pub fn fix(&self, engine: &str) -> Option<String> {
        use Invocation::{InstallUnverified, NoRestart};
        Some(match self {
            Self::NotBack { fix, .. } => return fix.clone(),
            Self::OtherConfig { fix, .. } => fix.clone(),
            // The checker's message is all there is: after the rollback it finds nothing wrong.
            Self::Refuses { .. } => return None,
            Self::RefusedBefore { .. } => {
                format!(
                    "mend that configuration until {engine} starts with it, then run this again"
                )
            }
            Self::NotTakenIn { shown_by, .. } => format!("`{shown_by}` shows what it reads"),
            Self::VersionUnknown { .. } => {
                "see why that program does not tell it, then run this again; nothing was changed"
                    .into()
            }
            Self::NoBuiltIn { .. } => {
                "install that program, or make one that is installed the default runtime; nothing was changed"
                    .into()
            }
            Self::ContainersUnknown { .. } => format!(
                "see what `docker ps` says, then run this again; or run it with {NoRestart}; nothing was changed"
            ),
            Self::Rewritten { file } => format!(
                "let the program that writes {file} (Puppet, Ansible, Salt, …) write what `{}` shows, or stop it; then run this again",
                Invocation::PlanAsRoot
            ),
            Self::NoContainer { .. } => {
                format!("mend {engine} first, or leave the check out: {InstallUnverified}")
            }
            Self::NoGpu { .. } => format!("`{InstallUnverified}` leaves this check out"),
        })
    }
}
