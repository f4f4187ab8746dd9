//! Which words are harmless: by their form, by a list, or as words that people speak.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::kinds::{lists, names};
use super::text::{self, Trust};

static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let words = lists().words.split_whitespace();
    words.chain(names()).map(str::to_ascii_lowercase).collect()
});

static FORMS: LazyLock<Regex> = LazyLock::new(|| {
    let all = lists().forms.join("|");
    Regex::new(&format!("^(?:{all})$")).expect("a pattern of ours; every test uses it")
});

fn is_listed(list: &[String], word: &str) -> bool {
    list.iter().any(|w| w.eq_ignore_ascii_case(word))
}

/// On or off, or nothing: no secret, whatever its key.
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

/// `accessKeyId` as `access`, `Key`, `Id`.
fn humps(word: &str) -> Vec<&str> {
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

/// The same of two words: `api key`.
pub(super) fn announces_with(before: &str, word: &str) -> bool {
    let last = before.rsplit(['-', '_', '.']).next().unwrap_or(before);
    is_listed(&lists().secret_pairs, &format!("{last} {word}"))
}

/// Whether a secret follows the word without any sign.
pub(super) fn announces(word: &str) -> bool {
    // Called with it: `PASSWORD('…')`.
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

/// Whether the word stands between one such as `password` and its secret: known, or such a word, too.
pub(super) fn says_nothing(word: &str) -> bool {
    is_known(word) || announces(word) || is_listed(&lists().secret_keys, word)
}

/// Whether what follows is the id of a container or the like.
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

/// 64 letters of hex, or the 12 that are shown of them.
pub(super) fn is_id(word: &str) -> bool {
    matches!(word.len(), 12 | 64)
        && word
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a path begins in a directory of which files may be named.
pub(super) fn is_rooted(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|p| p.split('/').next());
    first.is_some_and(|first| lists().roots.iter().any(|r| r == first))
}

/// Longer than any word that is of use.
const LONG: usize = 200;

/// Whether a word, without the signs of a sentence around it, may be shown.
pub(super) fn is_harmless(word: &str, trust: Trust) -> bool {
    if word.chars().count() <= 2 || is_known(word) {
        return true;
    }
    if word.len() > LONG {
        return false;
    }
    if word.contains(|c: char| c.is_ascii_digit() || c == '%' || c == ':') && FORMS.is_match(word) {
        return true;
    }
    if word.starts_with('/') {
        return text::mask_path(word, trust) == word;
    }
    if let Some((before, after)) = word.split_once('@') {
        let is_instance = |s: &str| {
            s.rsplit_once('.')
                .is_some_and(|(_, kind)| matches!(kind, "service" | "socket" | "timer"))
        };
        return (after.starts_with("sha256:") && FORMS.is_match(after) || is_instance(after))
            && is_harmless(before, trust);
    }
    // Parts of a list; of a pair what is behind the colon is a value.
    for sign in [',', ':'] {
        if let Some((first, rest)) = word.split_once(sign) {
            let behind = if sign == ':' && !first.is_empty() {
                Trust::Values
            } else {
                trust
            };
            return is_harmless(first, trust) && is_harmless(rest, behind);
        }
    }
    let is_sign = |c: char| matches!(c, '.' | '_' | '-' | '/' | '+' | '*' | '~');
    if word.chars().any(|c| !c.is_alphanumeric() && !is_sign(c)) {
        return false;
    }
    let pieces: Vec<&str> = word.split(is_sign).filter(|p| !p.is_empty()).collect();
    if pieces.len() > 14 {
        return false;
    }
    let is_number = |p: &str| p.len() <= 10 && p.bytes().all(|b| b.is_ascii_digit());
    if trust == Trust::Values {
        let is_named = pieces.iter().any(|p| p.len() > 2 && is_known(p));
        return is_named
            && pieces
                .iter()
                .all(|p| is_known(p) || is_number(p) || p.len() == 1);
    }
    let mut short = 0;
    let all = pieces.iter().all(|p| {
        if is_known(p) || is_number(p) || is_word(p) || p.len() < 24 && FORMS.is_match(p) {
            return true;
        }
        // A name of a part, a slice, a distribution: one of them is no secret.
        short += 1;
        p.len() <= 4 && short <= 1
    });
    all && !is_random(word)
}

/// Letters that could be a word of some language.
fn is_word(piece: &str) -> bool {
    if !piece.chars().all(char::is_alphabetic) {
        return false;
    }
    if !piece.is_ascii() {
        return piece.chars().count() <= 20;
    }
    if piece.len() <= 3 {
        return true;
    }
    if piece.len() > 28 {
        return false;
    }
    // Changes between small and large letters: names of functions have few.
    let turns = humps(piece).len() - 1;
    if turns > 1 + piece.len() / 5 || is_known(piece) {
        return is_known(piece);
    }
    let odd: usize = humps(piece).iter().map(|hump| odd_pairs(hump)).sum();
    // All in capitals is a constant's name, which is short of vowels.
    odd <= if piece.len() <= 6 { 1 } else { piece.len() / 6 }
}

/// Which letters follow each other in words: 26 lines of 26.
const PAIRS: &str = include_str!("../../../letter-pairs.txt");

fn odd_pairs(word: &str) -> usize {
    let place = |b: u8| usize::from(b.to_ascii_lowercase() - b'a');
    let pairs = word.as_bytes().windows(2);
    let is_odd = |p: &&[u8]| PAIRS.as_bytes()[place(p[0]) * 27 + place(p[1])] != b'#';
    pairs.filter(is_odd).count()
}

/// Short pieces, each harmless, that make a long whole without sense: `aB-3x-Qz-9`.
fn is_random(word: &str) -> bool {
    let letters: Vec<u8> = word.bytes().filter(u8::is_ascii_alphanumeric).collect();
    if letters.len() < 12 {
        return false;
    }
    let class = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let turns = letters
        .windows(2)
        .filter(|w| class(w[0]) != class(w[1]))
        .count();
    turns * 2 > letters.len()
}
