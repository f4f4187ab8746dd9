//! Defines how much a text is trusted, which decides which of its words are shown.

/// Which words are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Words that could be part of a sentence.
    Words,
    /// Only words and forms that are listed.
    Values,
}
