//! Which keys of which file may be read: the table, and where in a file a value stands.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;

use super::argument::Before;
use super::mark::mark;
use super::text::{self, Trust};
use super::words;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: Vec<Entry>,
    text: Lists,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "name")]
    _name: String,
    paths: Vec<String>,
    format: Format,
    #[serde(default)]
    keep: Vec<String>,
    #[serde(default)]
    free: Vec<String>,
}

/// What is said of free text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Lists {
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
    /// Words of a shell or the kernel, each judged as a value; comments from `#` on.
    Values,
    Prose,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../masking.toml")).expect("ours; every test reads it")
});

/// What a bundle looks at: lists of paths and of units.
static LOOKED_AT: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../bundle.toml")).expect("ours; a test reads it whole")
});

/// The names of all keys that are kept, and of the files and units that a bundle looks at.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let keys = TABLE.kind.iter().flat_map(|e| e.keep.iter().chain(&e.free));
    let paths = LOOKED_AT.values().flatten();
    let parts = paths.flat_map(|p| p.split('/'));
    let parts = parts.filter(|p| !p.is_empty() && !p.contains('*'));
    // A unit's log has its name without the end.
    let stems = parts.clone().filter_map(|p| Some(p.rsplit_once('.')?.0));
    let stems = stems.filter(|s| !s.is_empty());
    keys.flat_map(|p| p.split('/')).chain(parts).chain(stems)
}

pub(super) fn lists() -> &'static Lists {
    &TABLE.text
}

/// What kind of file a path is of.
pub(super) struct Kind(Option<&'static Entry>);

impl Kind {
    pub(super) fn of(path: &Path) -> Self {
        let path = format!("/{}", path.to_string_lossy().trim_start_matches('/'));
        let fits = |e: &&Entry| {
            e.paths
                .iter()
                .any(|p| is_like(p.as_bytes(), path.as_bytes()))
        };
        Self(TABLE.kind.iter().rev().find(fits))
    }

    /// Of a file that nothing is known of, every word is judged as a value.
    pub(super) fn format(&self) -> Format {
        self.0.map_or(Format::Values, |e| e.format)
    }

    /// A value of the file, as it may be shown. `text` is what it means, without quotes.
    pub(super) fn value(&self, path: &[String], text: &str, what: &str) -> String {
        let is_in = |list: &[String]| list.iter().any(|p| is_path_like(p, path));
        let (keep, free) = self.0.map_or((&[][..], &[][..]), |e| (&e.keep, &e.free));
        // The closer pattern would win; none of ours is in both.
        if is_in(free) {
            return text::mask(text, Trust::Values);
        }
        if words::is_switch(text) {
            return text.to_owned();
        }
        // A key that is named is meant; one that `*` stands for may be anything.
        let is_named = |p: &&String| !p.ends_with('*');
        if keep.iter().filter(is_named).any(|p| is_path_like(p, path)) {
            return text::mask_kept(text);
        }
        if is_in(keep) && !path.last().is_some_and(|key| words::is_secret_key(key)) {
            return text::mask(text, Trust::Values);
        }
        mark(what, text)
    }

    /// The same in a list of arguments, where a flag may stand before it.
    pub(super) fn argument(
        &self,
        before: &mut Before,
        path: &[String],
        text: &str,
        what: &str,
    ) -> String {
        let shown = self.value(path, text, what);
        match before.step(text) {
            Before::Secret if !words::is_switch(text) && !text.starts_with('/') => mark(what, text),
            Before::Flag if shown == text && !text.contains('/') => text::mask(text, Trust::Values),
            _ => shown,
        }
    }

    /// A key of the file: a name of somebody's, too.
    pub(super) fn key(text: &str) -> String {
        text::mask_key(text)
    }
}

/// `*` is anything, `/` too.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|n| is_like(rest, &text[n..])),
        Some((c, rest)) => text.first() == Some(c) && is_like(rest, &text[1..]),
    }
}

fn is_path_like(pattern: &str, path: &[String]) -> bool {
    fn fits(pattern: &[&str], path: &[String]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((&"**", rest)) => (0..=path.len()).any(|n| fits(rest, &path[n..])),
            Some((part, rest)) => path.split_first().is_some_and(|(first, more)| {
                is_like(part.as_bytes(), first.as_bytes()) && fits(rest, more)
            }),
        }
    }
    let parts: Vec<&str> = pattern.split('/').collect();
    fits(&parts, path)
}
