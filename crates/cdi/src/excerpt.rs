//! Limits how much foreign text a message contains. An image may have variables, paths and
//! annotations of megabytes, which must not end up in logs or on terminals.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

/// Maximum bytes of an excerpt, including escapes.
const MAX_EXCERPT: usize = 200;
/// Maximum bytes of a message, including excerpts.
const MAX_MESSAGE: usize = 800;
/// Marks the end of a message that was truncated.
const CUT: &str = "… (cut)";

/// The beginning of a text that comes from a container, at most 200 bytes when printed, and the
/// length of the whole text. No more than that is copied.
///
/// Control characters and bytes that are not UTF-8 are printed as escapes, so that a name in an
/// image can neither add a line to a log nor move a terminal's cursor.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt {
    head: Vec<u8>,
    length: usize,
}

impl Excerpt {
    /// Makes an excerpt of a string, a path or an `OsStr`.
    pub fn of(text: impl AsRef<OsStr>) -> Self {
        let text = text.as_ref().as_bytes();
        // A longer beginning is not needed, because each byte is printed as one byte or more.
        let beginning = &text[..text.len().min(MAX_EXCERPT + 4)];
        let mut budget = Budget(MAX_EXCERPT);
        let mut end = 0;
        for chunk in beginning.utf8_chunks() {
            let fits = chunk.valid().chars().all(|c| {
                let fits = budget.takes(|budget| show(c, true, budget));
                end += if fits { c.len_utf8() } else { 0 };
                fits
            });
            let invalid = chunk.invalid();
            // Bytes at the very end of `beginning` may be a truncated character instead of an invalid one.
            let is_whole = end + invalid.len() < beginning.len() || beginning.len() == text.len();
            if !(fits && is_whole && budget.takes(|budget| show_bytes(invalid, budget))) {
                break;
            }
            end += invalid.len();
        }
        Self {
            head: text[..end].to_vec(),
            length: text.len(),
        }
    }

    /// Whether the text begins with `what`, which must be shorter than an excerpt.
    pub fn starts_with(&self, what: &str) -> bool {
        self.head.starts_with(what.as_bytes())
    }

    fn show(&self, quoted: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if quoted { "\"" } else { "" };
        f.write_str(quote)?;
        for chunk in self.head.utf8_chunks() {
            chunk.valid().chars().try_for_each(|c| show(c, quoted, f))?;
            show_bytes(chunk.invalid(), f)?;
        }
        f.write_str(quote)?;
        if self.head.len() < self.length {
            write!(f, "… ({} bytes)", self.length)?;
        }
        Ok(())
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for Excerpt {
    fn from(text: &T) -> Self {
        Self::of(text)
    }
}

impl PartialEq<&str> for Excerpt {
    fn eq(&self, other: &&str) -> bool {
        self.length == other.len() && self.head == other.as_bytes()
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(false, f)
    }
}

/// Printed in quotes.
impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(true, f)
    }
}

fn show(c: char, quoted: bool, to: &mut impl Write) -> fmt::Result {
    match c {
        '"' | '\\' if !quoted => to.write_char(c),
        '\'' => to.write_char(c),
        _ => write!(to, "{}", c.escape_debug()),
    }
}

fn show_bytes(bytes: &[u8], to: &mut impl Write) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(to, "\\x{b:02x}"))
}

/// A writer that only counts: the number of bytes that may still be written.
struct Budget(usize);

impl Budget {
    fn takes(&mut self, text: impl FnOnce(&mut Self) -> fmt::Result) -> bool {
        text(self).is_ok()
    }
}

impl Write for Budget {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// A message of one line and at most 800 bytes. It stays so even if text from a container is
/// inserted without an [`Excerpt`]. Made from [`format_args!`] it never needs more memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    /// Formats the text and truncates it.
    pub fn of(text: fmt::Arguments<'_>) -> Self {
        let mut line = Line::up_to(MAX_MESSAGE, Breaks::Escaped);
        // An overflow is not an error here: the line marks it itself.
        let _ = line.write_fmt(text);
        Self(line.into_text())
    }
}

impl Deref for Message {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::of(format_args!("{text}"))
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Message {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How line breaks and tabs are treated. Other control characters are always escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// They are escaped like other control characters.
    Escaped,
    /// They are kept, for explanations of several lines about files of the host.
    Kept,
}

/// A writer that keeps a limited length of text, without control characters, and marks the end if it
/// was truncated. Once it is full, writing to it fails, so that formatting stops.
#[derive(Debug)]
pub struct Line {
    text: String,
    max_length: usize,
    breaks: Breaks,
    is_cut: bool,
}

impl Line {
    /// Makes a line of at most `max_length` bytes.
    pub fn up_to(max_length: usize, breaks: Breaks) -> Self {
        Self {
            text: String::new(),
            max_length: max_length.saturating_sub(CUT.len()),
            breaks,
            is_cut: false,
        }
    }

