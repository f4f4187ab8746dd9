//! Masks free text: logs, messages, command lines and shell settings. Each word is judged by itself
//! and by the key, flag or command before it.

mod parts;
mod scan;

use scan::Pending;

use super::harmless::{self, is_harmless};
use super::mark::{self, mark as marked};
use super::trust::Trust;
use super::url;

/// Lines longer than this are masked as a whole.
const LONG: usize = 64 << 10;

/// Masks a text.
pub(super) fn mask(text: &str, trust: Trust) -> String {
    Lines::new(trust).mask(text)
}

/// Masks settings of a shell and the like. Comments are masked entirely.
pub(super) fn mask_settings(text: &str) -> String {
    let mut lines = Lines::new(Trust::Values);
    lines.comments = true;
    lines.mask(text)
}

/// Masks the value of a key that the table keeps.
pub(super) fn mask_kept(text: &str) -> String {
    // Treat it all as one URL: its password may contain any characters.
    if text.contains("://") && text.contains('@') && !text.contains("@sha256:") {
        return url::mask(text);
    }
    mask(text, Trust::Words)
}

/// Masks a comment. The words of gpusetup's own comments stay: a plan shows what it would write.
pub(super) fn mask_comment(text: &str) -> String {
    if text.trim_start().starts_with("Written by gpusetup") {
        return mask(text, Trust::Words);
    }
    marked("comment", text)
}

/// Masks the name of a key or a part of it.
pub(super) fn mask_key(key: &str) -> String {
    if harmless::is_one_word(key) {
        harmless::mask_key_word(key)
    } else {
        mask(key, Trust::Values)
    }
}

/// The state of masking a text line by line.
struct Lines {
    trust: Trust,
    comments: bool,
    /// Column of a secret block; lines indented further belong to the secret.
    block: Option<usize>,
    /// Whether the line is in a key, between its `BEGIN` and `END` lines.
    key: bool,
    /// The word that ends the current here-document.
    here: Option<String>,
    /// Whether the line before ended with a mark.
    after_mark: bool,
    /// What the end of the line before means for this one.
    pending: Pending,
}

impl Lines {
    fn new(trust: Trust) -> Self {
        Self {
            trust,
            comments: false,
            block: None,
            key: false,
            here: None,
            after_mark: false,
            pending: Pending::default(),
        }
    }

    fn mask(&mut self, text: &str) -> String {
        let cut = rest_of_key(text);
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let content = line.strip_suffix('\n').unwrap_or(line);
            if at < cut {
                out.push_str(&marked("lines", content));
            } else {
                let masked = self.line(content);
                let end = masked.trim_end();
                self.after_mark = if content.trim().is_empty() {
                    self.after_mark
                } else {
                    ends_in_mark(end)
                };
                out.push_str(&masked);
            }
            out.push_str(&line[content.len()..]);
            at += line.len();
        }
        out
    }

    fn line(&mut self, line: &str) -> String {
        let content = line.trim();
        let depth = line.len() - line.trim_start().len();
        let whole = |what| {
            format!(
                "{}{}",
                &line[..depth],
                marked(what, line[depth..].trim_end())
            )
        };
        if line.len() > LONG {
            return whole("text");
        }
        if let Some(word) = &self.here {
            if content.trim_start_matches('#').trim() == word {
                self.here = None;
                return line.to_owned();
            }
            return whole("lines");
        }
        if self.key {
            self.key = !content.contains("-----END");
            return whole("lines");
        }
        if let Some(quote) = self.pending.open {
            self.pending.open = if line.contains(quote) {
                None
            } else {
                Some(quote)
            };
            return whole("lines");
        }
        if let Some(column) = self.block {
            if content.is_empty() || depth > column {
                return whole("lines");
            }
            self.block = None;
        }
        if self.comments && content.starts_with('#') {
            return format!(
                "{}#{}",
                &line[..depth],
                mask_comment(content[1..].trim_end())
            );
        }
        if let Some(at) = line.find("-----BEGIN ") {
            self.key = !line[at..].contains("-----END");
            let before = scan::words(&mut self.pending, &line[..at], self.trust, 0);
            return before + &marked("lines", line[at..].trim_end());
        }
        let comment_sign = content.trim_start_matches(['#', '/', ' ']);
        if self.after_mark
            && !comment_sign.is_empty()
            && !comment_sign.contains(char::is_whitespace)
            && !comment_sign.contains(['=', ':', '[', '{'])
            && !is_harmless(comment_sign, Trust::Values)
            || self.after_mark && comment_sign.starts_with('=')
        {
            return whole("lines");
        }
        if self.pending.is_asked && !comment_sign.is_empty() && !content.starts_with('#') {
            self.pending.is_asked = false;
            if !content.contains(char::is_whitespace) && !is_harmless(content, Trust::Values) {
                return whole("lines");
            }
        }
        let masked = scan::words(&mut self.pending, line, self.trust, 0);
        let tail = content.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
        if tail.ends_with(": |") || tail.ends_with(": >") {
            self.block = Some(depth);
        }
        if let Some(word) = heredoc_end(line) {
            self.here = Some(word);
        }
        masked
    }
}

fn ends_in_mark(text: &str) -> bool {
    text.rfind("<masked ")
        .is_some_and(|at| mark::at_start(&text[at..]).is_some_and(|n| text[at + n..].len() <= 2))
}

/// The length of the rest of a key whose beginning was cut off, at the start of a text.
fn rest_of_key(text: &str) -> usize {
    let Some(end) = text.find("-----END ") else {
        return 0;
    };
    if text[..end].contains("-----BEGIN ") {
        return 0;
    }
    // The lines before `END` that have one word each are part of the key.
    let start = text[..end].rfind('\n').map_or(0, |n| n + 1);
    let lines: Vec<&str> = text[..start].split_inclusive('\n').collect();
    let is_part = |l: &&&str| l.split_whitespace().count() <= 1 || l.contains("<masked ");
    if lines.iter().rev().take_while(is_part).count() == 0 && start > 0 {
        return 0;
    }
    let whole = text[end..].find('\n').map_or(text.len(), |n| end + n + 1);
    // Only if nothing else comes before them is the start of the text the rest of a key.
    let kept = lines
        .iter()
        .rev()
        .skip_while(is_part)
        .map(|l| l.len())
        .sum::<usize>();
    if kept == 0 { whole } else { 0 }
}

/// The word that ends a here-document that begins on this line: `<<EOF`.
fn heredoc_end(line: &str) -> Option<String> {
    let at = line.find("<<")?;
    let word = line[at + 2..].trim_start_matches(['-', ' ']);
    let word: String = word
        .trim_start_matches(['\'', '"', '\\'])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()
        && !line[at + 2..].starts_with('<')
        && word.starts_with(|c: char| c.is_ascii_uppercase()))
    .then_some(word)
}
