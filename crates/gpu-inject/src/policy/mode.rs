//! The words of the runtime's own section.

/// `nvidia-container-runtime.mode`: where a container's edits come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// CDI specs where all that is asked for is qualified CDI names, our own plan otherwise.
    #[default]
    Auto,
    /// Our own plan. With nvidia-container-toolkit the prestart hook does it; here the
    /// edits are in config.json all the same, where they outlast a daemon-reload.
    Legacy,
    /// CDI specs in the directories of `modes.cdi.spec-dirs`.
    Cdi,
    /// Our own plan, which is what this mode means there too.
    JitCdi,
    /// Our own plan, over what a Tegra's CSV files list.
    Csv,
}

impl Mode {
    pub(super) const WORDS: &'static str = "auto, legacy, csv, cdi, jit-cdi";

    /// The mode of that word.
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
    /// What was asked for and passed over.
    Warning,
    /// What was done for a container.
    Info,
    /// And why.
    Debug,
}

impl Level {
    pub(super) const WORDS: &'static str = "error, warning, info, debug, trace";

    /// The level of that word; logrus's, since the file is made for it.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Self::Error,
            "warn" | "warning" => Self::Warning,
            "info" => Self::Info,
            "debug" | "trace" => Self::Debug,
            _ => return None,
        })
    }

    /// As runc's log says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}
