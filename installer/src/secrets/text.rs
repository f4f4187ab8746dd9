//! Free text: logs, messages, command lines, settings of shells. Word by word, and what a key, a
//! flag or a command before it makes of a word.

use super::mark::{self, mark as marked};
use super::url;
use super::words::{self, is_harmless};

/// Which words stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Words that could be of a sentence.
    Words,
    /// Words that are listed, and forms that are.
    Values,
}

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

/// A longer line is masked as a whole.
const LONG: usize = 64 << 10;
/// Quotes in quotes in quotes.
const DEEP: usize = 6;

/// All of a text.
pub(super) fn mask(text: &str, trust: Trust) -> String {
    Lines::new(trust).all(text)
}

/// Settings of a shell and the like: comments are masked whole.
pub(super) fn mask_settings(text: &str) -> String {
    let mut lines = Lines::new(Trust::Values);
    lines.comments = true;
    lines.all(text)
}

/// A value of a key that is shown.
pub(super) fn mask_kept(text: &str) -> String {
    // Nothing but a URL, whatever signs its password has.
    if text.contains("://") && text.contains('@') && !text.contains("@sha256:") {
        return url::mask(text);
    }
    mask(text, Trust::Words)
}

/// The name of a key, or a part of it.
pub(super) fn mask_key(key: &str) -> String {
    let said = key.trim();
    if said.is_empty() || said.contains("://") || said.contains(char::is_whitespace) {
        return if said.is_empty() {
            key.to_owned()
        } else {
            mask(key, Trust::Values)
        };
    }
    let name = said.trim_start_matches(['-', '$']);
    if name.len() <= 10 && name.chars().all(|c| c.is_ascii_alphabetic()) {
        return key.to_owned();
    }
    let is_name = is_harmless(name, Trust::Words)
        || name.starts_with('/') && mask_path(name, Trust::Words) == name;
    if is_name {
        key.to_owned()
    } else {
        marked("string", key)
    }
}

