//! Free text, word by word.

mod plain;
mod promise;
mod quotes;

use super::super::mark::{self, mark as marked};
use super::super::url;
use super::super::words;
use super::parts::{is_plain_path, quote};
use super::{Lines, Trust};
pub(super) use promise::Promise;

/// What the words before make of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Free,
    /// Behind a key or a flag.
    Value,
    /// The id of a container.
    Id,
    /// Behind a word such as `password`, and words that say nothing.
    Near,
    /// Behind a key that says so.
    Secret,
    /// The same up to the end of the line.
    SecretLine,
}

/// A text on the way, and what the words so far make of the next.
pub(super) struct Scan<'a, 'b> {
    pub lines: &'b mut Lines,
    pub text: &'a str,
    pub at: usize,
    pub out: String,
    pub trust: Trust,
    pub depth: usize,
    pub next: Next,
    /// Every word up to the end is judged as a value.
    pub rest: bool,
    pub before: String,
    /// What words such as `password` promise of words further on.
    pub promise: Promise,
}

impl<'a> Scan<'a, '_> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn copy(&mut self, length: usize) {
        self.out.push_str(&self.text[self.at..self.at + length]);
        self.at += length;
    }

    pub(super) fn put(&mut self, length: usize, masked: &str) {
        self.out.push_str(masked);
        self.at += length;
    }

    pub(super) fn strict(&self) -> Trust {
        if self.rest || self.next != Next::Free {
            Trust::Values
        } else {
            self.trust
        }
    }

    /// One word, or one sign.
    pub(super) fn step(&mut self) {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return };
        if c.is_whitespace() {
            return self.copy(c.len_utf8());
        }
        // A line break or a backslash, written as one does in quotes.
        if ["\\n", "\\t", "\\r", "\\\\"]
            .iter()
            .any(|e| rest.starts_with(e))
        {
            return self.copy(2);
        }
        if let Some(length) = mark::at_start(rest) {
            self.next = Next::Free;
            return self.copy(length);
        }
        if self.next == Next::SecretLine {
            return self.secret_line();
        }
        if let Some(quote) = quote(rest) {
            return self.quoted(quote);
        }
        if matches!(c, '[' | '{' | '(') && matches!(self.next, Next::Secret | Next::Value) {
            return self.group(c);
        }
        if rest.starts_with("<<<") {
            self.next = Next::Secret;
            return self.copy(3);
        }
        if rest.starts_with("<<") {
            self.rest = true;
            return self.copy(2);
        }
        if matches!(
            c,
            ',' | ';' | '|' | '&' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>'
        ) {
            // A column of a table goes on behind its line.
            if c == ';' || c == '|' && self.next != Next::Near {
                self.next = Next::Free;
            }
            return self.copy(1);
        }
        if matches!(c, '=' | ':') {
            return self.sign(c);
        }
        // Behind the user of a URL that was masked before.
        if c == '@' && self.out.ends_with(" bytes>") {
            let end = rest.find(|c: char| c.is_whitespace() || "\"'`<>,;".contains(c));
            let place = &rest[1..end.unwrap_or(rest.len())];
            let masked = url::mask(&format!("x://{place}"));
            return self.put(1 + place.len(), &format!("@{}", &masked["x://".len()..]));
        }
        self.word();
    }

    /// A sign between a key and its value that stands for itself.
    fn sign(&mut self, c: char) {
        let length = if self.rest().starts_with("=>") { 2 } else { 1 };
        if c == '=' || words::is_secret_key(&self.before) {
            let key = std::mem::take(&mut self.before);
            self.behind(&key);
        }
        self.copy(length);
    }

    /// What a key makes of the word behind it.
    pub(super) fn behind(&mut self, key: &str) {
        let key = key.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        self.next = if words::is_secret_key(key) {
            Next::Secret
        } else if words::is_prose_key(key) && !self.rest {
            Next::Free
        } else if words::names_ids(key) {
            Next::Id
        } else {
            Next::Value
        };
    }

    /// All that is left of the line.
    fn secret_line(&mut self) {
        let rest = self.rest();
        if quote(rest).is_some() || rest.starts_with(['[', '{']) {
            self.next = Next::Secret;
            return;
        }
        let said = rest.trim_end();
        if said == "\\" {
            self.next = Next::Secret;
            return self.copy(rest.len());
        }
        let kept = words::is_switch(said) || is_plain_path(said);
        let masked = if kept {
            said.to_owned()
        } else {
            marked("string", said)
        };
        self.next = Next::Free;
        self.put(said.len(), &masked);
    }
}
