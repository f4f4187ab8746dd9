//! Helpers for free text: finds quotes, brackets, names and paths.

use super::super::harmless::{is_harmless, mask_path};
use super::super::mark::mark as marked;
use super::super::trust::Trust;
use super::super::words;

/// Whether something could be the name of a key.
pub(super) fn is_name(key: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "_.-/:@%$".contains(c);
    key.contains(|c: char| c.is_ascii_alphabetic()) && key.chars().all(is_fit)
}

/// Whether words are joined by brackets: `error(s)`, `foo[3]`, `NV_ERR(0x1f)`.
pub(super) fn is_call(word: &str) -> bool {
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

pub(super) fn is_plain_path(text: &str) -> bool {
    words::is_rooted(text)
        && !text.contains(char::is_whitespace)
        && mask_path(text, Trust::Words) == text
        && text[1..].contains('/')
}

pub(super) fn mask_name(key: &str) -> String {
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

/// Splits off trailing punctuation and closing brackets.
pub(super) fn trimmed(raw: &str) -> (&str, &str) {
    let word = raw.trim_end_matches([
        '.', ',', ';', ':', '!', '?', ')', ']', '}', '>', '"', '\'', '…',
    ]);
    // A bracket that was opened in the word belongs to it.
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

/// The quote that begins here, possibly escaped because it is itself in quotes.
pub(super) fn quote(text: &str) -> Option<&'static str> {
    ["\\\"", "\\'", "\"", "'", "`"]
        .into_iter()
        .find(|q| text.starts_with(q))
}

pub(super) fn end_of(inside: &str, quote: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(offset) = inside[at..].find(quote) {
        let here = at + offset;
        let backslashes = inside[..here].len() - inside[..here].trim_end_matches('\\').len();
        if quote.len() == 2 || backslashes.is_multiple_of(2) || quote == "'" {
            return Some(here);
        }
        at = here + quote.len();
    }
    None
}

pub(super) fn balanced(text: &str, open: char) -> Option<usize> {
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

/// The shell word that begins here, if it mixes quoted and unquoted parts.
pub(super) fn shell_word(text: &str) -> Option<&str> {
    let mut open = None;
    let mut parts = 0;
    let mut before = ' ';
    for (n, c) in text.char_indices() {
        match open {
            Some(quote) if c == quote && before != '\\' => open = None,
            Some(_) => {}
            None if c.is_whitespace() || matches!(c, ',' | ';' | ')' | ']' | '}' | '|') => {
                return (parts > 1).then_some(&text[..n]);
            }
            None => {
                if matches!(c, '"' | '\'') {
                    open = Some(c);
                    parts += 1;
                } else if n == 0 || matches!(before, '"' | '\'') {
                    parts += 1;
                }
            }
        }
        before = c;
    }
    (parts > 1 && open.is_none()).then_some(text)
}
