//! What the sections of the page share.

use maud::{Markup, html};
use serde_json::Value;

use crate::terminal::redact;

/// A text, with what was masked in it to be seen.
pub fn marked(text: &str) -> Markup {
    let mut at = 0;
    let mut parts = Vec::new();
    for (place, length) in redact::marks(text) {
        parts.push((&text[at..place], &text[place..place + length]));
        at = place + length;
    }
    html! { @for (before, mark) in parts { (before) mark { (mark) } } (&text[at..]) }
}

/// A text of a document; empty where it has none.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A list of a document.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
