//! The errors of gpusetup: what went wrong, why, what to do next, and the exit code.
//!
//! Each kind of failure is a variant with its facts. The messages are made here, so that they read
//! alike wherever they come from; a flag or a command in them is an
//! [`Invocation`](invocation::Invocation), which only `cli` can write.

pub mod config_fault;
mod core_fix;
pub mod edit_error;
pub mod engine_fault;
pub mod exit;
pub mod invocation;
pub mod program_fault;
pub mod state_fault;
pub mod still_down;
mod system_fix;
pub mod unsupported;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config_fault::ConfigFault;
use engine_fault::EngineFault;
use exit::Exit;
use invocation::Invocation;
use nix::sys::signal::Signal;
use program_fault::ProgramFault;
use state_fault::Fault;
use unsupported::Unsupported;

use crate::host::limits;
use still_down::StillDown;

/// An error of gpusetup, shown as its message and, on a separate line, its `fix`. It can be cloned, because engines
/// keep an error with the file that it is about until the file is needed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// The command changes the host, and the user is not root.
    #[error("this changes the host: run it as root, with sudo")]
    NotRoot,
    /// The user must answer a question, and there is no terminal.
    #[error("there is no terminal to ask on: give {}", Invocation::Yes)]
    NoTerminal,
    /// No problem has this id.
    #[error("no problem is called {id:?}; {} mends {}", Invocation::Fix, safe.join(", "))]
    NoSuchProblem {
        /// The id.
        id: String,
        /// The problems that can be repaired.
        safe: Vec<String>,
    },
    /// The problem is not one that may be repaired for the user.
    #[error("{id} is not for {}: {by_hand}", Invocation::Fix)]
    ProblemNotSafe {
        /// Its id.
        id: String,
        /// What the user can do.
        by_hand: String,
    },
    /// The answer to a question could not be read.
    #[error("standard input: {0}")]
    NoAnswer(#[source] Arc<io::Error>),
    /// Another run is changing this host.
    #[error("another gpusetup holds {path}{}", holder.as_ref().map(|h| format!(": {h}")).unwrap_or_default())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder of the lock, if known: process, command line, since when.
        holder: Option<String>,
    },
    /// This host cannot be set up.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A config file that cannot be edited safely.
    #[error("{path}: {fault}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: ConfigFault,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {what}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        what: &'static str,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// A state file, which records what gpusetup did here, cannot be used.
    #[error("{path} {fault}")]
    StateFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        fault: Fault,
    },
    /// Something on this host exists and could not be read.
    #[error("this host cannot be looked at whole: {0}")]
    Unread(String),
    /// A program failed.
    #[error("{line}: {fault}")]
    Program {
        /// Its command line.
        line: String,
        /// The reason.
        #[source]
        fault: ProgramFault,
    },
    /// A container of ours did not run; this is the message of the engine's client.
    #[error("{0}")]
    Container(String),
    /// Containers cannot be run where only a directory tree is changed.
    #[error("no container is run in a directory tree")]
    NoContainersInTree,
    /// Something is wrong with an engine.
    #[error("{engine} {fault}")]
    Engine {
        /// Its name.
        engine: String,
        /// What is wrong.
        #[source]
        fault: EngineFault,
    },
    /// Everything was put back, and containers that ran before do not run.
    #[error("{}", still_down::listed(down))]
    ContainersDown {
        /// What failed first; `None` after the recovery of an earlier run.
        #[source]
        cause: Option<Box<Error>>,
        /// The containers.
        down: Vec<StillDown>,
    },
    /// Containers would stop, and the user does not want that.
    #[error("containers would stop: {}", stops.join("; "))]
    WouldStop {
        /// An engine and its containers each.
        stops: Vec<String>,
        /// The command that stops them.
        command: Invocation<'static>,
    },
    /// Containers need what would be undone.
    #[error("containers use what would go, and would not start again: {}{}", gpus.join(", "), only_named(gpus, named))]
    InUse {
        /// Those that ask for GPUs.
        gpus: Vec<String>,
        /// Those that ask for none, and for which only the name of our runtime is recorded.
        named: Vec<String>,
    },
    /// It is not known whether containers need what would be undone: an engine and the reason each.
    #[error("which containers use what would go is not known: {}", .0.join(", "))]
    InUseUnknown(Vec<String>),
    /// Other tools give containers GPUs here: a line for each of their traces.
    #[error("another tool gives containers GPUs here: {}", .0.join("; "))]
    OtherTools(Vec<String>),
    /// A user or a tool has changed what we had set, so it cannot be undone: a line for each file.
    #[error("changed by somebody else since, so nothing was undone: {}", .0.join("; "))]
    ChangedSince(Vec<String>),
    /// Everything that gpusetup wrote is undone, and files of engines still name its programs: a
    /// line for each.
    #[error(
        "{}, and these still name gpusetup's programs: {}",
        if *.undone { "what gpusetup wrote is undone" } else { "gpusetup has nothing to undo here" },
        places.join("; ")
    )]
    StillNamed {
        /// Whether this run undid something.
        undone: bool,
        /// The places.
        places: Vec<String>,
    },
    /// A signal cannot be held back until a step is done.
    #[error("hold {signal} back: {source}")]
    Signal {
        /// The signal.
        signal: Signal,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// There is not enough memory to begin.
    #[error("not enough memory: {mib} MiB more are needed")]
    Memory {
        /// How much is missing, in MiB.
        mib: usize,
    },
    /// Files may not grow as large as one that is to be put back.
    #[error("a file of {bytes} bytes is to be put back")]
    FileSize {
        /// Its size.
        bytes: usize,
    },
    /// An earlier run could not be rolled back.
    #[error("an earlier run could not be put back whole")]
    EarlierRun,
    /// A step failed, and not everything could be rolled back.
    #[error("{cause}")]
    RollbackIncomplete {
        /// What failed first.
        #[source]
        cause: Box<Error>,
        /// What has to be done by hand.
        left: Vec<String>,
    },
    /// A step failed, and everything was rolled back.
    #[error("{0}")]
    RolledBack(#[source] Box<Error>),
    /// A step failed, everything of this run was rolled back, and also what earlier runs had written for these engines,
    /// which did not come back with that.
    #[error("{cause}")]
    TakenOut {
        /// What failed.
        #[source]
        cause: Box<Error>,
        /// Names of the engines.
        engines: Vec<String>,
    },
    /// The user, or another process, asked this process to end.
    #[error("interrupted; nothing was changed")]
    Interrupted,
    /// A bug in gpusetup.
    #[error("{0}")]
    Mistake(String),
    /// An error of the core library.
    #[error("{0}")]
    Inject(#[source] Arc<gpu_inject::Error>),
}

impl From<gpu_inject::Error> for Error {
    fn from(error: gpu_inject::Error) -> Self {
        Self::Inject(Arc::new(error))
    }
}

impl Error {
    /// Whether a file may not be read by this user.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            path,
            what,
            source: Arc::new(source),
        }
    }

    /// A config file that cannot be edited safely.
    pub fn config(path: &Path, fault: ConfigFault) -> Self {
        let path = path.to_owned();
        Self::Config { path, fault }
    }

    /// A program that failed.
    pub fn program(line: &str, fault: ProgramFault) -> Self {
        let line = line.to_owned();
        Self::Program { line, fault }
    }

    /// A program that the system could not run.
    pub fn not_run(line: &str) -> impl FnOnce(io::Error) -> Self + Copy + '_ {
        move |source| Self::program(line, ProgramFault::System(Arc::new(source)))
    }

    /// An engine with which something is wrong.
    pub fn engine(engine: &str, fault: EngineFault) -> Self {
        let engine = engine.to_owned();
        Self::Engine { engine, fault }
    }

    /// What to do next.
    pub fn fix(&self) -> Option<String> {
        use Invocation::{Adopt, Leave, UndoByForce, UndoLeavingRuntime, Yes};
        Some(match self {
            Self::Unsupported(unsupported) => unsupported.fix(),
            Self::Signal { source, .. } => return system_fix::of(source),
            Self::Config { fault, .. } => fault.fix(),
            Self::StateFile { path, fault } => fault.fix(path),
            Self::File { source, what, .. } => return system_fix::of_file(source, what),
            Self::Program { line, fault } => return fault.fix(line),
            Self::Engine { engine, fault } => return fault.fix(engine),
            Self::Inject(error) => return core_fix::of(error),
            Self::RolledBack(cause) | Self::TakenOut { cause, .. } => return cause.fix(),
            Self::RollbackIncomplete { left, .. } => format!("by hand: {}", left.join("; ")),
            Self::ContainersDown { down, .. } => still_down::start_command(down),
            Self::Locked { .. } => "wait until it is done, then run this again".into(),
            Self::NoAnswer(_) => format!("give {Yes}"),
            Self::Unread(trouble) if limits::is_of_open_files(trouble) => {
                format!("nothing was changed; {}", limits::open_files_fix())
            }
            Self::Unread(_) => "nothing was changed; mend that first".into(),
            Self::WouldStop { command, .. } => format!(
                "run `{command}` when they may, or turn on live-restore; nothing was changed"
            ),
            Self::InUse { gpus, .. } if gpus.is_empty() => format!(
                "make them anew without that runtime, or run `{UndoLeavingRuntime}`, which leaves a runtime of that \
                 name that is plain runc; `{UndoByForce}` goes ahead without; nothing was changed"
            ),
            Self::InUse { named, .. } => {
                let named = if named.is_empty() {
                    String::new()
                } else {
                    format!(
                        "; `{UndoLeavingRuntime}` leaves a runtime for those that ask for no GPU"
                    )
                };
                format!("remove them first, or run `{UndoByForce}`{named}; nothing was changed")
            }
            Self::InUseUnknown(_) => format!(
                "see that the engine answers, then run this again, or run `{UndoByForce}`; nothing was changed"
            ),
            Self::OtherTools(_) => format!(
                "`{Adopt}` puts ours in its place, and undo returns to it; `{Leave}` leaves it and \
                 sets up the rest. Nothing was changed."
            ),
            Self::ChangedSince(_) => {
                "mend the file, and put what gpusetup set back to what it wrote or take it out by \
                 hand, then run this again"
                    .into()
            }
            Self::StillNamed { .. } => {
                "gpusetup did not write those lines: take them out, or let what wrote them do it, \
                 before the programs go"
                    .into()
            }
            Self::NoContainersInTree => format!("leave {} out", Invocation::Root),
            Self::Memory { .. } => limits::memory_fix().into(),
            Self::FileSize { .. } => limits::size_fix(),
            Self::Mistake(_) => "this is a mistake in gpusetup; please report it".into(),
            Self::Usage(_)
            | Self::NotRoot
            | Self::NoTerminal
            | Self::NoSuchProblem { .. }
            | Self::ProblemNotSafe { .. }
            | Self::Container(_)
            | Self::EarlierRun
            | Self::Interrupted => return None,
        })
    }

    /// The process's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_)
            | Self::NoTerminal
            | Self::NoSuchProblem { .. }
            | Self::ProblemNotSafe { .. } => Exit::Usage,
            Self::NotRoot => Exit::NeedsRoot,
            Self::Locked { .. } => Exit::Locked,
            Self::Unsupported(_) => Exit::Unsupported,
            Self::RollbackIncomplete { .. } | Self::StillNamed { .. } => Exit::RollbackIncomplete,
            Self::ContainersDown { .. } => Exit::ContainersDown,
            Self::Interrupted => Exit::Interrupted,
            Self::RolledBack(cause) | Self::TakenOut { cause, .. } => cause.exit(),
            Self::Config { .. }
            | Self::File { .. }
            | Self::StateFile { .. }
            | Self::Unread(_)
            | Self::NoAnswer(_)
            | Self::Program { .. }
            | Self::Container(_)
            | Self::NoContainersInTree
            | Self::Engine { .. }
            | Self::WouldStop { .. }
            | Self::InUse { .. }
            | Self::InUseUnknown(_)
            | Self::OtherTools(_)
            | Self::ChangedSince(_)
            | Self::Signal { .. }
            | Self::Memory { .. }
            | Self::FileSize { .. }
            | Self::EarlierRun
            | Self::Mistake(_)
            | Self::Inject(_) => Exit::Failed,
        }
    }
}

/// The part of the message about containers that ask for no GPU, after that about the others.
fn only_named(gpus: &[String], named: &[String]) -> String {
    if named.is_empty() {
        return String::new();
    }
    let first = if gpus.is_empty() { "" } else { "; " };
    format!(
        "{first}these ask for no GPU, but have our runtime recorded, and Docker starts none whose runtime it does not \
         know: {}",
        named.join(", ")
    )
}
