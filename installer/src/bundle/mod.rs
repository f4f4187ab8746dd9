//! `gpusetup bundle`: packs what a maintainer needs to know about a host into one archive.
//!
//! Everything is collected into one value, masked as a whole, and only then written. The archive
//! accepts only [`Masked`](masked::Masked), so that nothing can bypass the mask.

pub mod archive;
pub mod collect;
pub mod masked;
mod page;
pub mod topology;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use topology::Topology;

/// Everything that goes into the archive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bundle {
    /// Version of the format, currently 1.
    pub schema: u32,
    /// Version of gpusetup.
    pub version: String,
    /// When the bundle was made, by this host's clock.
    pub made: String,
    /// The document of `detect --json`, or null if detection failed.
    pub host: Value,
    /// How GPUs and their neighbours are connected.
    pub topology: Topology,
    /// What gpusetup has changed, in order of time.
    pub changes: Vec<Done>,
    /// The document of `doctor --json`.
    pub doctor: Value,
    /// Configuration files.
    pub files: Vec<TextFile>,
    /// The ends of logs.
    pub logs: Vec<TextFile>,
    /// What could not be read, with the reason.
    pub unread: Vec<String>,
}

/// A change of an earlier run as the receipt records it, and its state now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The file.
    pub path: String,
    /// What the change was for.
    pub why: String,
    /// The file's text before the first run.
    pub before: Option<String>,
    /// The text that was written; `None` if the file was removed.
    pub after: Option<String>,
    /// When the run that wrote it ended; `None` in a receipt of an older gpusetup.
    #[serde(default)]
    pub at: Option<String>,
    /// When the file was last written, by anybody.
    pub written: Option<String>,
    /// The state of the file now.
    pub now: Now,
    /// Whether the run has not ended, so that the change may not have been made.
    pub unfinished: bool,
}

impl Done {
    /// When the change was made, as far as that is known.
    pub fn time(&self) -> Option<&str> {
        self.at.as_deref().or(self.written.as_deref())
    }
}

/// The state of a file that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Now {
    /// It is as gpusetup wrote it.
    Ours,
    /// Somebody has changed it since.
    Changed,
    /// It is gone.
    Gone,
    /// It cannot be read.
    Unread,
}

/// A file, or a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TextFile {
    /// Path on the host, or the name of a log.
    pub name: String,
    /// Its content.
    pub content: String,
    /// Whether the content is only a part of it.
    pub cut: bool,
}
