//! The error of the editors: why a text cannot be edited.

/// Why a text cannot be edited.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not valid in its language.
    #[error("{0}")]
    Syntax(String),
    /// A key occurs twice: readers disagree on which one counts.
    #[error("the key {0:?} is there twice")]
    Duplicate(String),
    /// There is something else where a table must be.
    #[error("{0} is not an object")]
    NotATable(String),
    /// The user changed a value that we had set.
    #[error("{0} was changed since")]
    Conflict(String),
}

/// A key path for messages: `runtimes.nvidia`.
pub fn dotted(keys: &[String]) -> String {
    keys.join(".")
}
