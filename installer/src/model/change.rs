//! A change to one file, as a value.
//!
//! Engines compute the changes, `plan` shows them, `apply` carries them out, the receipt keeps
//! them, and `undo` reverses them. These steps cannot disagree, because they share this value.
//!
//! It cannot be deserialized: an entry of a journal or a receipt is a
//! [`crate::transaction::stored::StoredChange`] until its checksum was verified. The writer accepts only
//! changes, so it never gets a text that was not checked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One file, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path as the engine names it, absolute within the root. If it is a symbolic link, the
    /// link stays and its target is written.
    pub path: PathBuf,
    /// The text now; `None` if there is no such file. All we edit is UTF-8 text.
    pub before: Option<String>,
    /// The text to write; `None` if the file is to be removed.
    pub after: Option<String>,
    /// Permission bits for a file that is created; an existing file keeps its own.
    pub mode: u32,
    /// What the change does, as the plan shows it: `add runtime "nvidia"; turn on CDI`.
    pub why: String,
    /// How to remove our part from the file if the user has changed it since.
    pub kind: MergeKind,
}

/// What a change does to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeVerb {
    /// The file does not exist before.
    Create,
    /// The file exists before and after.
    Edit,
    /// The file does not exist after.
    Remove,
}

/// One of the two states of the file in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The file before the change.
    Before,
    /// The file as it is written.
    After,
}

/// The kind of file, which decides how an undo merges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum MergeKind {
    /// A JSON file of the user's, comments allowed; the values at `keys` are ours.
    Json {
        /// Key paths we set, for instance `["runtimes", "nvidia"]`.
        keys: Vec<Vec<String>>,
    },
    /// A TOML file of the user's; the values at `keys` are ours.
    Toml {
        /// Key paths we set.
        keys: Vec<Vec<String>>,
    },
    /// A file of the user's in any language; ours are the lines from `begin` to `end`, including
    /// both.
    Block {
        /// The marker line before ours.
        begin: String,
        /// The marker line after ours.
        end: String,
    },
    /// A file that is wholly ours: a drop-in.
    Own,
    /// A file of ours that every boot makes again: the CDI spec.
    Generated,
    /// A symbolic link of ours that every boot makes again; the text is its target.
    Link,
}

impl Change {
    /// The text on that side; `None` if the file does not exist there.
    pub fn text(&self, side: Side) -> Option<&str> {
        match side {
            Side::Before => self.before.as_deref(),
            Side::After => self.after.as_deref(),
        }
    }

    /// What the change does to its file.
    pub fn verb(&self) -> ChangeVerb {
        match (&self.before, &self.after) {
            (_, None) => ChangeVerb::Remove,
            (None, Some(_)) => ChangeVerb::Create,
            (Some(_), Some(_)) => ChangeVerb::Edit,
        }
    }

    /// Whether making the change would change anything.
    pub fn is_needed(&self) -> bool {
        self.before != self.after
    }
}
