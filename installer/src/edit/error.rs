//! Why a text cannot be edited.

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
pub fn dotted(keys: &[String]) -> String {
    keys.join(".")
}
