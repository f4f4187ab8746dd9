//! Reads CRI-O's configuration as CRI-O merges it: the main file, then every file of the drop-in
//! directory in lexical order, whatever its name (CRI-O pkg/config, `UpdateFromPath`, 1.36), then
//! its flags and variables.
//!
//! A later file wins key by key, except for the tables of runtimes: a later table of the same
//! runtime replaces the whole earlier one (BurntSushi/toml makes a new value for each key of a Go
//! map; so in 1.24, 1.30 and 1.36).

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, TableLike};

use super::given::{DEFAULT, GivenSetting};

use crate::edit::toml;
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::host::Host;

/// The files in order; the last one takes precedence.
#[derive(Clone, Debug, Default)]
pub struct MergedConfig {
    files: Vec<ConfigFile>,
}

#[derive(Clone, Debug)]
struct ConfigFile {
    path: PathBuf,
    text: String,
    document: DocumentMut,
    /// The flag or variable that says it, if it is none of CRI-O's files but one that its unit consists of.
    by: Option<String>,
}

impl MergedConfig {
    /// Reads all files except `ours`, and what is `given` by flags.
    pub fn read(
        host: &Host,
        main: &Path,
        dir: &Path,
        ours: &Path,
        given: &[GivenSetting],
    ) -> Result<Self, Error> {
        let mut paths = vec![main.to_owned()];
        walk(host, dir, &mut paths);
        paths.retain(|p| p != ours);
        let mut files = Vec::new();
        for path in paths {
            let Some(text) = host.text(&path)? else {
                continue;
            };
            let document = toml::parse(&text)
                .map_err(ConfigFault::text(ConfigReader::Crio))
                .map_err(|fault| Error::config(&path, fault))?;
            files.push(ConfigFile {
                path,
                text,
                document,
                by: None,
            });
        }
        files.extend(given.iter().map(|given| ConfigFile {
            path: given.from.clone(),
            text: String::new(),
            document: given.document.clone(),
            by: Some(given.by.clone()),
        }));
        Ok(Self { files })
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let files = self.files.iter().filter(|file| file.by.is_none());
        files.map(|file| &file.path)
    }

    /// The text of one of the files.
    pub fn text_of(&self, path: &Path) -> Option<&str> {
        let mut files = self.files.iter().filter(|file| file.by.is_none());
        let file = files.find(|file| file.path == path)?;
        Some(&file.text)
    }

    /// A value and the file it comes from.
    pub fn get(&self, keys: &[&str]) -> Option<(&Path, &Item)> {
        let mut files = self.files.iter().rev();
        files.find_map(|file| Some((file.path.as_path(), toml::get(&file.document, keys)?)))
    }

    /// A string value that is not empty.
    pub fn text(&self, keys: &[&str]) -> Option<&str> {
        self.get(keys)?.1.as_str().filter(|t| !t.is_empty())
    }

    /// A list of strings.
    pub fn list(&self, keys: &[&str]) -> Option<(&Path, Vec<&str>)> {
        let (path, item) = self.get(keys)?;
        let list = item.as_array()?.iter();
        Some((path, list.filter_map(toml_edit::Value::as_str).collect()))
    }

    /// The table of a runtime.
    pub fn runtime(&self, name: &str) -> Option<(&Path, &dyn TableLike)> {
        let (path, item) = self.get(&["crio", "runtime", "runtimes", name])?;
        item.as_table_like().map(|table| (path, table))
    }

    /// All runtimes that name a program, each with its file and that program. A runtime without one
    /// is left out, since the engine finds its program.
    pub fn programs(&self) -> Vec<(String, &Path, String)> {
        let programs = self.runtimes().into_iter().filter_map(|name| {
            let (path, table) = self.runtime(name)?;
            let program = table.get("runtime_path")?.as_str()?;
            Some((name.to_owned(), path, program.to_owned()))
        });
        programs.collect()
    }

    /// The names of all runtimes that have a table.
    pub fn runtimes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for file in &self.files {
            let table = toml::get(&file.document, &["crio", "runtime", "runtimes"]);
            let table = table.and_then(Item::as_table_like);
            for (name, _) in table.into_iter().flat_map(TableLike::iter) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// All that the files and flags say of the default runtime; what counts comes first.
    pub fn defaults(&self) -> impl Iterator<Item = &str> {
        let said = self.files.iter().rev();
        said.filter_map(|file| toml::get(&file.document, DEFAULT)?.as_str())
    }

    /// Fails if what comes after `ours` sets one of these keys.
    pub fn ensure_seen(&self, ours: &Path, keys: &[&[&str]]) -> Result<(), Error> {
        let is_after = |file: &&ConfigFile| {
            let is_in_dir = ours.parent().is_some_and(|dir| file.path.starts_with(dir));
            file.by.is_some() || is_in_dir && file.path.as_path() > ours
        };
        let mut after = self.files.iter().rev().filter(is_after);
        let has = |file: &&ConfigFile| keys.iter().any(|k| toml::get(&file.document, k).is_some());
        let Some(file) = after.find(has) else {
            return Ok(());
        };
        let ours = ours.to_owned();
        let fault = match &file.by {
            Some(flag) => ConfigFault::FlagFirst {
                flag: flag.clone(),
                ours,
            },
            None => ConfigFault::ReadLater { ours },
        };
        Err(Error::config(&file.path, fault))
    }

    /// The flag or variable that defines this runtime, if none of the files does.
    pub fn flag_of_runtime(&self, name: &str) -> Option<(&Path, &str)> {
        let keys = ["crio", "runtime", "runtimes", name];
        let mut files = self.files.iter().rev();
        let file = files.find(|file| toml::get(&file.document, &keys).is_some())?;
        Some((&file.path, file.by.as_deref()?))
    }
}

/// Lists files in the order of Go's `filepath.Walk`: a directory's files come at the place of its
/// name, and links to directories are not entered.
fn walk(host: &Host, dir: &Path, files: &mut Vec<PathBuf>) {
    for name in host.root().read_dir(dir).unwrap_or_default() {
        let path = dir.join(name);
        match host.root().symlink_metadata(&path) {
            Ok(m) if m.is_dir() => walk(host, &path, files),
            _ => files.push(path),
        }
    }
}
