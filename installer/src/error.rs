//! The errors of gpusetup: each has a message, what to do next, and an exit code.

pub mod state_fault;

use std::path::{Path, PathBuf};

use crate::host::limits;
use state_fault::Fault;

/// An error of gpusetup, shown as its `cause` and, on a separate line, its `fix`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// Another run is changing this host.
    #[error("another gpusetup holds {path}{}", holder.as_ref().map(|h| format!(": {h}")).unwrap_or_default())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, if known: process, command line, since when.
        holder: Option<String>,
    },
    /// This host cannot be set up.
    #[error("{why}")]
    Unsupported {
        /// Why not.
        why: String,
        /// What to do.
        fix: String,
    },
    /// A config file that cannot be edited safely.
    #[error("{path}: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        fix: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {what}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A state file, which records what gpusetup did here, cannot be used.
    #[error("{path} {fault}")]
    StateFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        fault: Fault,
    },
    /// A step failed.
    #[error("{what}")]
    Failed {
        /// What failed and why.
        what: String,
        /// What to do.
        fix: String,
    },
    /// A step failed, and not everything could be rolled back.
    #[error("{cause}")]
    RollbackIncomplete {
        /// What failed first.
        cause: Box<Error>,
        /// What is left to do by hand.
        left: Vec<String>,
    },
    /// A step failed, and everything was rolled back.
    #[error("{0}")]
    RolledBack(Box<Error>),
    /// The user, or another process, asked this process to end.
    #[error("interrupted; nothing was changed")]
    Interrupted,
    /// An error of the core library.
    #[error(transparent)]
    Inject(#[from] gpu_inject::Error),
}

impl Error {
    /// A file that cannot be read or written.
    pub fn file(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, what, source }
    }

    /// A step that failed.
    pub fn failed(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// A copy of the error, for callers that keep it with the file it is about. A system error is
    /// copied by its number, or by its message if it has none.
    pub fn again(&self) -> Self {
        let same = |source: &std::io::Error| match source.raw_os_error() {
            Some(number) => std::io::Error::from_raw_os_error(number),
            None => std::io::Error::new(source.kind(), source.to_string()),
        };
        match self {
            Self::Usage(what) => Self::Usage(what.clone()),
            Self::Locked { path, holder } => Self::Locked {
                path: path.clone(),
                holder: holder.clone(),
            },
            Self::Unsupported { why, fix } => Self::Unsupported {
                why: why.clone(),
                fix: fix.clone(),
            },
            Self::Config { path, why, fix } => Self::Config {
                path: path.clone(),
                why: why.clone(),
                fix: fix.clone(),
            },
            Self::File { path, what, source } => Self::File {
                path: path.clone(),
                what,
                source: same(source),
            },
            Self::StateFile { path, fault } => Self::StateFile {
                path: path.clone(),
                fault: fault.clone(),
            },
            Self::Failed { what, fix } => Self::failed(what, fix),
            Self::RollbackIncomplete { cause, left } => Self::RollbackIncomplete {
                cause: Box::new(cause.again()),
                left: left.clone(),
            },
            Self::RolledBack(cause) => Self::RolledBack(Box::new(cause.again())),
            Self::Interrupted => Self::Interrupted,
            // The message and exit code are the same; errors of the core have no fix.
            Self::Inject(e) => Self::failed(e.to_string(), ""),
        }
    }

    /// What to do next.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Unsupported { fix, .. } | Self::Config { fix, .. } | Self::Failed { fix, .. } => {
                Some(fix.clone())
            }
            Self::StateFile { path, fault } => Some(fault.fix(path)),
            Self::Locked { .. } => Some("wait until it is done, then run this again".into()),
            Self::File { source, what, .. } if limits::is_of_size(source, what) => {
                Some(limits::size_fix())
            }
            Self::File { source, .. } if limits::is_of_open_files(&source.to_string()) => {
                Some(limits::open_files_fix().into())
            }
            Self::File { source, .. } => match source.kind() {
                std::io::ErrorKind::OutOfMemory => Some(limits::memory_fix().into()),
                std::io::ErrorKind::StorageFull => Some("make room on that file system".into()),
                std::io::ErrorKind::ReadOnlyFilesystem => {
                    Some("that file system is read-only: `mount -o remount,rw` it first".into())
                }
                std::io::ErrorKind::PermissionDenied if nix::unistd::geteuid().is_root() => Some(
                    "even root may not: look at `lsattr`, and at what SELinux or AppArmor logs"
                        .into(),
                ),
                std::io::ErrorKind::PermissionDenied => Some("run it with sudo".into()),
                std::io::ErrorKind::InvalidData
                | std::io::ErrorKind::InvalidInput
                | std::io::ErrorKind::IsADirectory
                | std::io::ErrorKind::NotADirectory
                | std::io::ErrorKind::FileTooLarge => {
                    Some("put a plain text file there, or remove what is there".into())
                }
                _ => None,
            },
            Self::RollbackIncomplete { left, .. } => Some(format!("by hand: {}", left.join("; "))),
            Self::RolledBack(cause) => cause.fix(),
            Self::Usage(_) | Self::Interrupted | Self::Inject(_) => None,
        }
        .filter(|f| !f.is_empty())
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 4,
            Self::Locked { .. } => 5,
            Self::Unsupported { .. } => 6,
            Self::RollbackIncomplete { .. } => 3,
            Self::Interrupted => 130,
            Self::RolledBack(cause) => cause.exit_code(),
            Self::Config { .. }
            | Self::File { .. }
            | Self::StateFile { .. }
            | Self::Failed { .. }
            | Self::Inject(_) => 1,
        }
    }
}
