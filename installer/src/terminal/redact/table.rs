//! Reads masking.toml: which keys of a file are shown, and which words of free text.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaskingTable {
    pub kind: Vec<KindEntry>,
    text: TextLists,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KindEntry {
    #[serde(rename = "name")]
    _name: String,
    pub paths: Vec<String>,
    pub format: Format,
    #[serde(default)]
    pub keep: Vec<String>,
    #[serde(default)]
    pub free: Vec<String>,
}

/// The lists for free text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TextLists {
    pub secret_keys: Vec<String>,
    pub secret_words: Vec<String>,
    pub secret_pairs: Vec<String>,
    pub prose_keys: Vec<String>,
    pub id_keys: Vec<String>,
    pub commands: Vec<String>,
    pub roots: Vec<String>,
    pub forms: Vec<String>,
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    Json,
    Toml,
    Yaml,
    Unit,
    /// Settings of a shell or the kernel: every word is judged as a value, `#` begins a comment.
    Values,
    Prose,
}

pub(super) static TABLE: LazyLock<MaskingTable> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../masking.toml")).expect("ours; every test reads it")
});

/// bundle.toml: the paths and units that a bundle looks at.
static LOOKED_AT: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../bundle.toml")).expect("ours; a test reads it whole")
});

/// The names of all keys that are kept, and of the files and units that a bundle looks at.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let keys = TABLE.kind.iter().flat_map(|e| e.keep.iter().chain(&e.free));
    let paths = LOOKED_AT.values().flatten();
    let parts = paths.flat_map(|p| p.split('/'));
    let parts = parts.filter(|p| !p.is_empty() && !p.contains('*'));
    // A unit appears in logs without its extension.
    let stems = parts.clone().filter_map(|p| Some(p.rsplit_once('.')?.0));
    let stems = stems.filter(|s| !s.is_empty());
    keys.flat_map(|p| p.split('/')).chain(parts).chain(stems)
}

pub(super) fn lists() -> &'static TextLists {
    &TABLE.text
}
