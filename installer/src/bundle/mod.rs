//! `gpusetup bundle`: what a maintainer needs to see of a host, in one archive.
//!
//! Everything is collected into one value, masked as a whole, and only then written: the archive
//! takes nothing but [`Masked`](masked::Masked), so there is no way around the mask.

pub mod archive;
pub mod collect;
pub mod masked;
mod page;
pub mod topology;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use topology::Topology;

/// All that goes into the archive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bundle {
    /// Format; now 1.
    pub schema: u32,
    /// Version of gpusetup.
    pub version: String,
    /// When, by this host's clock.
    pub made: String,
    /// The document of `detect --json`, or null where it cannot be told.
    pub host: Value,
    /// How GPUs and their neighbours are connected.
    pub topology: Topology,
    /// What gpusetup has changed, the latest last.
    pub changes: Vec<Done>,
    /// The document of `doctor --json`.
    pub doctor: Value,
    /// Configuration.
    pub files: Vec<Text>,
    /// The ends of logs.
    pub logs: Vec<Text>,
    /// What could not be read, with the reason.
    pub unread: Vec<String>,
}

/// A change of an earlier run, as the receipt has it, and what has become of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The file.
    pub path: String,
    /// What it was for.
    pub why: String,
    /// Before the first run.
    pub before: Option<String>,
    /// As written; `None` where the file was removed.
    pub after: Option<String>,
    /// When the run that wrote it was done; `None` of a receipt that an older gpusetup wrote.
    #[serde(default)]
    pub at: Option<String>,
    /// When the file was last written, by anybody.
    pub written: Option<String>,
    /// What stands there now.
    pub now: Now,
    /// Of a run that has not ended: none of it need be so.
    pub unfinished: bool,
}

impl Done {
    /// When it was done, as far as that is known.
    pub fn time(&self) -> Option<&str> {
        self.at.as_deref().or(self.written.as_deref())
    }
}

/// What stands where a change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Now {
    /// As gpusetup wrote it.
    Ours,
    /// Somebody has changed it since.
    Changed,
    /// It has gone.
    Gone,
    /// It cannot be read.
    Unread,
}

/// A file, or a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    /// Path on the host, or the name of a log.
    pub name: String,
    /// What it says.
    pub content: String,
    /// Where it is not all of it.
    pub cut: bool,
}
