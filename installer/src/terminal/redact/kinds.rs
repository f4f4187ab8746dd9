//! Decides which values of a file may be shown, by the kind of file and by the value's key.

use std::path::Path;

use super::argument::Before;
use super::mark::mark;
use super::table::{Format, KindEntry, TABLE};
use super::text;
use super::trust::Trust;
use super::words;

/// The kind of a file according to its path, if it is a known one.
pub(super) struct KnownKind(Option<&'static KindEntry>);

impl KnownKind {
    pub(super) fn of(path: &Path) -> Self {
        let path = format!("/{}", path.to_string_lossy().trim_start_matches('/'));
        let fits = |e: &&KindEntry| {
            e.paths
                .iter()
                .any(|p| is_like(p.as_bytes(), path.as_bytes()))
        };
        Self(TABLE.kind.iter().rev().find(fits))
    }

    /// The format of the file. In an unknown file every word is judged as a value.
    pub(super) fn format(&self) -> Format {
        self.0.map_or(Format::Values, |e| e.format)
    }

    /// A value of the file as it may be shown. `text` is its content without quotes.
    pub(super) fn value(&self, path: &[String], text: &str, what: &str) -> String {
        let is_in = |list: &[String]| list.iter().any(|p| is_path_like(p, path));
        let (keep, free) = self.0.map_or((&[][..], &[][..]), |e| (&e.keep, &e.free));
        // No pattern of the table is in both lists, so the order does not matter.
        if is_in(free) {
            return text::mask(text, Trust::Values);
        }
        if words::is_switch(text) {
            return text.to_owned();
        }
        // A key that the table names is known to be harmless; one that `*` matches may be anything.
        let is_named = |p: &&String| !p.ends_with('*');
        if keep.iter().filter(is_named).any(|p| is_path_like(p, path)) {
            return text::mask_kept(text);
        }
        if is_in(keep) && !path.last().is_some_and(|key| words::is_secret_key(key)) {
            return text::mask(text, Trust::Values);
        }
        mark(what, text)
    }

    /// A value in a list of arguments, where a flag may come before it.
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

    /// A key of the file as it may be shown, because a key can be a name that a user chose.
    pub(super) fn key(text: &str) -> String {
        text::mask_key(text)
    }
}

/// Whether a text matches a pattern in which `*` stands for anything, including `/`.
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
