//! Masks YAML line by line. The column of a key shows which keys it is below.

use super::argument::Before;
use super::flow;
use super::kinds::KnownKind;
use super::mark::mark;
use super::text;

pub(super) fn mask(text: &str, kind: &KnownKind) -> String {
    let mut scan = Yaml {
        text,
        kind,
        at: 0,
        out: String::with_capacity(text.len()),
        above: Vec::new(),
        before: Before::Nothing,
    };
    while scan.at < text.len() {
        scan.line();
    }
    scan.out
}

struct Yaml<'a> {
    text: &'a str,
    kind: &'a KnownKind,
    at: usize,
    out: String,
    /// The keys that the next line may be below, each with its column.
    above: Vec<(usize, String)>,
    /// In a list of arguments, the previous argument.
    before: Before,
}

impl<'a> Yaml<'a> {
    /// The rest of the line, without its line break.
    fn rest_of_line(&self) -> &'a str {
        let rest = &self.text[self.at..];
        &rest[..rest.find('\n').unwrap_or(rest.len())]
    }

    fn copy(&mut self, length: usize) {
        let end = self.at + length;
        self.out.push_str(&self.text[self.at..end]);
        self.at = end;
    }

    fn end_line(&mut self) {
        let rest = self.rest_of_line();
        let content = rest.trim();
        let space = rest.len() - rest.trim_start().len();
        self.copy(space);
        if let Some(comment) = content.strip_prefix('#') {
            self.out
                .push_str(&format!("#{}", text::mask_comment(comment)));
        } else {
            self.out.push_str(&mark("text", content));
        }
        self.at += rest.len() - space;
        if self.at < self.text.len() {
            self.copy(1);
        }
    }

    fn path(&self) -> Vec<String> {
        self.above.iter().map(|(_, key)| key.clone()).collect()
    }

    fn line(&mut self) {
        let line = self.rest_of_line();
        let content = line.trim_start();
        let mut column = line.len() - content.len();
        if content.is_empty() || content.starts_with('#') {
            return self.end_line();
        }
        if matches!(content.trim_end(), "---" | "...") {
            self.above.clear();
            self.copy(line.len());
            return self.end_line();
        }
        self.copy(column);
        // A list belongs to its key even if it begins in the same column.
        let is_item = content.starts_with("- ") || content.trim_end() == "-";
        self.above
            .retain(|(at, _)| *at < column || is_item && *at == column);
        loop {
            let rest = self.rest_of_line();
            if rest.trim_end() == "-" {
                self.copy(1);
                return self.end_line();
            }
            let Some(after) = rest.strip_prefix("- ") else {
                break;
            };
            let dash = 2 + after.len() - after.trim_start().len();
            self.copy(dash);
            column += dash;
        }
        if self.rest_of_line().trim().is_empty() {
            return self.end_line();
        }
        let Some((key, quote, length)) = key(self.rest_of_line()) else {
            let above = column.saturating_sub(1);
            return self.value(above);
        };
        self.out
            .push_str(&format!("{quote}{}{quote}", KnownKind::key(key)));
        self.at += key.len() + 2 * quote.len();
        let behind = self.rest_of_line();
        let space = behind[length..].len() - behind[length..].trim_start().len();
        self.copy(length + space);
        self.above.push((column, key.to_owned()));
        self.before = Before::Nothing;
        self.value(column);
    }

    fn masked(&mut self, path: &[String], text: &str, what: &str) -> String {
        self.kind.argument(&mut self.before, path, text, what)
    }

    /// Masks the value of the innermost key, which begins in that column.
    fn value(&mut self, column: usize) {
        let rest = self.rest_of_line();
        let path = self.path();
        match rest.chars().next() {
            None | Some('#') => self.end_line(),
            Some('[' | '{') => {
                let mut path = path;
                let (masked, length) = flow::one(&self.text[self.at..], self.kind, &mut path);
                self.out.push_str(&masked);
                self.at += length;
                self.end_line();
            }
            Some('|' | '>') if is_header(rest) => {
                self.copy(rest.len());
                self.end_line();
                self.block(column);
            }
            Some(quote @ ('"' | '\'')) => {
                let inside = &self.text[self.at + 1..];
                let end = quoted(inside, quote);
                let content = &inside[..end];
                let masked = if content.contains('\\') && quote == '"' {
                    let unescaped: Option<String> =
                        serde_json::from_str(&format!("\"{content}\"")).ok();
                    match unescaped {
                        Some(meant) if self.masked(&path, &meant, "string") == meant => {
                            content.to_owned()
                        }
                        _ => mark("string", content),
                    }
                } else {
                    self.masked(&path, content, "string")
                };
                self.out.push_str(&format!("{quote}{masked}"));
                self.at += 1 + end;
                if self.text[self.at..].starts_with(quote) {
                    self.copy(1);
                }
                self.end_line();
            }
            Some(_) => {
                let end = rest.find(" #").unwrap_or(rest.len());
                let word = rest[..end].trim_end();
                let is_number = word.parse::<f64>().is_ok();
                let what = if is_number { "number" } else { "string" };
                let masked = self.masked(&path, word, what);
                let quote = if masked == word || masked.contains(['"', '\\']) {
                    ""
                } else {
                    "\""
                };
                self.out.push_str(&format!("{quote}{masked}{quote}"));
                self.at += word.len();
                self.end_line();
            }
        }
    }

    /// Masks a block of text below its key, up to the first line that is not indented further.
    fn block(&mut self, column: usize) {
        let rest = &self.text[self.at..];
        let is_in = |l: &&str| l.trim().is_empty() || l.len() - l.trim_start().len() > column;
        let length: usize = rest
            .split_inclusive('\n')
            .take_while(is_in)
            .map(str::len)
            .sum();
        let block = &rest[..length];
        let content = block.trim();
        let before = block.len() - block.trim_start().len();
        self.out.push_str(&block[..before.min(block.len())]);
        if !content.is_empty() {
            self.out.push_str(&mark("lines", content));
            self.out.push_str(&block[before + content.len()..]);
        }
        self.at += length;
    }
}

/// Whether this is the header of a block of text, such as `|` or `>-`.
fn is_header(rest: &str) -> bool {
    rest.len() <= 4
        && rest[1..]
            .trim_end()
            .chars()
            .all(|c| matches!(c, '+' | '-' | '1'..='9'))
}

/// The key at the start of a line, its quotes, and the length of the colon with the space before.
fn key(line: &str) -> Option<(&str, &'static str, usize)> {
    let quote = match line.chars().next()? {
        '"' => "\"",
        '\'' => "'",
        '[' | '{' | '|' | '>' | '#' => return None,
        _ => "",
    };
    let (key, rest) = if quote.is_empty() {
        let ends = |(n, c): (usize, char)| {
            c == ':' && line[n + 1..].chars().next().is_none_or(char::is_whitespace)
        };
        let at = line.char_indices().find(|p| ends(*p))?.0;
        let key = line[..at].trim_end();
        (key, &line[key.len()..])
    } else {
        let end = quoted(&line[1..], quote.chars().next()?);
        let rest = line[1 + end..].strip_prefix(quote)?;
        (&line[1..=end], rest)
    };
    let space = rest.len() - rest.trim_start().len();
    rest[space..].strip_prefix(':')?;
    Some((key, quote, space + 1))
}

fn quoted(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (n, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return n,
            _ => {}
        }
    }
    inside.len()
}
