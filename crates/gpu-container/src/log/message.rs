//! Messages of limited length on standard output and standard error.

use std::fmt::{self, Arguments, Display, Write as _};
use std::io::{stderr, stdout};

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

/// Prints a short line without allocating memory, for callers that have none left or must not allocate.
pub(crate) fn say_short(text: Arguments<'_>) {
    let mut line = Short {
        room: [0; SHORT],
        length: 0,
    };
    // If the buffer is full, the part that fits is printed.
    let _ = line.write_fmt(text);
    out::piece(stderr(), line.ended());
}

/// Maximum length of such a line, including its end.
const SHORT: usize = 1000;

struct Short {
    room: [u8; SHORT],
    length: usize,
}

impl Short {
    fn ended(&mut self) -> &[u8] {
        self.room[self.length] = b'\n';
        &self.room[..=self.length]
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let character = if character.is_control() {
                ' '
            } else {
                character
            };
            let end = self.length + character.len_utf8();
            if end >= SHORT {
                return Err(fmt::Error);
            }
            character.encode_utf8(&mut self.room[self.length..end]);
            self.length = end;
        }
        Ok(())
    }
}

/// Limits a text's length and removes its control characters, except line breaks.
pub(crate) fn bounded(text: impl Display) -> String {
    let mut line = Line::up_to(MAX_MESSAGE, Breaks::Kept);
    // An overflow is not an error here: the line marks it itself.
    let _ = write!(line, "{text}");
    line.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_line_has_one_end_whatever_is_in_it() {
        let line = |text: Arguments<'_>| {
            let mut line = Short {
                room: [0; SHORT],
                length: 0,
            };
            let _ = line.write_fmt(text);
            String::from_utf8(line.ended().to_vec()).unwrap()
        };
        assert_eq!(line(format_args!("a\nb\x1b[{}", 7)), "a b [7\n");
        for long in ["x".repeat(5000), "€".repeat(5000)] {
            let shown = line(format_args!("{long}"));
            assert!(shown.len() > SHORT - 4 && shown.len() <= SHORT && shown.ends_with('\n'));
            assert_eq!(shown.matches('\n').count(), 1);
        }
    }
}
