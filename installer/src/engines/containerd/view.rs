//! The effective CRI settings of containerd's files.

use toml_edit::{Item, TableLike, Value};

use super::files::{File, Files};
use super::schema::{self, Cri, Schema};

/// The CRI settings of all files that count.
pub struct View<'a> {
    /// In order; later files override earlier ones.
    files: Vec<&'a File>,
    schema: &'a Schema,
}

/// A setting, and where it is.
pub struct Found<'a> {
    /// The file that contains it.
    pub file: &'a File,
    /// CRI's table in that file.
    pub cri: Cri,
    /// The setting.
    pub item: &'a Item,
}

impl<'a> View<'a> {
    /// From 2.0 on, the tables of all files are merged. Before that, the last file with any CRI
    /// setting replaces the CRI settings of all others (containerd #5837, `mergeConfig`).
    pub fn new(files: &'a Files, schema: &'a Schema, merges: bool) -> Self {
        let files = if merges {
            files.read.iter().collect()
        } else {
            let last = files.read.iter().rfind(|f| schema::has_cri(f, schema));
            last.or(files.root()).into_iter().collect()
        };
        Self { files, schema }
    }

    /// The file that overrides all others.
    pub fn last_file(&self) -> Option<&'a File> {
        self.files.last().copied()
    }

    /// The effective setting at a key path within CRI's table.
    pub fn get(&self, keys: &[&str]) -> Option<Found<'a>> {
        self.items(keys).pop()
    }

    /// The effective value at a key path, if it is a string.
    pub fn text(&self, keys: &[&str]) -> Option<&'a str> {
        self.get(keys).and_then(|f| f.item.as_str())
    }

    /// The merged values of a table, by key, without nested tables.
    pub fn values(&self, keys: &[&str]) -> Vec<(&'a str, &'a Value)> {
        let mut values: Vec<(&str, &Value)> = Vec::new();
        for setting in self.items(keys) {
            let table = setting.item.as_table_like();
            for (key, item) in table.into_iter().flat_map(TableLike::iter) {
                let Some(value) = item.as_value() else {
                    continue;
                };
                match values.iter_mut().find(|(k, _)| *k == key) {
                    Some(old) => old.1 = value,
                    None => values.push((key, value)),
                }
            }
        }
        values
    }

    /// The names of all runtimes.
    pub fn runtimes(&self) -> Vec<&'a str> {
        let mut names = Vec::new();
        for setting in self.items(&["containerd", "runtimes"]) {
            let table = setting.item.as_table_like();
            for (name, _) in table.into_iter().flat_map(TableLike::iter) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    fn items(&self, keys: &[&str]) -> Vec<Found<'a>> {
        let mut all = Vec::new();
        for file in &self.files {
            for cri in self.schema.places(file) {
                if let Some(item) = file.get(&[cri, keys].concat()) {
                    all.push(Found { file, cri, item });
                }
            }
        }
        all
    }
}
