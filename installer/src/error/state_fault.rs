//! Why a journal or a receipt cannot be used, and what to do about it.

use std::fmt;
use std::path::Path;

use crate::error::invocation::Invocation;

/// The version of the format that is written. Schema 1, written up to 0.1.0, had no checksums; it
/// is still read.
pub const SCHEMA: u32 = 2;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A checksum does not match, or the file is not a state file at all. The text says where, as far as possible.
    Damaged(String),
    /// Something that is not a file, or a dangling link, is in its place, so its content is not
    /// known.
    Unreachable(String),
    /// It would be longer than this many bytes, more than is read again.
    TooLong(usize),
    /// Written by a newer gpusetup: the schema, and the version if the file names it.
    Newer(u32, Option<String>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "is damaged: {what}"),
            Self::Unreachable(what) => write!(f, "cannot be read: {what}"),
            Self::TooLong(limit) => write!(f, "would be longer than {limit} bytes"),
            Self::Newer(schema, version) => {
                write!(f, "is of a newer gpusetup")?;
                if let Some(version) = version {
                    write!(f, " ({version})")?;
                }
                write!(f, ": schema {schema}, and this one reads 1 to {SCHEMA}")
            }
        }
    }
}

impl Fault {
    /// What to do about it.
    pub fn fix(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Damaged(_) => format!(
                "nothing was written. Put {path} back from a backup. Without one move it away and \
                 put the files back that it names, by hand: docs/troubleshooting.md, \"A damaged \
                 record\""
            ),
            Self::Unreachable(_) => format!(
                "nothing was written. Mount what a link leads to, or put {path} back from a backup. \
                 Without one move away what stands there and put the files back by hand: \
                 docs/troubleshooting.md, \"A damaged record\""
            ),
            Self::TooLong(_) => {
                "the files to change are too large to be undone safely; make them smaller".into()
            }
            Self::Newer(..) => format!(
                "nothing was written. Install that version again; to go back to this one, run `{}` \
                 there first",
                Invocation::Undo
            ),
        }
    }
}
