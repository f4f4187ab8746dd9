//! Reads containerd's configuration files in its order: the root file, then what that file and its
//! imports import (`LoadConfig` and `resolveImports` in containerd, the same in 1.6 to 2.3).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use toml_edit::{DocumentMut, Item, Value};

use crate::edit::toml;
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::host::Host;
use crate::model::change::Change;

/// The first line of a file that is wholly ours.
pub const HEADER: &str = "# Written by gpusetup.\n";

/// A file as containerd reads it.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub document: DocumentMut,
}

impl File {
    /// Its schema version; `None` if it names none, which counts as the first.
    pub fn version(&self) -> Option<&Item> {
        self.document.get("version")
    }

    /// The item at a key path.
    pub fn get(&self, keys: &[&str]) -> Option<&Item> {
        toml::get(&self.document, keys)
    }

    /// The absolute paths that it imports.
    pub fn imports(&self) -> Vec<PathBuf> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let list = self.document.get("imports").and_then(Item::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|import| clean(&dir.join(import)))
            .collect()
    }
}

/// The files that one containerd reads; each is read and parsed once.
#[derive(Clone, Debug)]
pub struct Files {
    /// The path of the root file, which need not exist.
    pub root: PathBuf,
    /// The files that exist, in order; later files override earlier ones.
    pub read: Vec<File>,
    /// The paths that the root file imports.
    pub imports: Vec<PathBuf>,
    /// The texts of all files that were looked for, including ours; `None` for a file that does not
    /// exist.
    texts: BTreeMap<PathBuf, Option<String>>,
}

impl Files {
    /// Reads the files as they are now, without our drop-in. Some Kubernetes distributions import other files than
    /// those named in the root file; `instead` lists them.
    pub fn read(host: &Host, root: &Path, instead: Option<&Path>) -> Result<Self, Error> {
        Self::load(host, root, instead, None)
    }

    /// The files as they would be after these changes, including ours. Files that do not change are
    /// not read again.
    pub fn after(
        &self,
        host: &Host,
        instead: Option<&Path>,
        changes: &[Change],
    ) -> Result<Self, Error> {
        Self::load(host, &self.root, instead, Some((self, changes)))
    }

    /// The text of a file as it was read; `None` if it does not exist or was not read.
    pub fn text(&self, path: &Path) -> Option<&str> {
        self.texts.get(path)?.as_deref()
    }

    /// The paths of all files that were looked for.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.texts.keys()
    }

    /// Reads the text of a file that the daemon itself does not read.
    pub fn add_text(&mut self, host: &Host, path: PathBuf) -> Result<(), Error> {
        let text = host.text(&path)?;
        self.texts.insert(path, text);
        Ok(())
    }

    /// The text of any file. A file that was not read before is read now.
    pub fn text_or_read(&self, host: &Host, path: &Path) -> Result<Option<String>, Error> {
        match self.texts.get(path) {
            Some(text) => Ok(text.clone()),
            None => host.text(path),
        }
    }

    fn load(
        host: &Host,
        root: &Path,
        instead: Option<&Path>,
        after: Option<(&Self, &[Change])>,
    ) -> Result<Self, Error> {
        let changes = after.map(|(_, changes)| changes);
        let mut files = Self {
            root: root.to_owned(),
            read: Vec::new(),
            imports: instead.into_iter().map(Path::to_owned).collect(),
            texts: BTreeMap::new(),
        };
        let mut pending = vec![root.to_owned()];
        let mut visited: Vec<PathBuf> = Vec::new();
        while !pending.is_empty() {
            let path = pending.remove(0);
            if visited.contains(&path) {
                continue;
            }
            visited.push(path.clone());
            let changed = changes.and_then(|c| c.iter().find(|c| c.path == path));
            let text = match (changed, after) {
                (Some(change), _) => change.after.clone(),
                (None, Some((before, _))) => before.text_or_read(host, &path)?,
                (None, None) => host.text(&path)?,
            };
            files.texts.insert(path.clone(), text.clone());
            let is_root = path == root;
            let Some(text) = text.filter(|t| changes.is_some() || !t.starts_with(HEADER)) else {
                if is_root {
                    pending.extend(matching(host, &files.imports, changes));
                }
                continue;
            };
            let known = after.filter(|_| changed.is_none());
            let known = known.and_then(|(before, _)| before.read.iter().find(|f| f.path == path));
            let document = match known {
                Some(file) => file.document.clone(),
                None => toml::parse(&text)
                    .map_err(ConfigFault::text(ConfigReader::Plain))
                    .map_err(|fault| Error::config(&path, fault))?,
            };
            let file = File { path, document };
            if is_root && instead.is_none() {
                files.imports = file.imports();
            }
            let imports = if is_root {
                files.imports.clone()
            } else {
                file.imports()
            };
            pending.extend(matching(host, &imports, changes));
            files.read.push(file);
        }
        Ok(files)
    }

    /// The root file, if it exists.
    pub fn root(&self) -> Option<&File> {
        self.read.first().filter(|f| f.path == self.root)
    }

    /// The path at which a file of ours would be imported; `None` if nothing imports one.
    pub fn drop_in(&self, name: &str) -> Option<PathBuf> {
        let places = || self.imports.iter().filter_map(|p| fitting(p, name));
        // Prefer conf.d: users look there.
        places()
            .find(|p| p.parent().is_some_and(|d| d.ends_with("conf.d")))
            .or_else(|| places().next())
    }
}