/// A path: each part of it is a word; below known directories ids are names.
pub(super) fn mask_path(path: &str, trust: Trust) -> String {
    let is_rooted = words::is_rooted(path);
    if trust == Trust::Values && !is_rooted && path.len() > 3 {
        return marked("string", path);
    }
    let part = |part: &str| {
        if part.contains("@sha256:") && is_harmless(part, trust) {
            return part.to_owned();
        }
        let (name, ends) = part.split_at(part.find([':', ',']).unwrap_or(part.len()));
        let is_id = is_rooted
            && (name.len() == 64 && words::is_id(name)
                || is_uuid(name)
                || words::is_id(
                    name.trim_end_matches(".scope")
                        .rsplit('-')
                        .next()
                        .unwrap_or(name),
                ));
        let is_fine = is_id || is_harmless(name, Trust::Words);
        let name = if is_fine {
            name.to_owned()
        } else {
            marked("string", name)
        };
        let ends = match ends.get(..1) {
            Some(sign) if ends[1..].starts_with('/') => {
                format!("{sign}{}", mask_path(&ends[1..], trust))
            }
            Some(sign) if !is_harmless(&ends[1..], Trust::Values) => {
                format!("{sign}{}", marked("string", &ends[1..]))
            }
            _ => ends.to_owned(),
        };
        name + &ends
    };
    // Lists of paths, as in PATH.
    if let Some((first, rest)) = path.split_once(":/") {
        return format!(
            "{}:{}",
            mask_path(first, trust),
            mask_path(&format!("/{rest}"), trust)
        );
    }
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn is_uuid(text: &str) -> bool {
    let text = text.strip_prefix("pod").unwrap_or(text);
    text.len() == 36
        && text.bytes().enumerate().all(|(n, b)| match n {
            8 | 13 | 18 | 23 => b == b'-' || b == b'_',
            _ => b.is_ascii_hexdigit(),
        })
}

/// What is known of a text line by line.
struct Lines {
    trust: Trust,
    comments: bool,
    /// Lines that are further in belong to a secret.
    block: Option<usize>,
    /// In a key between its two marked lines.
    key: bool,
    /// A quote that was not closed.
    open: Option<char>,
    /// The word that ends a text for a command.
    here: Option<String>,
    /// Of a line that goes on: what its end made of the next word.
    carried: Option<(Next, bool)>,
    /// The line before ended in something masked.
    after_mark: bool,
}

impl Lines {
    fn new(trust: Trust) -> Self {
        Self {
            trust,
            comments: false,
            block: None,
            key: false,
            open: None,
            here: None,
            carried: None,
            after_mark: false,
        }
    }

    fn all(&mut self, text: &str) -> String {
        let cut = rest_of_key(text);
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let said = line.strip_suffix('\n').unwrap_or(line);
            if at < cut {
                out.push_str(&marked("lines", said));
            } else {
                let masked = self.line(said);
                let end = masked.trim_end();
                self.after_mark = if said.trim().is_empty() {
                    self.after_mark
                } else {
                    ends_in_mark(end)
                };
                out.push_str(&masked);
            }
            out.push_str(&line[said.len()..]);
            at += line.len();
        }
        out
    }

    fn line(&mut self, line: &str) -> String {
        let said = line.trim();
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
            if said.trim_start_matches('#').trim() == word {
                self.here = None;
                return line.to_owned();
            }
            return whole("lines");
        }
        if self.key {
            self.key = !said.contains("-----END");
            return whole("lines");
        }
        if let Some(quote) = self.open {
            self.open = if line.contains(quote) {
                None
            } else {
                Some(quote)
            };
            return whole("lines");
        }
        if let Some(column) = self.block {
            if said.is_empty() || depth > column {
                return whole("lines");
            }
            self.block = None;
        }
        if self.comments && said.starts_with('#') {
            return format!(
                "{}#{}",
                &line[..depth],
                marked("comment", said[1..].trim_end())
            );
        }
        if let Some(at) = line.find("-----BEGIN ") {
            self.key = !line[at..].contains("-----END");
            let before = self.words(&line[..at], self.trust, 0);
            return before + &marked("lines", line[at..].trim_end());
        }
        let comment_sign = said.trim_start_matches(['#', '/', ' ']);
        if self.after_mark
            && !comment_sign.is_empty()
            && !comment_sign.contains(char::is_whitespace)
            && !comment_sign.contains(['=', ':', '[', '{'])
            && !is_harmless(comment_sign, Trust::Values)
            || self.after_mark && comment_sign.starts_with('=')
        {
            return whole("lines");
        }
        let masked = self.words(line, self.trust, 0);
        let tail = said.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
        if tail.ends_with(": |") || tail.ends_with(": >") {
            self.block = Some(depth);
        }
        if let Some(word) = here(line) {
            self.here = Some(word);
        }
        masked
    }

    fn words(&mut self, text: &str, trust: Trust, depth: usize) -> String {
        let (next, rest) = if depth == 0 {
            self.carried.take()
        } else {
            None
        }
        .unwrap_or((Next::Free, false));
        let mut scan = Scan {
            lines: self,
            text,
            at: 0,
            out: String::with_capacity(text.len()),
            trust,
            depth,
            next,
            rest,
            before: String::new(),
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
        if depth == 0 && text.trim_end().ends_with('\\') {
            self.carried = Some((next, true));
        }
        out
    }
}

fn ends_in_mark(text: &str) -> bool {
    text.rfind("<masked ")
        .is_some_and(|at| mark::at_start(&text[at..]).is_some_and(|n| text[at + n..].len() <= 2))
}

/// The length of what is the rest of a key whose beginning was cut off.
fn rest_of_key(text: &str) -> usize {
    let Some(end) = text.find("-----END ") else {
        return 0;
    };
    if text[..end].contains("-----BEGIN ") {
        return 0;
    }
    // Back over lines of one word each.
    let start = text[..end].rfind('\n').map_or(0, |n| n + 1);
    let lines: Vec<&str> = text[..start].split_inclusive('\n').collect();
    let is_part = |l: &&&str| l.split_whitespace().count() <= 1 || l.contains("<masked ");
    if lines.iter().rev().take_while(is_part).count() == 0 && start > 0 {
        return 0;
    }
    let whole = text[end..].find('\n').map_or(text.len(), |n| end + n + 1);
    // What stands before it is masked, too: it is a part of the same text.
    let kept = lines
        .iter()
        .rev()
        .skip_while(is_part)
        .map(|l| l.len())
        .sum::<usize>();
    if kept == 0 { whole } else { 0 }
}

