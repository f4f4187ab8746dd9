//! The values of `mode` and `log-level` in the policy's section for the runtime.

/// `nvidia-container-runtime.mode`: where a container's edits come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeMode {
    /// CDI specs if the container requests only qualified CDI names, else our own plan.
    #[default]
    Auto,
    /// Our own plan. In nvidia-container-toolkit the prestart hook injects in this mode. Here the
    /// edits are in config.json, as in the other modes, so that they survive a daemon-reload.
    Legacy,
    /// CDI specs in the directories of `modes.cdi.spec-dirs`.
    Cdi,
    /// Our own plan, which corresponds to what nvidia-container-toolkit does in this mode.
    JitCdi,
    /// Our own plan, with the files that a Tegra's CSV files list.
    Csv,
}

impl RuntimeMode {
    pub(super) const WORDS: &'static str = "auto, legacy, csv, cdi, jit-cdi";

    /// The mode with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "auto" => Self::Auto,
            "legacy" => Self::Legacy,
            "cdi" => Self::Cdi,
            "jit-cdi" => Self::JitCdi,
            "csv" => Self::Csv,
            _ => return None,
        })
    }
}

/// `log-level`, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A container that could not be started.
    Error,
    /// A request that was ignored.
    Warning,
    /// What was done for a container.
    Info,
    /// Why it was done.
    Debug,
}

impl Level {
    pub(super) const WORDS: &'static str = "error, warning, info, debug, trace";

    /// The level with this word. The words are those of logrus, for which the file is made.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Self::Error,
            "warn" | "warning" => Self::Warning,
            "info" => Self::Info,
            "debug" | "trace" => Self::Debug,
            _ => return None,
        })
    }

    /// The word in runc's log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}
