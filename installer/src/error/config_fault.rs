//! Why a configuration file cannot be edited safely, and what to do about it.

use std::path::PathBuf;

use crate::error::edit_error::EditError;
use crate::error::invocation::Invocation;

/// Why a file cannot be edited safely. The file's path comes before it in a message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConfigFault {
    /// Its text cannot be parsed, or not be edited.
    #[error("{source}")]
    Text {
        /// The editor's error.
        source: EditError,
        /// The reader of the file.
        reader: ConfigReader,
    },
    /// It has a runtime of our name that is not ours.
    #[error("has a runtime {name:?} {whose}")]
    OtherRuntime {
        /// The runtime's name.
        name: String,
        /// Whose it is: `that is not ours (/usr/bin/x)`.
        whose: String,
        /// Whether the GPU operator of a cluster would write it again.
        is_operators: bool,
        /// Whether the engine gives GPUs by CDI without a runtime.
        cdi_suffices: bool,
    },
    /// Its runtime of our name has settings that do not fit our program.
    #[error("has a runtime {name:?} {what}")]
    UnfitRuntime {
        /// The runtime's name.
        name: String,
        /// What does not fit: `that is no object: 3`.
        what: String,
    },
    /// The engine defines a runtime of our name by itself.
    #[error(
        "cannot put our program in the place of {binary}: {engine} defines that runtime by itself, \
         and containerd reads no file with a table twice"
    )]
    DefinedByEngine {
        /// The runtime's program.
        binary: String,
        /// The engine.
        engine: String,
    },
    /// The engine names the default runtime by itself.
    #[error("cannot name the default runtime: {engine} does that itself")]
    DefaultOfEngine {
        /// The engine.
        engine: String,
    },
    /// A table in it names the default runtime, and takes precedence over the key that we set.
    #[error("has a table default_runtime, and default_runtime_name has no effect beside it")]
    DefaultRuntimeTable,
    /// The engine's built-in template has the table, so nothing can be added to it.
    #[error("cannot set {key}: the built-in template has that table")]
    InTemplate {
        /// The key.
        key: String,
    },
    /// It is a template that stands alone and that the engine has not read yet.
    #[error(
        "is a template that {engine} has not read yet, and has no {{{{ template \"base\" . }}}}: at the restart \
         {engine} would make its config.toml of it alone"
    )]
    TemplateNotRead {
        /// The engine.
        engine: String,
    },
    /// A value would be interpreted as part of the template's own language.
    #[error(
        "would get a value of the usual runtime with {{{{ in it, which a template takes for its own"
    )]
    TemplateMarks,
    /// Another file overrides a key that we set.
    #[error("says otherwise of {key}, and what it says counts")]
    Overrides {
        /// The key.
        key: String,
    },
    /// It is read after ours and has the same keys.
    #[error("is read after {} and says the same keys", ours.display())]
    ReadLater {
        /// Our file.
        ours: PathBuf,
    },
    /// A flag of the daemon, or a variable that stands for one, counts before our file.
    #[error("has {flag}, which counts before {}", ours.display())]
    FlagFirst {
        /// The flag or variable.
        flag: String,
        /// Our file.
        ours: PathBuf,
    },
    /// The low-level program of the runtime that ours does the same as is not installed.
    #[error(
        "says that containers run by runtime {runtime:?}, whose program is not installed: {looked_for}"
    )]
    NoLowLevel {
        /// The runtime.
        runtime: String,
        /// The programs that were looked for.
        looked_for: String,
    },
    /// The daemon is started with a flag for the key, and does not accept both.
    #[error("starts dockerd with {flag}, and dockerd refuses {key:?} in {} beside it", file.display())]
    FlagClash {
        /// The daemon's flag.
        flag: &'static str,
        /// The key.
        key: &'static str,
        /// The file that would get the key.
        file: PathBuf,
    },
    /// Its version is not a number.
    #[error("version is not a number")]
    Version,
    /// It has a version that is not known.
    #[error("has schema version {version}, and the newest one known is {newest}")]
    VersionUnknown {
        /// Its version.
        version: i64,
        /// The newest one that is known.
        newest: i64,
    },
    /// It has a version that the installed containerd does not read.
    #[error("has schema version {version}, which containerd {}.{} does not read", daemon.0, daemon.1)]
    VersionUnread {
        /// Its version.
        version: i64,
        /// The daemon's version.
        daemon: (u32, u32),
    },
    /// It is imported by a file of another version.
    #[error(
        "has version {theirs}, and {}, which imports it, has {ours}: containerd ignores what one of \
         them says of CRI, or does not start",
        root.display()
    )]
    VersionOfImport {
        /// Its version.
        theirs: i64,
        /// The file that imports it.
        root: PathBuf,
        /// That file's version.
        ours: i64,
    },
    /// A link on the way to it has no target.
    #[error("{} is a link to what is not there", link.display())]
    DanglingLink {
        /// The link.
        link: PathBuf,
    },
    /// Its file system is read-only.
    #[error("is on a read-only file system")]
    ReadOnly {
        /// A directory on that file system.
        dir: PathBuf,
    },
    /// It, or its directory, has the attribute that forbids changes.
    #[error("cannot be changed: {} is immutable", what.display())]
    Immutable {
        /// What has the attribute.
        what: PathBuf,
    },
    /// It is a mount, so it cannot be replaced.
    #[error("is a mount of its own, so it cannot be replaced")]
    MountPoint {
        /// The mount.
        at: PathBuf,
    },
    /// It has changed since the plan was made.
    #[error("was changed by somebody else meanwhile")]
    Meanwhile,
}

