//! Finds out what a terminal can show (colour, UTF-8, columns, redrawing) and formats text for it.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// The least width for which text is wrapped.
const NARROWEST: usize = 30;

/// How one output is written.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each its own property of the terminal"
)]
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Whether it shows UTF-8.
    pub utf8: bool,
    /// Whether it shows colour.
    pub colour: bool,
    /// Columns; with `None` lines are not wrapped.
    pub width: Option<usize>,
    /// Whether it is a terminal, so that a user may be watching.
    pub terminal: bool,
    /// Whether a line can be drawn over. Off with a screen reader, which would read it all again.
    pub redraws: bool,
}

/// The kind of a line, shown as a mark before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something is as it should be, or done.
    Good,
    /// Something is wrong, or failed.
    Bad,
    /// A warning.
    Warning,
    /// Rolled back.
    Back,
    /// In progress.
    Doing,
}

impl Mark {
    /// The mark in UTF-8, the mark in ASCII and its colour. All ASCII marks have the same width.
    fn forms(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Good => ("✓", "ok", "32"),
            Self::Bad => ("✗", "xx", "31"),
            Self::Warning => ("!", "!!", "33"),
            Self::Back => ("↩", "<-", "33"),
            Self::Doing => ("…", "..", "2"),
        }
    }
}

impl Screen {
    /// The screen of standard output. `plain`: treat it as a dumb terminal.
    pub fn output(plain: bool) -> Self {
        Self::of(&std::io::stdout(), plain)
    }

    /// The screen of standard error, where progress and questions go.
    pub fn error(plain: bool) -> Self {
        Self::of(&std::io::stderr(), plain)
    }

    /// The properties of an output. Only a terminal has colour. Text is wrapped on a terminal, or
    /// if COLUMNS is set.
    fn of(output: &(impl AsFd + IsTerminal), plain: bool) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default().to_lowercase();
        let terminal = output.is_terminal();
        let able = terminal && !plain && set("TERM").is_some_and(|t| t != "dumb");
        let columns = set("COLUMNS").and_then(|c| c.parse().ok());
        let terminal_columns = || {
            let size = rustix::termios::tcgetwinsize(output).ok()?;
            Some(usize::from(size.ws_col))
        };
        Self {
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
            // no-color.org: any value that is not empty turns colour off.
            colour: able && set("NO_COLOR").is_none(),
            width: columns
                .or_else(|| terminal_columns().filter(|_| terminal))
                .filter(|w| *w > 0)
                .map(|w: usize| w.max(NARROWEST)),
            terminal,
            redraws: able,
        }
    }

    /// The mark as it is shown.
    pub fn mark(self, mark: Mark) -> String {
        let (utf8, ascii, colour) = mark.forms();
        self.coloured(if self.utf8 { utf8 } else { ascii }, colour)
    }

    /// How many columns a mark and the space after it take.
    pub fn mark_width(self) -> usize {
        if self.utf8 { 2 } else { 3 }
    }

    /// The text in a colour of ECMA-48, if the screen has colours.
    pub fn coloured(self, text: &str, colour: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// One of gpusetup's texts with the characters that the terminal can show.
    pub fn text(self, text: &str) -> String {
        if self.utf8 {
            return text.to_owned();
        }
        let plain = text
            .replace('…', "...")
            .replace('×', "x")
            .replace(['“', '”'], "\"");
        plain
            .chars()
            .map(|c| if c.is_ascii() { c } else { '?' })
            .collect()
    }

    /// How many columns are left for a text after `indent` columns.
    pub fn room(self, indent: usize) -> usize {
        self.width
            .map_or(usize::MAX, |w| w.saturating_sub(indent).max(10))
    }

    /// A paragraph: the first line begins with `first`, the others with the same amount of space.
    /// `indent` is the width of `first` on the screen.
    pub fn paragraph(self, first: &str, indent: usize, text: &str) -> String {
        let space = " ".repeat(indent);
        let lines = self.wrapped(text, self.room(indent));
        let lines = lines.iter().enumerate().map(|(n, line)| {
            let start = if n == 0 { first } else { &space };
            format!("{start}{line}\n")
        });
        lines.collect()
    }

    /// The lines of a text, each no wider than `room` unless it is one long word, which stays
    /// whole so that it can be copied.
    pub fn wrapped(self, text: &str, room: usize) -> Vec<String> {
        let mut lines = vec![String::new()];
        let text = self.text(text);
        for word in text.split(' ') {
            let last = lines.len() - 1;
            let width = lines[last].chars().count();
            if width == 0 {
                lines[last].push_str(word);
            } else if width + 1 + word.chars().count() > room {
                lines.push(word.to_owned());
            } else {
                lines[last].push(' ');
                lines[last].push_str(word);
            }
        }
        lines
    }

    /// The text cut to `room` columns; a text that was cut ends with an ellipsis.
    pub fn cut(self, text: &str, room: usize) -> String {
        let text = self.text(text);
        if text.chars().count() <= room {
            return text;
        }
        let dots = self.text("…");
        let kept = room.saturating_sub(dots.chars().count());
        text.chars().take(kept).collect::<String>() + &dots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Screen = Screen {
        utf8: true,
        colour: false,
        width: Some(30),
        terminal: false,
        redraws: false,
    };

    #[test]
    fn paragraphs_have_a_hanging_indent() {
        let text = SCREEN.paragraph("  ✓ ", 4, "one two three four five six seven");
        assert_eq!(text, "  ✓ one two three four five\n    six seven\n");
    }

    #[test]
    fn a_long_text_is_cut_and_marked() {
        assert_eq!(SCREEN.cut("docker: web, db", 15), "docker: web, db");
        assert_eq!(SCREEN.cut("docker: web, db", 10), "docker: w…");
        let ascii = Screen {
            utf8: false,
            ..SCREEN
        };
        assert_eq!(ascii.cut("docker: web, db", 10), "docker:...");
        assert_eq!(ascii.mark(Mark::Good).len() + 1, ascii.mark_width());
    }
}
