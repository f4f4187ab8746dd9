//! What others may read of a host's files and logs. Everything else is masked before it is shown or written.
//!
//! Of a file whose format is known, the values of listed keys are kept, and no comment. In free
//! text a word is kept where it has a harmless form. What vendors' tokens look like comes last.
//! Rather too much than too little: a masked word costs a question, a password costs more.

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

use kinds::Kind;
use mark::mark;
use table::Format;
use trust::Trust;

/// A log, a message, a command: sentences stay, what is no word goes.
pub fn mask(text: &str) -> String {
    vendors::mask(&text::mask(text, Trust::Words))
}

/// A file, by what its path says of its format.
pub fn mask_file(path: &Path, text: &str) -> String {
    let kind = Kind::of(path);
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

/// A document of gpusetup's own: its texts, and whole the values of keys that say so.
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