/// The reader of a file, as far as it matters for the fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigReader {
    /// A program that reads it as its language says.
    Plain,
    /// dockerd, which is stricter than many editors.
    Dockerd,
    /// CRI-O, which reads every file in a directory.
    Crio,
    /// gpu-container's runtime.
    Shim,
}

impl ConfigFault {
    /// A text that cannot be edited, as an error of the file that has it.
    pub fn text(reader: ConfigReader) -> impl FnOnce(EditError) -> Self {
        move |source| Self::Text { source, reader }
    }

    /// What to do about it.
    pub fn fix(&self) -> String {
        use Invocation::{ByCdiOnly, ByRuntimeOnly, Engines, InstallAdopting, Leave};
        match self {
            Self::Text { reader, .. } => reader.fix().into(),
            Self::OtherRuntime {
                is_operators,
                cdi_suffices,
                ..
            } => {
                let again = if *is_operators {
                    "; the operator will write it again, so take this node out of its hands first"
                } else {
                    ""
                };
                let cdi = if *cdi_suffices {
                    format!("; `{ByCdiOnly}` needs no runtime")
                } else {
                    String::new()
                };
                format!(
                    "`{InstallAdopting}` puts ours in its place, and undo gives it back{again}; \
                     `{Leave}` keeps it and sets up the rest{cdi}"
                )
            }
            Self::UnfitRuntime { .. } => {
                format!("take that out by hand, or keep the entry with `{Leave}`")
            }
            Self::DefinedByEngine { .. } => format!("take that program away, or use `{Leave}`"),
            Self::DefaultOfEngine { .. } => format!(
                "leave {} out, and put `default-runtime: nvidia` into its config.yaml",
                Invocation::DefaultRuntime
            ),
            Self::DefaultRuntimeTable => format!(
                "make that table [….containerd.runtimes.NAME] with default_runtime_name = \"NAME\", \
                 or leave {} out. Nothing was changed.",
                Invocation::DefaultRuntime
            ),
            Self::InTemplate { .. } => {
                format!("use `{ByRuntimeOnly}`, or a release with containerd 2, where CDI is on")
            }
            Self::TemplateNotRead { engine } => first(&format!(
                "begin it with the line {{{{ template \"base\" . }}}}, or restart {engine} yourself and see that the node \
                 comes up"
            )),
            Self::TemplateMarks => "take it out of that runtime, then run this again".into(),
            Self::Overrides { .. } => {
                "take that out of it, then run this again. Nothing was changed.".into()
            }
            Self::ReadLater { .. } => {
                "give it a name that comes earlier, then run this again".into()
            }
            Self::FlagFirst { flag, .. } => first(&format!(
                "put what {flag} says into a file of the engine's and take it out there, or keep it with `{Leave}`"
            )),
            Self::NoLowLevel { .. } => first(
                "install that program, or name one that is installed as the runtime's program or in \
                 nvidia-container-runtime.runtimes",
            ),
            Self::FlagClash { flag, file, .. } => {
                format!("move {flag} into {}, then run this again", file.display())
            }
            Self::Version => {
                "make it `version = 2` (containerd 1.x) or 3 (2.x), then run this again".into()
            }
            Self::VersionUnknown { .. } | Self::VersionUnread { .. } => format!(
                "make `version` one that containerd reads, or leave this engine out with {Engines}"
            ),
            Self::VersionOfImport { ours, .. } => format!(
                "write that file anew as `version = {ours}`, with the names of that version, or take it away"
            ),
            Self::DanglingLink { .. } => {
                first("make that, mount what it is on, or remove the link")
            }
            Self::ReadOnly { dir } => first(&format!(
                "`mount -o remount,rw` the file system of {} or, where it is read-only by design, \
                 change its image",
                dir.display()
            )),
            Self::Immutable { what } => first(&format!("`chattr -i {}`", what.display())),
            Self::MountPoint { at } => first(&format!(
                "change the file that is mounted there, or `umount {}`",
                at.display()
            )),
            Self::Meanwhile => "run this again".into(),
        }
    }
}

/// What to do before the next run; this one stopped before it changed anything.
fn first(what: &str) -> String {
    format!("{what}, then run this again; nothing was changed")
}

impl ConfigReader {
    fn fix(self) -> &'static str {
        match self {
            Self::Plain => "mend the file, then run this again. Nothing was changed.",
            Self::Dockerd => {
                "dockerd reads strict JSON; mend the file, then run this again. Nothing was changed."
            }
            Self::Crio => {
                "CRI-O reads every file here and starts with none that is broken; mend it, then run \
                 this again. Nothing was changed."
            }
            Self::Shim => "mend the file, or move it away: without it the defaults are taken",
        }
    }
}
