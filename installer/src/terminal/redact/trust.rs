//! How much a text is trusted: it decides which of its words are shown.

/// Which words stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Words that could be of a sentence.
    Words,
    /// Words that are listed, and forms that are.
    Values,
}
