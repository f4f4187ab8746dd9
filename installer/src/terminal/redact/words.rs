//! Classifies single words: names of secrets, words that announce a secret, known words and ids.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::table::{lists, names};

static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let words = lists().words.split_whitespace();
    words.chain(names()).map(str::to_ascii_lowercase).collect()
});

fn is_listed(list: &[String], word: &str) -> bool {
    list.iter().any(|w| w.eq_ignore_ascii_case(word))
}

/// Whether a value is empty or only on or off, and therefore never a secret.
pub(super) fn is_switch(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "" | "true"
            | "false"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "null"
            | "none"
            | "nil"
            | "~"
            | "void"
    )
}

/// Whether the name of a key says that its value is secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let list = &lists().secret_keys;
    let parts = key.split(|c: char| !c.is_ascii_alphanumeric());
    let mut parts = parts.filter(|p| !p.is_empty());
    if is_listed(list, key) {
        return true;
    }
    parts.any(|part| {
        is_listed(list, part.trim_end_matches(|c: char| c.is_ascii_digit()))
            || humps(part).iter().any(|hump| is_listed(list, hump))
            // Written as one word: `dbpassword`.
            || ["password", "passwd", "secret", "token", "apikey", "credential"]
                .iter()
                .any(|word| part.to_ascii_lowercase().contains(word))
    })
}

/// Splits a word at its humps: `accessKeyId` into `access`, `Key`, `Id`.
pub(super) fn humps(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let bytes = word.as_bytes();
    for n in 1..bytes.len() {
        let before_is_small = !bytes[n - 1].is_ascii_uppercase();
        let next_is_small = bytes.get(n + 1).is_some_and(u8::is_ascii_lowercase);
        if bytes[n].is_ascii_uppercase() && (before_is_small || next_is_small) {
            parts.push(&word[start..n]);
            start = n;
        }
    }
    parts.push(&word[start..]);
    parts
}

/// Whether a secret follows these two words, such as `api key`.
pub(super) fn announces_with(before: &str, word: &str) -> bool {
    let last = before.rsplit(['-', '_', '.']).next().unwrap_or(before);
    is_listed(&lists().secret_pairs, &format!("{last} {word}"))
}

/// Whether a secret follows the word, without a `:` or `=` between them.
pub(super) fn announces(word: &str) -> bool {
    // A call with the secret as its argument: `PASSWORD('…')`.
    let word = word.trim_end_matches('(');
    // `AuthToken`, `wifi-sec.psk`
    let last = word
        .rsplit(|c: char| !c.is_alphanumeric() && c != '<')
        .next()
        .unwrap_or(word);
    let last = humps(last).pop().unwrap_or(last);
    [word, last]
        .iter()
        .any(|w| is_listed(&lists().secret_words, w))
}

/// Whether the word can come between a word such as `password` and its secret: a known word, or
/// another that announces a secret.
pub(super) fn says_nothing(word: &str) -> bool {
    is_known(word) || announces(word) || is_listed(&lists().secret_keys, word)
}

/// Whether the id of a container or the like follows the word.
pub(super) fn names_ids(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    is_listed(&lists().id_keys, word)
}

pub(super) fn is_prose_key(key: &str) -> bool {
    is_listed(&lists().prose_keys, key)
}

pub(super) fn is_command(word: &str) -> bool {
    lists()
        .commands
        .iter()
        .any(|c| c == word.rsplit('/').next().unwrap_or(word))
}

pub(super) fn is_known(word: &str) -> bool {
    KNOWN.contains(&word.to_ascii_lowercase())
}

/// Whether a word is a container's id: 64 hexadecimal digits, or their first 12.
pub(super) fn is_id(word: &str) -> bool {
    matches!(word.len(), 12 | 64)
        && word
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a path begins in a directory whose files may be named.
pub(super) fn is_rooted(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|p| p.split('/').next());
    first.is_some_and(|first| lists().roots.iter().any(|r| r == first))
}
