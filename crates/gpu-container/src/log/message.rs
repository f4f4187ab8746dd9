//! Messages of limited length on standard output and standard error.

use std::fmt::{Arguments, Display, Write as _};
use std::io::{Write as _, stderr, stdout};

use cdi::{Breaks, Line};

use super::out;

/// Maximum bytes of one message on standard error, in the journal and in a log. A second limit after
/// those of `Excerpt` and `Message`. It is higher than theirs because a list of GPUs may be long.
const MAX_MESSAGE: usize = 3000;

/// Prints a line on standard output. Unlike `println` it neither panics nor blocks if nobody reads it.
pub(crate) fn tell(text: &str) {
    out::message(stdout(), text);
}

/// Prints a line on standard error. Text that is not entirely ours must be passed through
/// [`bounded`] first.
pub(crate) fn say(text: &str) {
    out::message(stderr(), text);
}

/// Prints a line of at most 200 bytes on standard error, without allocating memory.
pub(crate) fn say_short(text: Arguments<'_>) {
    let mut buffer = [0; 200];
    let mut rest = &mut buffer[..];
    let _ = writeln!(rest, "{text}");
    let length = 200 - rest.len();
    out::piece(stderr(), &buffer[..length]);
}

/// Limits a text's length and removes its control characters, except line breaks.
pub(crate) fn bounded(text: impl Display) -> String {
    let mut line = Line::up_to(MAX_MESSAGE, Breaks::Kept);
    // An overflow is not an error here: the line marks it itself.
    let _ = write!(line, "{text}");
    line.into_text()
}
