//! Masks JSON, with or without comments, and YAML's flow style. What cannot be parsed is treated
//! as a value.

use super::argument::Before;
use super::kinds::KnownKind;
use super::mark::mark;
use super::text;

pub(super) fn mask(text: &str, kind: &KnownKind) -> String {
    let mut scan = Flow {
        text,
        kind,
        at: 0,
        out: String::with_capacity(text.len()),
        before: Before::Nothing,
    };
    let mut path = Vec::new();
    while scan.at < text.len() {
        scan.value(&mut path, 0);
        scan.stray();
    }
    scan.out
}

/// Masks the list or table that begins here. Returns it with its length in the text.
pub(super) fn one(text: &str, kind: &KnownKind, path: &mut Vec<String>) -> (String, usize) {
    let mut scan = Flow {
        text,
        kind,
        at: 0,
        out: String::new(),
        before: Before::Nothing,
    };
    scan.value(path, 0);
    (scan.out, scan.at)
}

/// The limit of nesting: deeper than any real file, and safe for the stack.
const DEEP: usize = 64;

struct Flow<'a> {
    text: &'a str,
    kind: &'a KnownKind,
    at: usize,
    out: String,
    /// In a list of arguments, the previous argument.
    before: Before,
}

impl<'a> Flow<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn copy(&mut self, length: usize) {
        let end = self.at + length;
        self.out.push_str(&self.text[self.at..end]);
        self.at = end;
    }

    /// Copies the space between values and masks comments in it.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let length = if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            } else if rest.starts_with("//") || rest.starts_with('#') {
                rest.find('\n').unwrap_or(rest.len())
            } else {
                let space = rest.len() - rest.trim_start().len();
                if space == 0 {
                    return;
                }
                self.copy(space);
                continue;
            };
            let comment = &rest[..length];
            let sign = if comment.starts_with('#') { 1 } else { 2 };
            let (sign, inside) = comment.split_at(sign);
            let inside = inside
                .strip_suffix("*/")
                .map_or((inside, ""), |i| (i, "*/"));
            let masked = format!("{sign}{}{}", text::mask_comment(inside.0), inside.1);
            self.out.push_str(&masked);
            self.at += length;
        }
    }

    /// Copies a punctuation character that is out of place.
    fn stray(&mut self) {
        self.space();
        if let Some(c) = self.peek()
            && matches!(c, ']' | '}' | ',' | ':')
        {
            self.copy(1);
        }
    }

    fn value(&mut self, path: &mut Vec<String>, depth: usize) {
        self.space();
        match self.peek() {
            None | Some(']' | '}' | ',' | ':') => {}
            Some('{' | '[') if depth == DEEP => {
                let rest = mark("text", self.rest());
                self.out.push_str(&rest);
                self.at = self.text.len();
            }
            Some('{') => self.table(path, depth),
            Some('[') => self.list(path, depth),
            Some(_) => {
                let (raw, quote) = self.scalar();
                self.put(path, raw, quote);
            }
        }
    }

    fn list(&mut self, path: &mut Vec<String>, depth: usize) {
        self.copy(1);
        self.before = Before::Nothing;
        while self.at < self.text.len() {
            self.value(path, depth + 1);
            self.space();
            match self.peek() {
                Some(']') => return self.copy(1),
                Some(',' | ':' | '}') => self.copy(1),
                _ => {}
            }
        }
    }

    fn table(&mut self, path: &mut Vec<String>, depth: usize) {
        self.copy(1);
        while self.at < self.text.len() {
            self.space();
            match self.peek() {
                Some('}') => return self.copy(1),
                Some(',' | ']') => {
                    self.copy(1);
                    continue;
                }
                Some('{' | '[') => {
                    self.value(path, depth + 1);
                    continue;
                }
                Some(':') | None => {}
                Some(_) => {
                    let (raw, quote) = self.scalar();
                    let before = self.at;
                    let space = self.rest().len() - self.rest().trim_start().len();
                    if !self.rest()[space..].starts_with(':') {
                        self.put(path, raw, quote);
                        continue;
                    }
                    self.at = before;
                    self.out
                        .push_str(&format!("{quote}{}{quote}", KnownKind::key(raw)));
                    path.push(raw.to_owned());
                    self.before = Before::Nothing;
                    self.copy(space + 1);
                    self.value(path, depth + 1);
                    path.pop();
                    continue;
                }
            }
            self.stray();
        }
    }

    /// Reads a scalar: its content and its quotes. Writes nothing.
    fn scalar(&mut self) -> (&'a str, &'static str) {
        let rest = &self.text[self.at..];
        let quote = match rest.as_bytes().first() {
            Some(b'"') => "\"",
            Some(b'\'') => "'",
            _ => "",
        };
        if quote.is_empty() {
            // A plain scalar of YAML may contain spaces, and colons that no space follows.
            let ends = |(n, c): &(usize, char)| {
                matches!(c, ',' | ']' | '}' | '[' | '{' | '\n' | '"')
                    || *c == ':' && !rest[n + 1..].starts_with(|c: char| !c.is_whitespace())
                    || *c == '#' && rest[..*n].ends_with(char::is_whitespace)
            };
            let end = rest
                .char_indices()
                .skip(1)
                .find(ends)
                .map_or(rest.len(), |(n, _)| n);
            let word = rest[..end].trim_end();
            self.at += word.len();
            return (word, "");
        }
        let mut escaped = false;
        for (n, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' if quote == "\"" => escaped = true,
                c if quote.starts_with(c) => {
                    self.at += n + 1;
                    return (&rest[1..n], quote);
                }
                _ => {}
            }
        }
        // The closing quote is missing.
        self.at = self.text.len();
        (&rest[1..], quote)
    }

    fn put(&mut self, path: &[String], raw: &str, quote: &str) {
        let is_number = quote.is_empty() && raw.parse::<f64>().is_ok();
        let what = if is_number { "number" } else { "string" };
        if quote == "\"" && raw.contains('\\') {
            // Judge the unescaped value: `\/` means a slash.
            let string: Option<String> = serde_json::from_str(&format!("\"{raw}\"")).ok();
            let masked = string
                .as_ref()
                .map(|text| self.kind.argument(&mut self.before, path, text, what));
            let out = match (string, masked) {
                (Some(text), Some(masked)) if text == masked => format!("\"{raw}\""),
                (_, Some(masked)) => serde_json::Value::String(masked).to_string(),
                _ => format!("\"{}\"", mark(what, raw)),
            };
            self.out.push_str(&out);
            return;
        }
        let masked = self.kind.argument(&mut self.before, path, raw, what);
        let quote = if quote.is_empty() && masked != raw {
            "\""
        } else {
            quote
        };
        self.out.push_str(&format!("{quote}{masked}{quote}"));
    }
}
