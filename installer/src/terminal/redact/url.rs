//! Masks URLs: the address is kept; the user, the password and the query's values are masked.

use super::harmless::{is_harmless, is_one_word, mask_key_word, mask_path};
use super::mark::mark;
use super::trust::Trust;
use super::words::is_switch;

/// Masks a word that contains `://`.
pub(super) fn mask(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return mark("string", word);
    };
    // A password may contain unescaped `@`, `/`, `?` or `#`, so split at the last `@` first.
    let (user, rest) = match rest.rfind('@') {
        Some(at) if !rest[at..].starts_with("@sha256:") => (Some(&rest[..at]), &rest[at + 1..]),
        _ => (None, rest),
    };
    let (place, fragment) = rest
        .split_once('#')
        .map_or((rest, None), |(p, f)| (p, Some(f)));
    let (place, query) = place
        .split_once('?')
        .map_or((place, None), |(p, q)| (p, Some(q)));
    let mut out = format!("{}://", mask_key(scheme));
    if let Some(user) = user {
        out.push_str(&format!("{}@", mark("string", user)));
    }
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let is_plain = is_harmless(host, Trust::Words)
        || host.rsplit_once(':').is_some_and(|(host, port)| {
            is_harmless(host, Trust::Words)
                && port.len() <= 5
                && port.bytes().all(|b| b.is_ascii_digit())
        });
    out.push_str(&if is_plain {
        host.to_owned()
    } else {
        mark("string", host)
    });
    let is_hook = |s: &str| s.to_ascii_lowercase().contains("hook");
    out.push_str(&if is_hook(place) && path.len() > 1 {
        format!("/{}", mark("string", &path[1..]))
    } else {
        mask_path(path, Trust::Words)
    });
    if let Some(query) = query {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, value)) if is_switch(value) => format!("{}={value}", mask_key(key)),
            Some((key, value)) => format!("{}={}", mask_key(key), mark("string", value)),
            None => mark("string", pair),
        });
        out.push_str(&format!("?{}", pairs.collect::<Vec<_>>().join("&")));
    }
    if let Some(fragment) = fragment {
        let is_plain = !fragment.contains('=') && is_harmless(fragment, Trust::Words);
        out.push_str(&if is_plain {
            format!("#{fragment}")
        } else {
            format!("#{}", mark("string", fragment))
        });
    }
    out
}

/// Masks the scheme or a key of the query.
fn mask_key(key: &str) -> String {
    if is_one_word(key) {
        mask_key_word(key)
    } else {
        mark("string", key)
    }
}
