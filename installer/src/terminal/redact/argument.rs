//! Arguments that stand each for itself, as in a list: what a flag makes of the next one.

use super::words;

/// What stands before an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing that says anything of it.
    #[default]
    Nothing,
    /// A flag, which may have it for its value.
    Flag,
    /// A flag such as `--password`.
    Secret,
}

impl Before {
    /// What an argument is for the next one.
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

    /// What stood before this argument, which from now on is the one before.
    pub(super) fn step(&mut self, text: &str) -> Self {
        std::mem::replace(self, Self::of(text))
    }
}