/// The word that ends what a shell is given to read: `<<EOF`.
fn here(line: &str) -> Option<String> {
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

struct Scan<'a, 'b> {
    lines: &'b mut Lines,
    text: &'a str,
    at: usize,
    out: String,
    trust: Trust,
    depth: usize,
    next: Next,
    /// Every word up to the end is judged as a value.
    rest: bool,
    before: String,
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
            if c == ';' || c == '|' {
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

    fn group(&mut self, open: char) {
        let rest = self.rest();
        let length = balanced(rest, open);
        let (inside, close) = match length {
            Some(n) => (&rest[1..n], &rest[n..=n]),
            None => (&rest[1..], ""),
        };
        let masked = if self.next == Next::Secret {
            marked("string", inside.trim())
        } else {
            self.inner(inside, Trust::Values)
        };
        self.next = Next::Free;
        self.put(
            1 + inside.len() + close.len(),
            &format!("{open}{masked}{close}"),
        );
    }

    fn inner(&mut self, inside: &str, trust: Trust) -> String {
        if self.depth == DEEP {
            return marked("text", inside);
        }
        // Quoted as a whole, the value of a variable goes on over spaces.
        if let Some((key, value)) = inside.split_once('=').filter(|_| trust == Trust::Values)
            && is_name(key)
            && value.contains(char::is_whitespace)
            && !value.contains('=')
            && !value
                .split_whitespace()
                .all(|w| w.len() > 1 && is_harmless(w, trust))
        {
            return format!("{}={}", mask_name(key), marked("string", value));
        }
        self.lines.words(inside, trust, self.depth + 1)
    }

    /// What is no list of flags is one value.
    fn inner_of_value(&mut self, said: &str) -> String {
        if said.starts_with(['-', '/', '{', '[']) {
            self.inner(said, Trust::Values)
        } else {
            marked("string", said)
        }
    }

    fn quoted(&mut self, quote: &'static str) {
        let rest = self.rest();
        let inside = &rest[quote.len()..];
        let Some(end) = end_of(inside, quote) else {
            let is_value = matches!(self.next, Next::Secret | Next::Value)
                && self.out.ends_with(['=', ' ', ':']);
            if self.next == Next::Secret || is_value && self.out.ends_with('=') {
                if self.depth == 0 {
                    self.lines.open = quote.chars().last();
                }
                let masked = format!("{quote}{}", marked("string", inside));
                return self.put(rest.len(), &masked);
            }
            return self.copy(quote.len());
        };
        let said = &inside[..end];
        let behind = &inside[end + quote.len()..];
        let length = end + 2 * quote.len();
        let space = behind.len() - behind.trim_start().len();
        let is_key = said.len() <= 80
            && (behind[space..].starts_with(':') && !behind[space..].starts_with("://")
                || behind[space..].starts_with('='))
            && (self.next != Next::Secret)
            && !said.is_empty();
        if is_key {
            self.out
                .push_str(&format!("{quote}{}{quote}", mask_key(said)));
            self.at += length;
            self.before = said.to_owned();
            self.copy(space + 1);
            if self.rest().starts_with('>') {
                self.copy(1);
            }
            self.behind(said);
            // Behind the quoted key of a log, a sentence is quoted, too.
            return;
        }
        let masked = match self.next {
            Next::Secret | Next::Near if words::is_switch(said) || is_plain_path(said) => {
                said.to_owned()
            }
            Next::Secret | Next::SecretLine | Next::Near => marked("string", said),
            Next::Id if words::is_id(said) => said.to_owned(),
            Next::Free => self.inner(said, if self.rest { Trust::Values } else { self.trust }),
            // A value goes on over spaces.
            Next::Value if self.out.ends_with('=') && said.contains(' ') && !said.contains('=') => {
                let is_fine = |w: &str| w.len() > 1 && is_harmless(w, Trust::Values);
                let is_kept = said.split_whitespace().all(is_fine);
                if is_kept {
                    said.to_owned()
                } else {
                    self.inner_of_value(said)
                }
            }
            Next::Value | Next::Id => self.inner(said, Trust::Values),
        };
        if !said.is_empty() || !behind.starts_with(quote) {
            self.next = Next::Free;
        }
        self.put(length, &format!("{quote}{masked}{quote}"));
    }

    fn word(&mut self) {
        let rest = self.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let end = if self.next == Next::Secret {
            end
        } else {
            rest[..end].find("\\n").unwrap_or(end)
        };
        let raw = &rest[..end];
        let stop = raw.find(['"', '\'', '`']).unwrap_or(raw.len());
        let equals = raw.find('=').filter(|n| *n <= stop);
        let scheme = raw
            .find("://")
            .or_else(|| raw.find(":\\/\\/"))
            .filter(|n| equals.is_none_or(|e| *n < e));
        if matches!(self.next, Next::Secret) {
            return self.secret(raw);
        }
        if scheme.is_some() {
            let length = raw
                .find(['"', '\'', '`', '<', '>', '|'])
                .unwrap_or(raw.len());
            let (word, _) = trimmed(&raw[..length]);
            let masked = url::mask(&word.replace("\\/", "/"));
            self.next = Next::Free;
            return self.put(word.len(), &masked);
        }
        // `--flag=value`, `key=value`
        if let Some(at) = equals.filter(|n| *n > 0) {
            let key = &raw[..at];
            let name = key.trim_end_matches([':', '+', '?']);
            if is_name(name)
                && at + 1 + usize::from(raw[at..].starts_with("==")) < raw.len().max(at + 2)
            {
                self.put(at + 1, &format!("{}=", mask_name(key)));
                self.before = key.to_owned();
                self.behind(key);
                return self.value();
            }
        }
        // `key: value`, `"key":`
        if let Some(at) = raw.find(':').filter(|n| *n > 0 && *n < stop.max(1)) {
            let after = &raw[at + 1..];
            let key = &raw[..at];
            if (after.is_empty() || after.starts_with(['"', '\'', '[', '{']))
                && words::is_secret_key(key)
                && !key.contains(['/', '(', '['])
            {
                self.put(at + 1, &format!("{}:", mask_name(key)));
                self.next = if after.is_empty() {
                    Next::SecretLine
                } else {
                    Next::Secret
                };
                self.before = key.to_owned();
                return;
            }
        }
        if raw.starts_with('-') && raw.len() > 1 && self.flag(raw) {
            return;
        }
        self.plain(raw);
    }

    /// What stands behind `key=` without a space.
    fn value(&mut self) {
        let rest = self.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let raw = &rest[..end];
        if raw.is_empty() {
            // Nothing, or it stands behind a space, as no shell would have it.
            if self.next != Next::Secret || self.trust == Trust::Values {
                self.next = Next::Free;
            }
            return;
        }
        if quote(raw).is_some() || raw.starts_with(['[', '{', '(', '<']) || raw == "\\" {
            return;
        }
        if self.next == Next::Secret {
            return self.secret(raw);
        }
        let stop = raw.find(['"', '\'', '`']).unwrap_or(raw.len());
        let stop = raw[..stop].find('<').unwrap_or(stop);
        let (word, _) = trimmed(&raw[..stop]);
        if word.contains("://") {
            self.next = Next::Free;
            return self.put(word.len(), &url::mask(word));
        }
        let parts = |c: char| matches!(c, ';' | '&' | '|' | ',');
        let is_pair = |part: &str| {
            let part = part.trim_end_matches(parts);
            part.split_once('=').is_none_or(|(key, value)| {
                is_name(key) && !value.trim_end_matches('=').contains('=')
            })
        };
        if word.contains('=') && !word.split_inclusive(parts).all(is_pair) {
            self.next = Next::Free;
            return self.put(word.len(), &marked("string", word));
        }
        if word.contains('=') || word.contains(['\\', '&', ';']) && word.len() > 1 {
            let mut masked = String::new();
            for part in word.split_inclusive(parts) {
                let said = part.trim_end_matches(parts);
                masked.push_str(&self.inner(said, Trust::Values));
                masked.push_str(&part[said.len()..]);
            }
            self.next = Next::Free;
            return self.put(word.len(), &masked);
        }
        if self.next == Next::Free {
            return self.plain(raw);
        }
        // So short that any form would do, but a value all the same.
        let is_short = word.len() <= 2 && !words::is_known(word);
        let masked = if is_short && word.contains(char::is_alphabetic) {
            marked("string", word)
        } else {
            self.judged(word)
        };
        self.next = Next::Free;
        self.before = word.to_owned();
        self.put(word.len(), &masked);
    }

    fn secret(&mut self, raw: &str) {
        if raw == "\\" {
            return self.copy(1);
        }
        // What closes the quotes or the list that it stands in.
        let word = raw.trim_end_matches(['"', '\'', ']', ')', '}', ',', '`', '\\']);
        let word = match word.find('<').filter(|n| *n > 0 && self.out.ends_with('>')) {
            Some(n) => &word[..n],
            None => word,
        };
        if word.is_empty() {
            return self.copy(raw.len());
        }
        let kept = words::is_switch(word) || is_plain_path(word);
        let masked = if kept {
            word.to_owned()
        } else {
            marked("string", word)
        };
        self.next = Next::Free;
        self.put(word.len(), &masked);
    }

    /// `-u`, `-psecret`, `--flag`; no flag is a sign between words.
    fn flag(&mut self, raw: &str) -> bool {
        let name = raw.trim_start_matches('-');
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || raw.starts_with("---")
        {
            return false;
        }
        let stop = name
            .find(['"', '\'', '`', ',', ';', ')', ']', '}', '|'])
            .unwrap_or(name.len());
        let (name, ended) = (&name[..stop], stop < name.len());
        let dashes = raw.len() - raw.trim_start_matches('-').len();
        let length = dashes + name.len();
        let is_short = name.len() <= 3 && name.chars().all(|c| c.is_ascii_alphabetic());
        if dashes == 1 && name.len() > 1 && !is_short && !words::is_known(name) {
            let first = name.chars().next().map_or(1, char::len_utf8);
            let masked = format!("-{}{}", &name[..first], marked("string", &name[first..]));
            self.next = Next::Free;
            self.put(length, &masked);
            return true;
        }
        let is_name = is_harmless(name, Trust::Words);
        let masked = if is_name {
            raw[..length].to_owned()
        } else {
            marked("string", &raw[..length])
        };
        self.put(length, &masked);
        self.before = name.to_owned();
        self.next = if ended {
            Next::Free
        } else if words::is_secret_key(name) && !name.ends_with("stdin") {
            Next::Secret
        } else {
            Next::Value
        };
        true
    }

    /// A word as it stands, with the signs of a sentence around it.
    fn plain(&mut self, raw: &str) {
        let stop = raw
            .find(['"', '`'])
            .or_else(|| {
                raw.find('\'')
                    .filter(|n| !raw[*n..].starts_with("'s") && !raw[*n..].starts_with("'t"))
            })
            .unwrap_or(raw.len());
        let (word, _) = trimmed(&raw[..stop.max(1)]);
        if word.is_empty() {
            let length = raw.chars().next().map_or(0, char::len_utf8);
            return self.copy(length);
        }
        let masked = self.judged(word);
        let is_empty_word = words::is_known(word) || word.len() <= 3;
        let ends_sentence = raw[word.len()..].starts_with(['.', ';']);
        self.next =
            if words::announces(word) && !ends_sentence && !raw[word.len()..].starts_with(',') {
                Next::Near
            } else if self.next == Next::Near && is_empty_word && masked == word && !ends_sentence {
                Next::Near
            } else if words::names_ids(word) {
                Next::Id
            } else {
                Next::Free
            };
        if words::is_command(word) {
            self.rest = true;
        }
        self.before = word.to_owned();
        self.put(word.len(), &masked);
    }

    fn judged(&self, word: &str) -> String {
        if self.next == Next::Near && !words::is_known(word) && word.len() > 2 {
            return marked("string", word);
        }
        if words::is_id(word) && (self.next == Next::Id || words::names_ids(&self.before)) {
            return word.to_owned();
        }
        let trust = if self.next == Next::Id {
            if self.rest { Trust::Values } else { self.trust }
        } else {
            self.strict()
        };
        let bare = word.trim_start_matches(['@', '+', '!', ':', '-']);
        if bare.starts_with('/') && bare.len() > 1 {
            return format!(
                "{}{}",
                &word[..word.len() - bare.len()],
                mask_path(bare, trust)
            );
        }
        let said = word
            .strip_suffix("'s")
            .or_else(|| word.strip_suffix("n't"))
            .unwrap_or(word);
        if is_harmless(said, trust) || trust == Trust::Words && is_call(said) {
            return word.to_owned();
        }
        marked("string", word)
    }
}

/// Whether something could be the name of a key.
fn is_name(key: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "_.-/:@%$".contains(c);
    key.contains(|c: char| c.is_ascii_alphabetic()) && key.chars().all(is_fit)
}

/// Words joined by brackets: `error(s)`, `foo[3]`, `NV_ERR(0x1f)`.
fn is_call(word: &str) -> bool {
    let parts = word.split([
        '(', ')', '[', ']', '{', '}', '|', '>', '<', '#', '*', '=', '?',
    ]);
    let parts: Vec<&str> = parts.filter(|p| !p.is_empty()).collect();
    parts.len() > 1
        && parts.len() <= 4
        && parts.iter().all(|p| {
            is_harmless(p, Trust::Words)
                && (p.chars().all(char::is_alphabetic) || is_harmless(p, Trust::Values))
        })
}

fn is_plain_path(text: &str) -> bool {
    words::is_rooted(text)
        && !text.contains(char::is_whitespace)
        && mask_path(text, Trust::Words) == text
        && text[1..].contains('/')
}

fn mask_name(key: &str) -> String {
    let bare = key
        .trim_start_matches(['-', '/', '$'])
        .trim_end_matches([':', '+', '?']);
    if is_harmless(bare, Trust::Words)
        || bare
            .split(['_', '-', '.', '/', ':'])
            .all(|p| is_harmless(p, Trust::Words))
    {
        key.to_owned()
    } else {
        marked("string", key)
    }
}

/// Without what ends a sentence or closes a bracket.
fn trimmed(raw: &str) -> (&str, &str) {
    let word = raw.trim_end_matches([
        '.', ',', ';', ':', '!', '?', ')', ']', '}', '>', '"', '\'', '…',
    ]);
    // Closed where it was opened is a part of it.
    let word = match raw[word.len()..].chars().next() {
        Some(c @ (')' | ']' | '}'))
            if word.contains(match c {
                ')' => '(',
                ']' => '[',
                _ => '{',
            }) =>
        {
            &raw[..=word.len()]
        }
        _ => word,
    };
    raw.split_at(word.len())
}

/// A quote that begins here, also one that is itself in quotes.
fn quote(text: &str) -> Option<&'static str> {
    ["\\\"", "\\'", "\"", "'", "`"]
        .into_iter()
        .find(|q| text.starts_with(q))
}

fn end_of(inside: &str, quote: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = inside[at..].find(quote) {
        let here = at + found;
        let backslashes = inside[..here].len() - inside[..here].trim_end_matches('\\').len();
        if quote.len() == 2 || backslashes % 2 == 0 || quote == "'" {
            return Some(here);
        }
        at = here + quote.len();
    }
    None
}

fn balanced(text: &str, open: char) -> Option<usize> {
    let close = match open {
        '[' => ']',
        '{' => '}',
        _ => ')',
    };
    let mut depth = 0_usize;
    for (n, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Some(n);
            }
        }
    }
    None
}
