//! Helpers that the sections of the page share.

use maud::{Markup, html};
use serde_json::Value;

use crate::terminal::redact;

/// A text in which the masked values are highlighted.
pub fn marked(text: &str) -> Markup {
    let mut at = 0;
    let mut parts = Vec::new();
    for (place, length) in redact::marks(text) {
        parts.push((&text[at..place], &text[place..place + length]));
        at = place + length;
    }
    html! { @for (before, mark) in parts { (before) mark { (mark) } } (&text[at..]) }
}

/// A string of a document; empty if there is none.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A list of a document; empty if there is none.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
