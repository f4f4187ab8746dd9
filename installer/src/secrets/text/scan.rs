//! Free text, word by word.

use super::super::mark::{self, mark as marked};
use super::super::url;
use super::super::words::{self, is_harmless};
use super::parts::{
    balanced, end_of, is_call, is_name, is_plain_path, mask_name, quote, shell_word, trimmed,
};
use super::{DEEP, Lines, Trust, mask_key, mask_path};

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
}

impl<'a> Scan<'a, '_> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn copy(&mut self, length: usize) {
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
        // As a shell puts a word together: `a'b c'd`.
        if self.next == Next::Value
            && let Some(whole) = shell_word(rest)
        {
            self.next = Next::Free;
            return self.put(whole.len(), &marked("string", whole));
        }
        if quote(raw).is_some() || raw.starts_with(['[', '{', '(', '<']) || raw == "\\" {
            return;
        }
        // A sign that is none of the quotes it stands in.
        if self.next == Next::Value && raw.contains("\\\"") {
            self.next = Next::Free;
            return self.put(raw.len(), &marked("string", raw));
        }
        if self.next == Next::Secret {
            return self.secret(raw);
        }
        let stop = raw.find(['"', '\'', '`']).unwrap_or(raw.len());
        let stop = raw[..stop].find('<').unwrap_or(stop);
        let (word, _) = trimmed(&raw[..stop]);
        let scheme = word.find("://");
        if scheme.is_some()
            && word.find('=') < scheme
            && is_name(word.split('=').next().unwrap_or(""))
            && word.contains('=')
        {
            // A key of its own: `Environment=PROXY=http://proxy`.
            self.next = Next::Free;
            return;
        }
        if scheme.is_some() {
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
        let begins = words::announces(word) && !raw[word.len()..].starts_with(',');
        let goes_on = self.next == Next::Near && is_empty_word && masked == word;
        self.next = if (begins || goes_on) && !ends_sentence {
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
