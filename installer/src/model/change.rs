//! A change to one file, as a value.
//!
//! Engines say the changes they want, `plan` shows them, `apply` carries them
//! out, the receipt keeps them, `undo` reverses them. None of these can
//! disagree, because they share this value.
//!
//! It can be read from nowhere: what a journal or a receipt has is a [`crate::transaction::stored::Entry`] until
//! its checksum was looked at. So the writer, which takes changes alone, never gets a text that
//! nobody has checked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One file, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path as the engine names it, absolute within the root. A symbolic
    /// link stays; the file it leads to is written.
    pub path: PathBuf,
    /// Text now; `None` where there is no such file. All we edit is UTF-8 text.
    pub before: Option<String>,
    /// Text wanted; `None` where the file is to go.
    pub after: Option<String>,
    /// Permission bits for a file that is created; an existing file keeps its own.
    pub mode: u32,
    /// What the change does, in words for the plan: `add runtime "nvidia"; turn on CDI`.
    pub why: String,
    /// How to take our part out of the file when the user has changed it since.
    pub kind: FileKind,
}

/// What a change does to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeVerb {
    /// There was none.
    Create,
    /// There is one before and after.
    Edit,
    /// There is none after.
    Remove,
}

/// One of the two states of a file that a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// As it was found.
    Before,
    /// As it is wanted.
    After,
}

/// What kind of file it is; decides how an undo merges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FileKind {
    /// A file of the user's in JSON with comments allowed; ours are the values at `keys`.
    Json {
        /// Key paths we set, for instance `["runtimes", "nvidia"]`.
        keys: Vec<Vec<String>>,
    },
    /// A file of the user's in TOML; ours are the values at `keys`.
    Toml {
        /// Key paths we set.
        keys: Vec<Vec<String>>,
    },
    /// A file of the user's in any language; ours are the lines between two, both with them.
    Block {
        /// The line before ours.
        begin: String,
        /// The line after ours.
        end: String,
    },
    /// A file that is ours as a whole: a drop-in.
    Own,
    /// A file that is ours and made anew at every boot: the CDI spec.
    Generated,
    /// A symbolic link of ours, made anew at every boot; the text is where it leads.
    Link,
}

impl Change {
    /// The text of that state; `None` where there is no file in it.
    pub fn text(&self, side: Side) -> Option<&str> {
        match side {
            Side::Before => self.before.as_deref(),
            Side::After => self.after.as_deref(),
        }
    }

    /// What it does.
    pub fn verb(&self) -> ChangeVerb {
        match (&self.before, &self.after) {
            (_, None) => ChangeVerb::Remove,
            (None, Some(_)) => ChangeVerb::Create,
            (Some(_), Some(_)) => ChangeVerb::Edit,
        }
    }

    /// Whether carrying it out would change anything.
    pub fn is_needed(&self) -> bool {
        self.before != self.after
    }
}