/// A path that matches the pattern, with our file name if the pattern allows it. containerd treats
/// a path as a pattern only if it contains a `*`.
fn fitting(pattern: &Path, name: &str) -> Option<PathBuf> {
    let dir = pattern.parent()?;
    let last = pattern.file_name()?.to_str()?;
    if dir.to_str()?.contains(['*', '?', '[', '\\']) || last.contains(['?', '[', '\\']) {
        return None;
    }
    if matches(last, name) {
        return Some(dir.join(name));
    }
    if !last.contains('*') {
        return None;
    }
    let stem = name.trim_end_matches(".toml");
    Some(dir.join(last.replacen('*', stem, 1).replace('*', "")))
}

/// The paths that match the patterns, in the daemon's order.
fn matching(host: &Host, patterns: &[PathBuf], changes: Option<&[Change]>) -> Vec<PathBuf> {
    let mut matched = Vec::new();
    for pattern in patterns {
        if !pattern.to_string_lossy().contains('*') {
            matched.push(pattern.clone());
            continue;
        }
        let mut paths = vec![PathBuf::from("/")];
        for part in pattern.components().skip(1) {
            let part = part.as_os_str().to_string_lossy().into_owned();
            paths = if part.contains(['*', '?']) {
                let within = |dir: PathBuf| {
                    let mut names: Vec<PathBuf> = host
                        .root()
                        .read_dir(&dir)
                        .unwrap_or_default()
                        .into_iter()
                        .map(|name| dir.join(name))
                        .collect();
                    let new = changes.unwrap_or_default().iter().map(|c| c.path.clone());
                    names.extend(new.filter(|p| p.parent() == Some(&dir)));
                    names.sort();
                    names.dedup();
                    names
                };
                let is_match = |path: &PathBuf| {
                    let name = path.file_name().unwrap_or_default();
                    matches(&part, &name.to_string_lossy())
                };
                paths
                    .into_iter()
                    .flat_map(within)
                    .filter(is_match)
                    .collect()
            } else {
                paths.into_iter().map(|p| p.join(&part)).collect()
            };
        }
        matched.extend(paths);
    }
    matched
}

/// Whether a name matches a pattern of `*` and `?` (Go's path/filepath.Match; its bracket classes
/// are taken literally).
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.chars();
    match parts.next() {
        None => name.is_empty(),
        Some('*') => (0..=name.len())
            .filter(|n| name.is_char_boundary(*n))
            .any(|n| matches(parts.as_str(), &name[n..])),
        Some(wanted) => {
            let mut rest = name.chars();
            let is_this = rest.next().is_some_and(|c| c == wanted || wanted == '?');
            is_this && matches(parts.as_str(), rest.as_str())
        }
    }
}

/// Removes `.` and `..` from a path, by its text alone, as the daemon does.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_goes_where_a_pattern_covers_it() {
        let fit = |pattern: &str| {
            fitting(Path::new(pattern), "50-gpusetup.toml").map(|p| p.display().to_string())
        };
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(
            fit("/etc/containerd/conf.d/*.toml"),
            some("/etc/containerd/conf.d/50-gpusetup.toml")
        );
        assert_eq!(fit("/etc/x/*"), some("/etc/x/50-gpusetup.toml"));
        assert_eq!(
            fit("/etc/x/runtime_*.toml"),
            some("/etc/x/runtime_50-gpusetup.toml")
        );
        assert_eq!(
            fit("/etc/x/50-gpusetup.toml"),
            some("/etc/x/50-gpusetup.toml")
        );
        for bad in ["/etc/x/other.toml", "/etc/*/a.toml", "/etc/x/[ab]*.toml"] {
            assert_eq!(fit(bad), None, "{bad}");
        }
    }

    #[test]
    fn patterns_match_as_the_daemon_matches_them() {
        for (pattern, name, is) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.tom", false),
            ("a*c*", "abcd", true),
            ("?.toml", "ä.toml", true),
            ("?.toml", ".toml", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
        assert_eq!(
            clean(Path::new("/etc/c/../d/./*.toml")),
            Path::new("/etc/d/*.toml")
        );
    }
}
