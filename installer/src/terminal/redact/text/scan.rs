//! Free text, word by word.

mod plain;
mod promise;
mod quotes;

use super::super::mark::{self, mark as marked};
use super::super::trust::Trust;
use super::super::url;
use super::super::words;
use super::parts::{is_plain_path, quote};
use promise::Promise;

/// What the words before make of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
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

/// What the end of a line makes of the next one.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// A quote that was not closed.
    pub open: Option<char>,
    /// Of a line that goes on: what its end made of the next word.
    carried: Option<(Next, bool)>,
    /// It ended in a key, such as `password:`, or in a question for it: the next line may be nothing but a secret.
    pub is_asked: bool,
}

/// Quotes in quotes in quotes.
const DEEP: usize = 6;

/// A text with what may not be shown masked, word by word.
pub(super) fn words(pending: &mut Pending, text: &str, trust: Trust, depth: usize) -> String {
    let carried = if depth == 0 {
        pending.carried.take()
    } else {
        None
    };
    let (next, rest) = carried.unwrap_or((Next::Free, false));
    let mut scan = Scan {
        pending,
        text,
        at: 0,
        out: String::with_capacity(text.len()),
        trust,
        depth,
        next,
        rest,
        before: String::new(),
        promise: Promise::default(),
    };
    let mut still = 0;
    while scan.at < text.len() {
        let before = scan.at;
        scan.step();
        // What a sign means may be found out in steps; a sign that means nothing is passed over.
        still = if scan.at == before { still + 1 } else { 0 };
        if still > 2 {
            still = 0;
            scan.next = Next::Free;
            scan.copy(scan.rest().chars().next().map_or(0, char::len_utf8));
        }
    }
    let Scan { out, next, .. } = scan;
    let is_open = matches!(next, Next::Secret | Next::SecretLine | Next::Near);
    if depth == 0 && is_open && text.trim_end().ends_with([':', '=']) {
        pending.is_asked = true;
    }
    if depth == 0 && text.trim_end().ends_with('\\') {
        pending.carried = Some((next, true));
    }
    out
}

/// A text on the way, and what the words so far make of the next.
struct Scan<'a, 'b> {
    pending: &'b mut Pending,
    text: &'a str,
    at: usize,
    out: String,
    trust: Trust,
    depth: usize,
    next: Next,
    /// Every word up to the end is judged as a value.
    rest: bool,
    before: String,
    /// What words such as `password` promise of words further on.
    promise: Promise,
}

impl<'a> Scan<'a, '_> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn copy(&mut self, length: usize) {
        self.out.push_str(&self.text[self.at..self.at + length]);
        self.at += length;
    }

    fn put(&mut self, length: usize, masked: &str) {
        self.out.push_str(masked);
        self.at += length;
    }

    fn strict(&self) -> Trust {
        if self.rest || self.next != Next::Free {
            Trust::Values
        } else {
            self.trust
        }
    }

    /// One word, or one sign.
    fn step(&mut self) {
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
    fn behind(&mut self, key: &str) {
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
