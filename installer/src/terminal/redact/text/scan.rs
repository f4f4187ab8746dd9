//! Scans free text word by word and masks what may not be shown.

mod plain;
mod promise;
mod quotes;

use super::super::mark::{self, mark as marked};
use super::super::trust::Trust;
use super::super::url;
use super::super::words;
use super::parts::{is_plain_path, quote};
use promise::Promise;

/// What the words so far mean for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Free,
    /// The value of a key or a flag.
    Value,
    /// The id of a container.
    Id,
    /// Near a word such as `password`, with only filler words in between.
    Near,
    /// The value of a key that names a secret.
    Secret,
    /// The value of such a key, up to the end of the line.
    SecretLine,
}

/// What the end of a line means for the next line.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// A quote that was not closed.
    pub open: Option<char>,
    /// If the line continues on the next one, what its end means for the next word.
    carried: Option<(Next, bool)>,
    /// Whether it ended with a key such as `password:` or a prompt for it, so that the next line
    /// may consist of a secret only.
    pub is_asked: bool,
}

/// The limit of nested quotes.
const DEEP: usize = 6;

/// Masks a text word by word.
pub(super) fn words(pending: &mut Pending, text: &str, trust: Trust, depth: usize) -> String {
    let carried = if depth == 0 {
        pending.carried.take()
    } else {
        None
    };
    let (next, rest) = carried.unwrap_or((Next::Free, false));
    let mut scan = TextScan {
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
        // It can take more than one step to judge a character. One that is still not consumed after
        // that is copied.
        still = if scan.at == before { still + 1 } else { 0 };
        if still > 2 {
            still = 0;
            scan.next = Next::Free;
            scan.copy(scan.rest().chars().next().map_or(0, char::len_utf8));
        }
    }
    let TextScan { out, next, .. } = scan;
    let is_open = matches!(next, Next::Secret | Next::SecretLine | Next::Near);
    if depth == 0 && is_open && text.trim_end().ends_with([':', '=']) {
        pending.is_asked = true;
    }
    if depth == 0 && text.trim_end().ends_with('\\') {
        pending.carried = Some((next, true));
    }
    out
}

/// The state of a scan: the text, the position, and what the words so far mean for the next.
struct TextScan<'a, 'b> {
    pending: &'b mut Pending,
    text: &'a str,
    at: usize,
    out: String,
    trust: Trust,
    depth: usize,
    next: Next,
    /// Whether every word up to the end is judged as a value.
    rest: bool,
    before: String,
    /// Whether a word such as `password` announced a secret further on.
    promise: Promise,
}

impl<'a> TextScan<'a, '_> {
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

    /// Handles one word or one punctuation character.
    fn step(&mut self) {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return };
        if c.is_whitespace() {
            return self.copy(c.len_utf8());
        }
        // A line break, a tab or a backslash written as an escape sequence.
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
            // In a table, `|` only separates columns: the secret can be in the next one.
            if c == ';' || c == '|' && self.next != Next::Near {
                self.next = Next::Free;
            }
            return self.copy(1);
        }
        if matches!(c, '=' | ':') {
            return self.sign(c);
        }
        // The rest of a URL whose user was already masked.
        if c == '@' && self.out.ends_with(" bytes>") {
            let end = rest.find(|c: char| c.is_whitespace() || "\"'`<>,;".contains(c));
            let place = &rest[1..end.unwrap_or(rest.len())];
            let masked = url::mask(&format!("x://{place}"));
            return self.put(1 + place.len(), &format!("@{}", &masked["x://".len()..]));
        }
        self.word();
    }

    /// Handles a `:` or `=` that stands alone between a key and its value.
    fn sign(&mut self, c: char) {
        let length = if self.rest().starts_with("=>") { 2 } else { 1 };
        if c == '=' || words::is_secret_key(&self.before) {
            let key = std::mem::take(&mut self.before);
            self.behind(&key);
        }
        self.copy(length);
    }

    /// Sets what a key means for the word after it.
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

    /// Masks the rest of the line.
    fn secret_line(&mut self) {
        let rest = self.rest();
        if quote(rest).is_some() || rest.starts_with(['[', '{']) {
            self.next = Next::Secret;
            return;
        }
        let content = rest.trim_end();
        if content == "\\" {
            self.next = Next::Secret;
            return self.copy(rest.len());
        }
        let kept = words::is_switch(content) || is_plain_path(content);
        let masked = if kept {
            content.to_owned()
        } else {
            marked("string", content)
        };
        self.next = Next::Free;
        self.put(content.len(), &masked);
    }
}
