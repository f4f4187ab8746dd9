//! The user-space files of the loaded driver, from the table `driver-files.toml`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::discover::is_version;
use crate::inventory::{Capabilities, Capability, DriverFile, FileKind, Link};
use crate::root::Root;
use crate::{elf, ldcache};

const TABLE: &str = include_str!("../driver-files.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    search: Search,
    library: Vec<Row>,
    file: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    libraries: Vec<String>,
    below: Vec<String>,
    binaries: Vec<String>,
}

/// One row: names of files that go the same way.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// For libraries the part before `.so`; else a path, a program's name, or a
    /// path whose last part has one `*`. `{version}` stands for the driver's.
    names: Vec<String>,
    #[serde(rename = "for")]
    capabilities: Vec<Capability>,
    #[serde(default)]
    kind: Option<FileKind>,
    /// Links beside the file, `name -> target`.
    #[serde(default)]
    links: Vec<String>,
    /// Libraries with a version of their own instead of the driver's.
    #[serde(default)]
    own_version: bool,
    /// Where the fact comes from; for readers of the table.
    #[allow(dead_code, reason = "a column for people; the table's test reads it")]
    source: String,
}

fn table() -> Table {
    toml::from_str(TABLE).expect("driver-files.toml is read whole by this module's test")
}

/// Every file of driver `version` below `tree`, sorted by path. `driver_root` is where
/// the host has the tree.
pub(crate) fn find(tree: &Root, driver_root: &Path, version: &str) -> Vec<DriverFile> {
    let table = table();
    let mut finder = Finder {
        tree,
        driver_root,
        version,
        found: BTreeMap::new(),
    };
    for dir in library_dirs(tree, &table.search) {
        finder.libraries(&dir, &table.library);
    }
    for row in &table.file {
        finder.files(row, &table.search.binaries);
    }
    finder.found.into_values().collect()
}

/// Newest version suffix of `libcuda.so.*`.
pub(crate) fn installed_version(tree: &Root) -> Option<String> {
    let mut versions: Vec<String> = library_dirs(tree, &table().search)
        .iter()
        .flat_map(|dir| tree.read_dir(dir).unwrap_or_default())
        .filter_map(|name| Some(name.to_str()?.strip_prefix("libcuda.so.")?.to_owned()))
        .filter(|v| is_version(v))
        .collect();
    versions.sort_by_key(|v| {
        v.split('.')
            .map(|n| n.parse().unwrap_or(0))
            .collect::<Vec<u32>>()
    });
    versions.pop()
}

/// Directories with libraries, links resolved, each once: those the loader cache
/// names for driver libraries, then the usual ones.
fn library_dirs(tree: &Root, search: &Search) -> Vec<PathBuf> {
    let cached = tree
        .read("/etc/ld.so.cache")
        .ok()
        .and_then(|bytes| ldcache::parse(&bytes).ok())
        .unwrap_or_default();
    let cached = cached
        .iter()
        .filter(|e| e.soname.contains("nvidia") || e.soname.contains("cuda"))
        .filter_map(|e| e.path.parent().map(Path::to_path_buf));
    let usual = search.libraries.iter().flat_map(|dir| {
        let below = search.below.iter().map(move |b| Path::new(dir).join(b));
        std::iter::once(PathBuf::from(dir)).chain(below)
    });
    let mut seen = HashSet::new();
    cached
        .chain(usual)
        .filter_map(|dir| tree.canonicalize(dir).ok())
        .filter(|dir| seen.insert(dir.clone()))
        .collect()
}

struct Finder<'a> {
    tree: &'a Root,
    driver_root: &'a Path,
    version: &'a str,
    found: BTreeMap<PathBuf, DriverFile>,
}

