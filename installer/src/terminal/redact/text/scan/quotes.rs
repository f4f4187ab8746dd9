//! Masks what is in quotes or brackets.

use super::super::super::argument::Before;
use super::super::super::harmless::{is_harmless, is_one_word, mask_key_word};
use super::super::super::mark::mark as marked;
use super::super::super::trust::Trust;
use super::super::super::words;
use super::super::parts::{balanced, end_of, is_name, is_plain_path, mask_name};
use super::{DEEP, Next, TextScan};

impl TextScan<'_, '_> {
    pub(super) fn group(&mut self, open: char) {
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

    pub(super) fn inner(&mut self, inside: &str, trust: Trust) -> String {
        if self.depth == DEEP {
            return marked("text", inside);
        }
        // In quotes, the value of a variable may contain spaces.
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
        super::words(self.pending, inside, trust, self.depth + 1)
    }

    /// Masks a quoted value: word by word if it looks like flags or a path, otherwise as a whole.
    fn inner_of_value(&mut self, content: &str) -> String {
        if content.starts_with(['-', '/', '{', '[']) {
            self.inner(content, Trust::Values)
        } else {
            marked("string", content)
        }
    }

    pub(super) fn quoted(&mut self, quote: &'static str) {
        let rest = self.rest();
        let inside = &rest[quote.len()..];
        let Some(end) = end_of(inside, quote) else {
            let is_value = matches!(self.next, Next::Secret | Next::Value)
                && self.out.ends_with(['=', ' ', ':']);
            if self.next == Next::Secret || is_value && self.out.ends_with('=') {
                if self.depth == 0 {
                    self.pending.open = quote.chars().last();
                }
                let masked = format!("{quote}{}", marked("string", inside));
                return self.put(rest.len(), &masked);
            }
            return self.copy(quote.len());
        };
        let content = &inside[..end];
        let behind = &inside[end + quote.len()..];
        let length = end + 2 * quote.len();
        let space = behind.len() - behind.trim_start().len();
        let is_key = content.len() <= 80
            && (behind[space..].starts_with(':') && !behind[space..].starts_with("://")
                || behind[space..].starts_with('='))
            && (self.next != Next::Secret)
            && !content.is_empty();
        if is_key {
            let key = if is_one_word(content) {
                mask_key_word(content)
            } else {
                self.inner(content, Trust::Values)
            };
            self.out.push_str(&format!("{quote}{key}{quote}"));
            self.at += length;
            self.before = content.to_owned();
            self.copy(space + 1);
            if self.rest().starts_with('>') {
                self.copy(1);
            }
            self.behind(content);
            // Not a key, but the subject of a sentence: `exec: "runc": executable file not found`.
            let is_topic = content.contains("://") || is_harmless(content, Trust::Values);
            if self.next == Next::Value && is_topic && self.rest().starts_with(' ') && !self.rest {
                self.next = Next::Free;
            }
            return;
        }
        let masked = match self.next {
            Next::Secret | Next::Near if words::is_switch(content) || is_plain_path(content) => {
                content.to_owned()
            }
            Next::Secret | Next::SecretLine | Next::Near => marked("string", content),
            Next::Id if words::is_id(content) => content.to_owned(),
            Next::Free => self.inner(content, if self.rest { Trust::Values } else { self.trust }),
            // A value that contains spaces.
            Next::Value
                if self.out.ends_with('=') && content.contains(' ') && !content.contains('=') =>
            {
                let is_fine = |w: &str| w.len() > 1 && is_harmless(w, Trust::Values);
                let is_kept = content.split_whitespace().all(is_fine);
                if is_kept {
                    content.to_owned()
                } else {
                    self.inner_of_value(content)
                }
            }
            Next::Value | Next::Id => self.inner(content, Trust::Values),
        };
        // `'it''s'`: a doubled quote does not end the string.
        let goes_on = self.next == Next::Secret && behind.starts_with(quote);
        if !goes_on && (!content.is_empty() || !behind.starts_with(quote)) {
            // An argument quoted by itself, as in a list.
            self.next = match Before::of(content) {
                Before::Secret => Next::Secret,
                Before::Flag => Next::Value,
                Before::Nothing => Next::Free,
            };
        }
        self.put(length, &format!("{quote}{masked}{quote}"));
    }
}
