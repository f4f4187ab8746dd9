//! Judges the items of an argument list: a flag such as `--password` makes the next one a secret.

use super::words;

/// The argument before the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing that matters for the current one.
    #[default]
    Nothing,
    /// A flag, which may have the current argument as its value.
    Flag,
    /// A flag such as `--password`, whose value is a secret.
    Secret,
}

impl Before {
    /// What an argument means for the next one.
    pub(super) fn of(text: &str) -> Self {
        let name = text.trim_start_matches('-');
        let is_flag = text.starts_with('-')
            && !text.starts_with("---")
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && !text.contains(['=', '/'])
            && !text.contains(char::is_whitespace);
        match is_flag {
            false => Self::Nothing,
            true if words::is_secret_key(name) && !name.ends_with("stdin") => Self::Secret,
            true => Self::Flag,
        }
    }

    /// Returns the argument before this one and remembers this one for the next.
    pub(super) fn step(&mut self, text: &str) -> Self {
        std::mem::replace(self, Self::of(text))
    }
}
