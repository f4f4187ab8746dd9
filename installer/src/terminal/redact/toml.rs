//! Masks TOML: values by their tables and keys, and comments. Parses as much as it can.

use super::argument::Before;
use super::kinds::KnownKind;
use super::mark::mark;
use super::text;

pub(super) fn mask(text: &str, kind: &KnownKind) -> String {
    let mut scan = Toml {
        text,
        kind,
        at: 0,
        out: String::with_capacity(text.len()),
        before: Before::Nothing,
    };
    let mut table: Vec<String> = Vec::new();
    while scan.at < text.len() {
        scan.space();
        match scan.peek() {
            None => {}
            Some('[') => table = scan.header(),
            Some(_) => scan.pair(&mut table, 0),
        }
    }
    scan.out
}

/// The limit of nesting: deeper than any real file, and safe for the stack.
const DEEP: usize = 64;

struct Toml<'a> {
    text: &'a str,
    kind: &'a KnownKind,
    at: usize,
    out: String,
    /// In a list of arguments, the previous argument.
    before: Before,
}

impl<'a> Toml<'a> {
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

    /// Copies spaces and line breaks, and masks comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            if let Some(comment) = rest.strip_prefix('#') {
                let end = comment.find('\n').unwrap_or(comment.len());
                let (content, _) = comment.split_at(end);
                self.out
                    .push_str(&format!("#{}", text::mask_comment(content)));
                self.at += 1 + end;
                continue;
            }
            match rest.len() - rest.trim_start().len() {
                0 => return,
                space => self.copy(space),
            }
        }
    }

    /// Masks the rest of a line that is not TOML.
    fn line(&mut self) {
        let rest = self.rest();
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        self.out.push_str(&mark("text", line.trim_end()));
        self.at += line.len();
    }

    fn header(&mut self) -> Vec<String> {
        let brackets = self.rest().len() - self.rest().trim_start_matches('[').len();
        self.copy(brackets);
        let path = self.keys();
        let rest = self.rest();
        let end = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let closed = rest[end..].len() - rest[end..].trim_start_matches(']').len();
        self.copy(end + closed);
        let after = self.rest().split('\n').next().unwrap_or_default();
        if !after.trim().is_empty() && !after.trim_start().starts_with('#') {
            self.line();
        }
        path
    }

    /// Reads a key, which may have several parts, and writes each part as it may be shown.
    fn keys(&mut self) -> Vec<String> {
        let mut path = Vec::new();
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            self.copy(space);
            let rest = self.rest();
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
            let part = if let Some(quote) = quote {
                let inside = &rest[1..];
                let Some(end) = inside.find(quote).filter(|n| !inside[..*n].contains('\n')) else {
                    return path;
                };
                self.at += end + 2;
                let part = &inside[..end];
                self.out
                    .push_str(&format!("{quote}{}{quote}", KnownKind::key(part)));
                part
            } else {
                let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                let end = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
                if end == 0 {
                    return path;
                }
                self.at += end;
                self.out.push_str(&KnownKind::key(&rest[..end]));
                &rest[..end]
            };
            path.push(part.to_owned());
            let rest = self.rest();
            let dot = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            if !rest[dot..].starts_with('.') {
                return path;
            }
            self.copy(dot + 1);
        }
    }

    fn pair(&mut self, path: &mut Vec<String>, depth: usize) {
        let before = (self.at, self.out.len());
        let keys = self.keys();
        let rest = self.rest();
        let space = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        if keys.is_empty() || !rest[space..].starts_with('=') {
            self.at = before.0;
            self.out.truncate(before.1);
            return self.line();
        }
        self.copy(space + 1);
        self.before = Before::Nothing;
        let above = path.len();
        path.extend(keys);
        let rest = self.rest();
        self.copy(rest.len() - rest.trim_start_matches([' ', '\t']).len());
        self.value(path, depth);
        path.truncate(above);
        if depth > 0 {
            return;
        }
        // After a value only a comment may follow.
        let after = self.rest().split('\n').next().unwrap_or_default();
        if !after.trim().is_empty() && !after.trim_start().starts_with('#') {
            self.line();
        }
    }

    fn value(&mut self, path: &mut Vec<String>, depth: usize) {
        let rest = self.rest();
        if depth > DEEP {
            return self.line();
        }
        if rest.starts_with('[') {
            self.copy(1);
            while self.at < self.text.len() {
                self.space();
                match self.peek() {
                    Some(']') => return self.copy(1),
                    Some(',') => self.copy(1),
                    Some(_) => self.value(path, depth + 1),
                    None => {}
                }
            }
        } else if rest.starts_with('{') {
            self.copy(1);
            while self.at < self.text.len() {
                self.space();
                match self.peek() {
                    Some('}') => return self.copy(1),
                    Some(',') => self.copy(1),
                    Some(_) => self.pair(path, depth + 1),
                    None => {}
                }
            }
        } else {
            self.scalar(path, depth);
        }
    }

    fn scalar(&mut self, path: &[String], depth: usize) {
        let rest = self.rest();
        for quote in ["\"\"\"", "'''", "\"", "'"] {
            if let Some(inside) = rest.strip_prefix(quote) {
                let end = end_of(inside, quote);
                let (content, closed) = (&inside[..end], &inside[end..]);
                let closing = if closed.starts_with(quote) { quote } else { "" };
                self.at += quote.len() + end + closing.len();
                let masked = if quote.starts_with('"') && content.contains('\\') {
                    self.escaped(path, content)
                } else {
                    self.kind
                        .argument(&mut self.before, path, content, "string")
                };
                self.out.push_str(&format!("{quote}{masked}{closing}"));
                return;
            }
        }
        let ends = |c: char| matches!(c, '\n' | '#') || depth > 0 && matches!(c, ',' | ']' | '}');
        let word = rest[..rest.find(ends).unwrap_or(rest.len())].trim_end();
        if word.is_empty() {
            // A character that neither begins nor ends a value.
            if let Some(c) = self.peek().filter(|c| *c != '\n') {
                self.copy(c.len_utf8());
            }
            return;
        }
        self.at += word.len();
        let is_number = word.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c));
        let masked = self.kind.argument(
            &mut self.before,
            path,
            word,
            if is_number { "number" } else { "string" },
        );
        let quote = if masked == word { "" } else { "\"" };
        self.out.push_str(&format!("{quote}{masked}{quote}"));
    }

    /// Masks a string with escapes. It is unescaped as JSON, whose escapes are those of TOML except
    /// for two; a string with one of those is masked entirely.
    fn escaped(&mut self, path: &[String], content: &str) -> String {
        let unescaped: Option<String> = serde_json::from_str(&format!("\"{content}\"")).ok();
        let Some(unescaped) = unescaped else {
            return mark("string", content);
        };
        let masked = self
            .kind
            .argument(&mut self.before, path, &unescaped, "string");
        if masked == unescaped {
            return content.to_owned();
        }
        let text = serde_json::Value::String(masked).to_string();
        text[1..text.len() - 1].to_owned()
    }
}

/// Where a string ends. A single-line string without a closing quote ends with its line.
fn end_of(inside: &str, quote: &str) -> usize {
    let mut escaped = false;
    for (n, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote.starts_with('"') => escaped = true,
            '\n' if quote.len() == 1 => return n,
            _ if inside[n..].starts_with(quote) => return n,
            _ => {}
        }
    }
    inside.len()
}