impl Finder<'_> {
    fn libraries(&mut self, dir: &Path, rows: &[Row]) {
        let names = self.tree.read_dir(dir).unwrap_or_default();
        let present: BTreeSet<&str> = names.iter().filter_map(|n| n.to_str()).collect();
        for name in &present {
            let Some((stem, suffix)) = name.split_once(".so") else {
                continue;
            };
            let Some(row) = rows.iter().find(|r| r.names.iter().any(|n| fits(n, stem))) else {
                continue;
            };
            let suffix = suffix.strip_prefix('.').unwrap_or(suffix);
            // libfoo.so.1 of a library with its own version leads to the file with the full one.
            let wanted = if row.own_version {
                suffix.bytes().next().is_some_and(|b| b.is_ascii_digit())
            } else {
                suffix == self.version
            };
            if wanted {
                self.library(dir, name, row, &present);
            }
        }
    }

    fn library(&mut self, dir: &Path, name: &str, row: &Row, present: &BTreeSet<&str>) {
        let Ok(path) = self.tree.canonicalize(dir.join(name)) else {
            return;
        };
        if self.found.contains_key(&path) {
            return;
        }
        let object = self.tree.open_file(&path).ok().and_then(elf::read);
        let Some(object) = object else { return };
        let mut capabilities = Capabilities::of(&row.capabilities);
        let kind = match row.kind {
            Some(kind) => kind,
            None if object.is_32 => FileKind::Library32,
            None => FileKind::Library,
        };
        if kind == FileKind::Library32 {
            capabilities = capabilities.with(Capability::Compat32);
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        let mut links = links(parent, row, self.version);
        // A development link is given where the host has it (libcuda.so, libnvidia-ml.so).
        if let Some((stem, _)) = name.split_once(".so") {
            let plain = format!("{stem}.so");
            let target = object.soname.as_deref().unwrap_or(name);
            if present.contains(plain.as_str()) && plain != target {
                links.push(Link {
                    path: parent.join(plain),
                    target: target.into(),
                });
            }
        }
        links.sort_by(|a, b| a.path.cmp(&b.path));
        links.dedup_by(|a, b| a.path == b.path);
        self.add(path, kind, capabilities, object.soname, links);
    }

    fn files(&mut self, row: &Row, binaries: &[String]) {
        let kind = row.kind.unwrap_or(FileKind::Config);
        for name in &row.names {
            let name = name.replace("{version}", self.version);
            if kind == FileKind::Binary {
                let found = binaries
                    .iter()
                    .find_map(|dir| self.tree.canonicalize(Path::new(dir).join(&name)).ok());
                if let Some(path) = found {
                    self.add(
                        path,
                        kind,
                        Capabilities::of(&row.capabilities),
                        None,
                        Vec::new(),
                    );
                }
                continue;
            }
            for path in self.matching(Path::new(&name)) {
                let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
                let links = links(&parent, row, self.version);
                self.add(path, kind, Capabilities::of(&row.capabilities), None, links);
            }
        }
    }

    /// Paths that fit a pattern whose last part may have one `*`.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let (Some(dir), Some(last)) = (
            pattern.parent(),
            pattern.file_name().and_then(OsStr::to_str),
        ) else {
            return Vec::new();
        };
        if !last.contains('*') {
            return self
                .tree
                .exists(pattern)
                .then(|| pattern.to_owned())
                .into_iter()
                .collect();
        }
        let names = self.tree.read_dir(dir).unwrap_or_default();
        names
            .iter()
            .filter(|n| n.to_str().is_some_and(|n| fits(last, n)))
            .map(|n| dir.join(n))
            .collect()
    }

    fn add(
        &mut self,
        path: PathBuf,
        kind: FileKind,
        capabilities: Capabilities,
        soname: Option<String>,
        links: Vec<Link>,
    ) {
        // A data file is known by its own name in the container, not by where its link leads.
        let Ok(real) = self.tree.canonicalize(&path) else {
            return;
        };
        let host_path = self
            .driver_root
            .join(real.strip_prefix("/").unwrap_or(&real));
        let file = DriverFile {
            kind,
            path: path.clone(),
            host_path,
            capabilities,
            soname,
            links,
        };
        self.found.entry(path).or_insert(file);
    }
}

fn links(parent: &Path, row: &Row, version: &str) -> Vec<Link> {
    row.links
        .iter()
        .filter_map(|l| l.split_once(" -> "))
        .map(|(path, target)| Link {
            path: parent.join(path),
            target: target.replace("{version}", version).into(),
        })
        .collect()
}

/// Whether `name` fits a pattern with at most one `*`.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_sound() {
        let table = table();
        let mut names = HashSet::new();
        for row in table.library.iter().chain(&table.file) {
            assert!(!row.names.is_empty() && !row.capabilities.is_empty());
            assert!(!row.source.is_empty(), "{:?} has no source", row.names);
            for name in &row.names {
                assert!(names.insert(name), "{name} twice");
                assert!(name.matches('*').count() <= 1, "{name}");
            }
            for link in &row.links {
                assert!(link.contains(" -> "), "{link}");
            }
        }
        for row in &table.file {
            let binary = row.kind == Some(FileKind::Binary);
            assert!(
                row.names.iter().all(|n| n.starts_with('/') != binary),
                "{:?}",
                row.names
            );
        }
    }
}
