//! Masks a bundle. Only a [`Masked`] value may leave the host, and masking every text is the only
//! way to make one.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Bundle, Done, TextFile};
use crate::terminal::redact;

/// A value without secrets.
#[derive(Clone, Debug)]
pub struct Masked<T>(T);

impl Masked<Bundle> {
    /// Masks every text: files according to their format, logs and the rest as free text.
    pub fn of(bundle: &Bundle) -> Self {
        let text = |t: &TextFile| TextFile {
            name: redact::mask(&t.name),
            content: redact::mask_file(Path::new(&t.name), &t.content),
            cut: t.cut,
        };
        // A log can have the name of a unit's file, but its content is always free text.
        let log = |t: &TextFile| TextFile {
            content: redact::mask(&t.content),
            ..text(&TextFile {
                content: String::new(),
                ..t.clone()
            })
        };
        let file = |path: &str, content: &Option<String>| {
            content
                .as_ref()
                .map(|c| redact::mask_file(Path::new(path), c))
        };
        let change = |c: &Done| Done {
            path: redact::mask(&c.path),
            why: redact::mask(&c.why),
            before: file(&c.path, &c.before),
            after: file(&c.path, &c.after),
            ..c.clone()
        };
        Self(Bundle {
            schema: bundle.schema,
            version: bundle.version.clone(),
            made: bundle.made.clone(),
            host: redact::mask_document(&bundle.host),
            // It holds only names and numbers from the kernel and NVML.
            topology: bundle.topology.clone(),
            changes: bundle.changes.iter().map(change).collect(),
            doctor: redact::mask_document(&bundle.doctor),
            files: bundle.files.iter().map(text).collect(),
            logs: bundle.logs.iter().map(log).collect(),
            unread: bundle.unread.iter().map(|u| redact::mask(u)).collect(),
        })
    }
}

#[cfg(test)]
impl<T> Masked<T> {
    /// An unmasked value, to prove that the tests would notice a secret.
    pub fn not(value: T) -> Self {
        Self(value)
    }
}

impl<T> std::ops::Deref for Masked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Bundle {
    /// How many values were masked in each part; parts with none are left out.
    pub fn masked(&self) -> BTreeMap<String, usize> {
        let texts = self.files.iter().chain(&self.logs);
        let texts = texts.map(|t| (t.name.clone(), redact::count(&t.content)));
        let changes = self.changes.iter().map(|c| {
            let sides = [&c.before, &c.after].into_iter().flatten();
            sides.map(|s| redact::count(s)).sum::<usize>()
        });
        let documents = [
            ("host.json", redact::count(&self.host.to_string())),
            ("changes.json", changes.sum()),
            ("doctor.json", redact::count(&self.doctor.to_string())),
            ("unread.json", redact::count(&self.unread.join("\n"))),
        ];
        let mut all = BTreeMap::new();
        let documents = documents.map(|(name, count)| (name.to_owned(), count));
        for (name, count) in texts.chain(documents).filter(|(_, count)| *count > 0) {
            *all.entry(name).or_default() += count;
        }
        all
    }
}
