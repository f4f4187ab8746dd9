//! Masks what others must not read of a host's files and logs, before it is shown or written.
//!
//! In a file of a known format, only the values of listed keys are kept, and no comments. In free
//! text, a word is kept if it looks harmless. A last pass masks what looks like a vendor's token.
//! When in doubt, mask: a word masked needlessly costs a question, a leaked password costs more.

mod argument;
mod flow;
mod harmless;
mod kinds;
mod mark;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod toml;
mod trust;
mod unit;
mod url;
mod vendors;
mod words;
mod yaml;

use std::path::Path;

use serde_json::Value;

pub use mark::{count, marks};

use kinds::KnownKind;
use mark::mark;
use table::Format;
use trust::Trust;

/// Masks a log, a message or a command: sentences stay, and what is not a word is masked.
pub fn mask(text: &str) -> String {
    vendors::mask(&text::mask(text, Trust::Words))
}

/// Masks a file according to the format that its path implies.
pub fn mask_file(path: &Path, text: &str) -> String {
    let kind = KnownKind::of(path);
    let masked = match kind.format() {
        Format::Json => flow::mask(text, &kind),
        Format::Toml => toml::mask(text, &kind),
        Format::Yaml => yaml::mask(text, &kind),
        Format::Unit => unit::mask(text, &kind),
        Format::Values => text::mask_settings(text),
        Format::Prose => text::mask(text, Trust::Words),
    };
    vendors::mask(&masked)
}

/// Masks a document of gpusetup's: its texts as free text, and the values of secret keys entirely.
pub fn mask_document(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(mask(text)),
        Value::Array(list) => list.iter().map(mask_document).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    Value::String(text) if words::is_secret_key(key) => {
                        Value::String(mark("string", text))
                    }
                    _ => mask_document(value),
                };
                (mask(key), value)
            })
            .collect(),
        other => other.clone(),
    }
}
