//! What can go wrong, with what to do next and the exit code that says so.

pub mod state_fault;

use std::path::{Path, PathBuf};

use crate::host::limits;
use state_fault::Fault;

/// Errors of gpusetup. Shown as `cause` and, on a line of its own, `fix`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// Another run changes this host.
    #[error("another gpusetup holds {path}{}", holder.as_ref().map(|h| format!(": {h}")).unwrap_or_default())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// Who holds it, where that can be told: process, command line, since when.
        holder: Option<String>,
    },
    /// This host is not one we can set up.
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
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that tells what gpusetup did here cannot be used.
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
        /// What and why.
        what: String,
        /// What to do.
        fix: String,
    },
    /// A step failed and not everything could be put back.
    #[error("{cause}")]
    RollbackIncomplete {
        /// What failed first.
        cause: Box<Error>,
        /// What is left to do by hand.
        left: Vec<String>,
    },
    /// A step failed, and everything was put back.
    #[error("{0}")]
    RolledBack(Box<Error>),
    /// The user, or whoever stops this process, wanted it to end.
    #[error("interrupted; nothing was changed")]
    Interrupted,
    /// The core says so.
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

    /// The same once more, for who keeps an error with the file that it is about: what the system said is kept by its
    /// number, or by its words.
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
            // The same words and exit code; the core says no fix.
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