    /// The text, with the mark if it was truncated.
    pub fn into_text(mut self) -> String {
        if self.is_cut {
            self.text += CUT;
        }
        self.text
    }

    fn take(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > self.max_length {
            self.is_cut = true;
            return Err(fmt::Error);
        }
        self.text += part;
        Ok(())
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_cut {
            return Err(fmt::Error);
        }
        let keeps_breaks = self.breaks == Breaks::Kept;
        let keeps = |c: char| keeps_breaks && matches!(c, '\n' | '\t');
        let is_plain = |c: char| !c.is_control() && !is_bidi(c) || keeps(c);
        let mut letters = [0; 4];
        for c in text.chars() {
            if is_plain(c) {
                self.take(c.encode_utf8(&mut letters))?;
            } else {
                self.take(&c.escape_debug().to_string())?;
            }
        }
        Ok(())
    }
}

/// Whether the character changes the direction of the text after it (Unicode, `Bidi_Control`).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_short_text_is_shown_whole_and_a_long_one_with_its_length() {
        assert_eq!(format!("{:?}", Excerpt::of("GPU-1")), "\"GPU-1\"");
        assert_eq!(Excerpt::of("/a b/'c\"").to_string(), "/a b/'c\"");
        let long = format!("{:?}", Excerpt::of("x".repeat(70_000)));
        assert_eq!(
            long,
            format!("\"{}\"… (70000 bytes)", "x".repeat(MAX_EXCERPT))
        );
    }

    #[test]
    fn unprintable_characters_are_escaped() {
        let odd = OsStr::from_bytes(b"a\nb\x1b[2J\xff\xe2\x80\xae\\");
        let excerpt = Excerpt::of(odd);
        assert_eq!(excerpt.to_string(), "a\\nb\\u{1b}[2J\\xff\\u{202e}\\");
        assert!(format!("{excerpt:?}").ends_with("\\\\\""));
        // A character of two bytes that crosses the limit.
        let cut = format!("{}é", "x".repeat(MAX_EXCERPT - 1)).repeat(2);
        assert_eq!(Excerpt::of(&cut).head.len(), MAX_EXCERPT - 1);
    }

    #[test]
    fn a_message_has_one_line_and_is_truncated() {
        let name = "\u{202e}\n".repeat(1_000_000);
        let message = Message::of(format_args!("no GPU {name} here"));
        assert!(
            message.len() <= MAX_MESSAGE && message.ends_with(CUT),
            "{message}"
        );
        assert!(message.starts_with("no GPU \\u{202e}\\n"), "{message}");
        let mut line = Line::up_to(100, Breaks::Kept);
        line.write_str("one\n\ttwo\r").unwrap();
        assert_eq!(line.into_text(), "one\n\ttwo\\r");
    }

    #[test]
    fn an_excerpt_equals_a_text_only_if_it_is_whole() {
        let long = "x".repeat(MAX_EXCERPT + 1);
        assert!(Excerpt::of("all") == "all" && Excerpt::of("all") != "none");
        assert!(Excerpt::of(&long) != long.as_str());
        assert!(Excerpt::of(&long) != &long[..MAX_EXCERPT]);
        assert!(Excerpt::of("all").starts_with("al") && !Excerpt::of("all").starts_with("l"));
        let message = Message::from("one\ntwo");
        assert!(message == "one\\ntwo" && message != "one");
        assert_eq!(message.to_string(), "one\\ntwo");
        assert_eq!(format!("{message:?}"), r#""one\\ntwo""#);
    }

    #[test]
    fn a_line_takes_exactly_its_maximum() {
        let mut line = Line::up_to(CUT.len() + 3, Breaks::Escaped);
        line.write_str("abc").unwrap();
        assert!(line.write_str("d").is_err() && line.write_str("").is_err());
        assert_eq!(line.into_text(), format!("abc{CUT}"));
        let mut whole = Line::up_to(CUT.len() + 3, Breaks::Escaped);
        whole.write_str("abc").unwrap();
        assert_eq!(whole.into_text(), "abc");
        for (c, shown) in [
            ('\u{61c}', "\\u{61c}"),
            ('\u{2069}', "\\u{2069}"),
            ('\t', "\\t"),
        ] {
            assert_eq!(&*Message::of(format_args!("{c}")), shown);
        }
    }

    proptest! {
        #[test]
        fn no_excerpt_exceeds_its_limit(bytes: Vec<u8>, times in 1..200usize) {
            let bytes = bytes.repeat(times);
            let excerpt = Excerpt::of(OsStr::from_bytes(&bytes));
            for shown in [excerpt.to_string(), format!("{excerpt:?}")] {
                prop_assert!(shown.len() <= MAX_EXCERPT + 30, "{shown}");
                prop_assert!(!shown.chars().any(char::is_control), "{shown}");
            }
            if bytes.len() <= MAX_EXCERPT / 10 {
                prop_assert_eq!(excerpt.head, bytes);
            }
        }
    }
}
