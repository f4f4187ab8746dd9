//! Editors that change the keys asked for and no other byte.

pub mod block;
pub mod json;
mod json_text;
mod merge;
pub mod toml;

use crate::change::FileKind;

/// Why a text cannot be edited.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Not of its language.
    #[error("{0}")]
    Syntax(String),
    /// A key is there twice: readers disagree on which one counts.
    #[error("the key {0:?} is there twice")]
    Duplicate(String),
    /// Something else where a table must be.
    #[error("{0} is not an object")]
    NotATable(String),
    /// The user changed what we had set.
    #[error("{0} was changed since")]
    Conflict(String),
}

/// A key path for people: `runtimes.nvidia`.
fn dotted(keys: &[String]) -> String {
    keys.join(".")
}

/// Takes our part out of a file that the user has changed since: what we set goes back to
/// what it was, everything else stays. `Ok(None)`: the file is to go.
pub fn remove(
    kind: &FileKind,
    current: &str,
    before: Option<&str>,
    after: &str,
) -> Result<Option<String>, EditError> {
    if current == after {
        return Ok(before.map(str::to_owned));
    }
    match kind {
        FileKind::Json { keys } => json::remove(current, before, after, keys).map(Some),
        FileKind::Toml { keys } => toml::remove(current, before, after, keys).map(Some),
        FileKind::Block { begin, end } => block::remove(current, after, begin, end).map(Some),
        FileKind::Generated => Ok(before.map(str::to_owned)),
        // Somebody else's by now.
        FileKind::Link => Ok(Some(current.to_owned())),
        FileKind::Own => Err(EditError::Conflict("the file".into())),
    }
}
