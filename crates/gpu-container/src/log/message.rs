//! A message of ours on standard output or standard error, with an end.

use std::fmt::{Arguments, Display, Write as _};
use std::io::{Write as _, stderr, stdout};

use cdi::{Breaks, Line};

use super::out;

/// What one message has at most, whatever is in it: on standard error, in the journal and in a
/// log. Behind `Excerpt` and `Message` the second wall; a list of GPUs may be long.
const MOST: usize = 3000;

/// A line for whoever reads standard output. Nobody may be; `println` would panic, or wait.
pub(crate) fn tell(text: &str) {
    out::message(stdout(), text);
}

/// The same on standard error. Of a text that is not all ours, no more than [`bounded`] lets
/// through.
pub(crate) fn say(text: &str) {
    out::message(stderr(), text);
}

/// A short line by somebody who has no memory for it.
pub(crate) fn say_short(text: Arguments<'_>) {
    let mut room = [0; 200];
    let mut rest = &mut room[..];
    let _ = writeln!(rest, "{text}");
    let length = 200 - rest.len();
    out::piece(stderr(), &room[..length]);
}

/// A text with an end and without control characters but line breaks.
pub(crate) fn bounded(text: impl Display) -> String {
    let mut line = Line::up_to(MOST, Breaks::Kept);
    // Where it is full it says so itself.
    let _ = write!(line, "{text}");
    line.into_text()
}
