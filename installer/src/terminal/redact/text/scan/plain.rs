//! Masks words without quotes: keys with their values, flags, and words of a sentence.

use super::super::super::harmless::{is_harmless, mask_path};
use super::super::super::mark::mark as marked;
use super::super::super::trust::Trust;
use super::super::super::url;
use super::super::super::words;
use super::super::parts::{is_call, is_name, is_plain_path, mask_name, quote, shell_word, trimmed};
use super::promise::Promise;
use super::{Next, TextScan};

impl TextScan<'_, '_> {
    pub(super) fn word(&mut self) {
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

    /// Masks the value that follows `key=` without a space.
    fn value(&mut self) {
        let rest = self.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let raw = &rest[..end];
        if raw.is_empty() {
            // The value is empty, or it follows after a space, which no shell would allow.
            if self.next != Next::Secret || self.trust == Trust::Values {
                self.next = Next::Free;
            }
            return;
        }
        // A word that a shell would join from parts: `a'b c'd`.
        if self.next == Next::Value
            && let Some(whole) = shell_word(rest)
        {
            self.next = Next::Free;
            return self.put(whole.len(), &marked("string", whole));
        }
        if quote(raw).is_some() || raw.starts_with(['[', '{', '(', '<']) || raw == "\\" {
            return;
        }
        // An escaped quote inside the value.
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
            // The value is itself a key with a URL: `Environment=PROXY=http://proxy`.
            self.next = Next::Free;
            return;
        }
        if scheme.is_some() {
            self.next = Next::Free;
            return self.put(word.len(), &url::mask(word));
        }
        // No harmless form has these characters in the middle, so the value is not judged part by
        // part.
        let is_odd = |c: char| matches!(c, '*' | '#' | '!' | '?' | '%' | '^' | '~');
        if self.next == Next::Value
            && word.len() > 3
            && (raw.contains(is_odd) || is_in_crumbs(word))
        {
            self.next = Next::Free;
            return self.put(word.len(), &marked("string", word));
        }
        // Of such a value, most can look like the punctuation behind a word.
        let whole = &raw[..stop];
        if self.next == Next::Value && word.len() <= 3 && whole.len() > 3 && whole.contains(is_odd)
        {
            self.next = Next::Free;
            return self.put(whole.len(), &marked("string", whole));
        }
        let parts = |c: char| matches!(c, ';' | '&' | '|' | ',');
        // A list of options, like those of a mount. After the first, something that looks like an
        // option may be part of a value.
        let is_pair = |(at, part): (usize, &str)| {
            let part = part.trim_end_matches(parts);
            part.split_once('=').is_none_or(|(key, value)| {
                let name = key.trim_start_matches('-');
                let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic())
                    && name.ends_with(|c: char| c.is_ascii_alphabetic())
                    && !name.contains(|c: char| c.is_ascii_digit())
                    && (name.len() == 1 || is_harmless(name, Trust::Words));
                let is_first = at == 0 && name == key && self.next != Next::Value;
                let value = value.trim_end_matches('=');
                // In a value, a pair must be one by its name: the padding of base64 looks like a pair as well.
                let is_word = is_word
                    && (self.next != Next::Value
                        || name.len() > 2 && is_harmless(name, Trust::Values));
                is_name(key) && !value.contains('=') && (is_first || is_word)
            })
        };
        if word.contains('=') && !word.split_inclusive(parts).enumerate().all(is_pair) {
            self.next = Next::Free;
            return self.put(word.len(), &marked("string", word));
        }
        if word.contains('=') || word.contains(['\\', '&', ';']) && word.len() > 1 {
            let mut masked = String::new();
            for part in word.split_inclusive(parts) {
                let core = part.trim_end_matches(parts);
                masked.push_str(&self.inner(core, Trust::Values));
                masked.push_str(&part[core.len()..]);
            }
            self.next = Next::Free;
            return self.put(word.len(), &masked);
        }
        if self.next == Next::Free {
            return self.plain(raw);
        }
        // A word this short would count as harmless, but a value can be that short too.
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
        // Without the closing quotes or brackets around it.
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

    /// Handles a flag: `-u`, `-psecret`, `--flag`. Returns false for a dash that is not a flag.
    fn flag(&mut self, raw: &str) -> bool {
        let name = raw.trim_start_matches('-');
        // `-/bin/sh`: in a unit, the dash means that a failure is ignored.
        if name.is_empty()
            || name.starts_with('/')
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

    /// Masks a word of a sentence, with the punctuation around it.
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
        let is_empty_word = words::says_nothing(word) || word.len() <= 3;
        let ends_sentence = raw[word.len()..].starts_with(['.', ';']);
        let begins = (words::announces(word) || words::announces_with(&self.before, word))
            && !raw[word.len()..].starts_with(',');
        let goes_on = self.next == Next::Near
            && is_empty_word
            && masked == word
            && !raw[word.len()..].starts_with(',');
        let ends_in_colon = raw[word.len()..].starts_with(':');
        let is_promised = self.promise.keeps(word, ends_in_colon);
        if ends_sentence {
            self.promise = Promise::default();
        } else if begins {
            self.promise = Promise::of_secret();
        }
        self.next = if (begins || goes_on || is_promised) && !ends_sentence {
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
        if self.next == Next::Near && words::says_nothing(word) {
            return word.to_owned();
        }
        if self.next == Next::Near && word.len() > 2 {
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
        let stem = word
            .strip_suffix("'s")
            .or_else(|| word.strip_suffix("n't"))
            .unwrap_or(word);
        if is_harmless(stem, trust) || trust == Trust::Words && is_call(stem) {
            return word.to_owned();
        }
        marked("string", word)
    }
}

/// Whether a value consists of pieces so short that each would count as harmless.
fn is_in_crumbs(word: &str) -> bool {
    let pieces = word.split(|c: char| !c.is_ascii_alphanumeric());
    let is_crumb = |piece: &&str| {
        (1..=2).contains(&piece.len())
            && piece.contains(|c: char| c.is_ascii_alphabetic())
            && !words::is_known(piece)
    };
    word.len() >= 8 && pieces.filter(is_crumb).count() >= 2
}
