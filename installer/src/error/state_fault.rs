//! Why a journal or a receipt cannot be used, and the way out.

use std::fmt;
use std::path::Path;

/// The format that is written. Schema 1, up to 0.1.0, had no checksums; it is still read.
pub const SCHEMA: u32 = 2;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A checksum does not hold, or it is no such file at all: where, as far as that can be told.
    Damaged(String),
    /// Something else stands in its place, or a link that leads nowhere: what it says is not known.
    Unreachable(String),
    /// Written by a gpusetup that came after this one, of that version where it says so.
    Newer(u32, Option<String>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "is damaged: {what}"),
            Self::Unreachable(what) => write!(f, "cannot be read: {what}"),
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
    /// The way out.
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
            Self::Newer(..) => "nothing was written. Install that version again; to go back to \
                 this one, run `gpusetup undo` there first"
                .into(),
        }
    }
}
