//! The failures of a run: why a container did not run to its end.

use std::fmt;
use std::path::Path;

use tonic::Code;

/// Why a container did not run to its end.
#[derive(Debug)]
pub(crate) enum CriFailure {
    /// Nothing is known about the engine's containers: it does not answer, or it would have to pull
    /// an image.
    NotVerified(String),
    /// The engine refused a call.
    Refused {
        /// The name of the call.
        call: String,
        /// The kind of the engine's error.
        code: Code,
        /// The text of the engine's error.
        message: String,
    },
    /// The container ended before it had printed anything, or timed out.
    Container(String),
    /// The container was killed before it had printed anything.
    Removed,
    /// An operation on a file or directory of ours failed.
    File(String),
}

impl CriFailure {
    /// The failure when an engine does not answer at its socket.
    pub(crate) fn no_answer(socket: &Path, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            text = deeper.to_string();
            cause = deeper.source();
        }
        Self::NotVerified(format!("no engine answers at {}: {text}", socket.display()))
    }

    /// Whether the sandbox or the container was removed: a kubelet removes pods that it does not know.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Removed
                | Self::Refused {
                    code: Code::NotFound,
                    ..
                }
        )
    }
}

impl fmt::Display for CriFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVerified(why) | Self::Container(why) | Self::File(why) => f.write_str(why),
            Self::Removed => f.write_str("the container was killed at once"),
            Self::Refused { call, message, .. } => write!(f, "{call}: {message}"),
        }
    }
}

impl std::error::Error for CriFailure {}
