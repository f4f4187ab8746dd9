//! The error of the editors: why a text cannot be edited.

use std::error::Error;
use std::sync::Arc;

/// Why a text cannot be edited.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EditError {
    /// The text is not valid in its language.
    #[error("{}", .0.to_string().trim())]
    Syntax(#[source] Arc<dyn Error + Send + Sync>),
    /// A key occurs twice: readers disagree on which one counts.
    #[error("the key {0:?} is there twice")]
    Duplicate(String),
    /// There is something else where a table must be.
    #[error("{0} is not an object")]
    NotATable(String),
    /// The edited text would differ in more than what was asked for.
    #[error("cannot be edited without changing other keys")]
    Inexact,
    /// The user changed a value that we had set.
    #[error("{0} was changed since")]
    Conflict(String),
}

impl EditError {
    /// A text that is not valid in its language: the parser's error, or what is wrong with it.
    pub fn syntax(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Syntax(Arc::from(source.into()))
    }
}

/// A parser's error can be compared only by its message.
impl PartialEq for EditError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// A key path for messages: `runtimes.nvidia`.
pub fn dotted(keys: &[String]) -> String {
    keys.join(".")
}
