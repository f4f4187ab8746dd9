//! Decides which words are harmless: by their form, by a list, or because they look like natural
//! language. Paths and names of keys are judged by the words in them.

use std::sync::LazyLock;

use regex_lite::Regex;

use super::mark::mark;
use super::table::lists;
use super::trust::Trust;
use super::words::{self, humps, is_known};

static FORMS: LazyLock<Regex> = LazyLock::new(|| {
    let all = lists().forms.join("|");
    Regex::new(&format!("^(?:{all})$")).expect("a pattern of ours; every test uses it")
});

/// Words longer than this are never shown.
const LONG: usize = 200;

/// Whether a word, without the punctuation around it, may be shown.
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
        return mask_path(word, trust) == word;
    }
    if let Some((before, after)) = word.split_once('@') {
        let is_instance = |s: &str| {
            s.rsplit_once('.')
                .is_some_and(|(_, kind)| matches!(kind, "service" | "socket" | "timer"))
        };
        return (after.starts_with("sha256:") && FORMS.is_match(after) || is_instance(after))
            && is_harmless(before, trust);
    }
    // The parts of a list are judged one by one. In a pair, what follows the colon is a value.
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
        // One short piece can be the name of a part, a slice or a distribution; it is no secret.
        short += 1;
        p.len() <= 4 && short <= 1
    });
    all && !is_random(word)
}

/// Whether the letters could be a word of some language.
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
    // Names of functions change only a few times between lower and upper case.
    let turns = humps(piece).len() - 1;
    if turns > 1 + piece.len() / 5 || is_known(piece) {
        return is_known(piece);
    }
    let odd: usize = humps(piece).iter().map(|hump| odd_pairs(hump)).sum();
    // Some odd pairs are allowed: names of constants have few vowels.
    odd <= if piece.len() <= 6 { 1 } else { piece.len() / 6 }
}

/// Which letters follow each other in words: 26 lines of 26 characters.
const PAIRS: &str = include_str!("../../../letter-pairs.txt");

fn odd_pairs(word: &str) -> usize {
    let place = |b: u8| usize::from(b.to_ascii_lowercase() - b'a');
    let pairs = word.as_bytes().windows(2);
    let is_odd = |p: &&[u8]| PAIRS.as_bytes()[place(p[0]) * 27 + place(p[1])] != b'#';
    pairs.filter(is_odd).count()
}

/// Whether short pieces, each harmless, form a long word without meaning: `aB-3x-Qz-9`.
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

/// Masks the name of a key that is one word and contains no URL.
pub(super) fn mask_key_word(key: &str) -> String {
    let name = key.trim();
    if name.is_empty() {
        return key.to_owned();
    }
    let name = name.trim_start_matches(['-', '$']);
    if name.len() <= 10 && name.chars().all(|c| c.is_ascii_alphabetic()) {
        return key.to_owned();
    }
    let is_name = is_harmless(name, Trust::Words)
        || name.starts_with('/') && mask_path(name, Trust::Words) == name;
    if is_name {
        key.to_owned()
    } else {
        mark("string", key)
    }
}

/// Whether a key is one word and contains no URL.
pub(super) fn is_one_word(key: &str) -> bool {
    let name = key.trim();
    !name.contains("://") && !name.contains(char::is_whitespace)
}

/// Masks a path: each part is judged as a word. Below known directories, ids count as names.
pub(super) fn mask_path(path: &str, trust: Trust) -> String {
    // A list of paths, as in PATH.
    if let Some((first, rest)) = path.split_once(":/") {
        return format!(
            "{}:{}",
            mask_path(first, trust),
            mask_path(&format!("/{rest}"), trust)
        );
    }
    let is_rooted = words::is_rooted(path);
    if trust == Trust::Values && !is_rooted && path.len() > 3 {
        return mark("string", path);
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
            mark("string", name)
        };
        let ends = match ends.get(..1) {
            Some(sign) if !is_harmless(&ends[1..], Trust::Values) => {
                format!("{sign}{}", mark("string", &ends[1..]))
            }
            _ => ends.to_owned(),
        };
        name + &ends
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A path is made of words; what stands behind its colon is a value.
    #[test]
    fn text_after_a_paths_colon_is_a_value() {
        let masked = |path: &str| mask_path(path, Trust::Words);
        for path in [
            "/usr/bin/gpusetup:ro",
            "/usr/lib:/usr/lib64",
            "/etc/docker/daemon.json:12",
        ] {
            assert_eq!(masked(path), path);
        }
        assert_eq!(masked("/usr/bin/hunter"), "/usr/bin/hunter");
        for path in ["/usr/bin/tool:hunter", "/usr/bin/tool,hunter"] {
            let shown = masked(path);
            assert!(
                shown.starts_with("/usr/bin/tool") && !shown.contains("hunter"),
                "{shown}"
            );
        }
    }
}
