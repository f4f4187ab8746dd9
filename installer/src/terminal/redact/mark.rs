//! The mark that replaces a masked text: `<masked string, 24 bytes>`.

const START: &str = "<masked ";
const END: &str = " bytes>";

/// The mark for a text of that kind. An empty text and a mark stay as they are.
pub(super) fn mark(kind: &str, text: &str) -> String {
    if text.is_empty()
        || marks(text)
            .next()
            .is_some_and(|(at, m)| at == 0 && m == text.len())
    {
        return text.to_owned();
    }
    format!("{START}{kind}, {}{END}", text.len())
}

/// The length of the mark at the start of a text, if there is one.
pub(super) fn at_start(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(START)?;
    let kind = rest.find(|c: char| !c.is_ascii_lowercase())?;
    let rest = rest[kind..].strip_prefix(", ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    if kind == 0 || kind > 16 || digits == 0 || digits > 12 {
        return None;
    }
    let rest = rest[digits..].strip_prefix(END)?;
    Some(text.len() - rest.len())
}

/// The marks in a text: position and length of each.
pub fn marks(text: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let places = text.match_indices(START);
    places.filter_map(|(at, _)| Some((at, at_start(&text[at..])?)))
}

/// How many marks a text contains.
pub fn count(text: &str) -> usize {
    marks(text).count()
}
