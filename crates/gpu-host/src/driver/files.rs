//! Finds the user-space files of the loaded driver, as the table `driver-files.toml` lists them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::user_space::{self, UserSpace};
use super::version::is_version;
use super::{firmware, reach};
use crate::formats::{elf, ldcache};
use crate::inventory::{Capabilities, Capability, DriverFile, FileKind, Link, Need};
use crate::root::{Root, glob};

const TABLE: &str = include_str!("../../driver-files.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DriverFileTable {
    search: SearchDirs,
    library: Vec<FileRow>,
    file: Vec<FileRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchDirs {
    libraries: Vec<String>,
    below: Vec<String>,
    binaries: Vec<String>,
    path: Vec<PathBuf>,
    xorg: Vec<String>,
    data: Vec<String>,
    misplaced: Vec<String>,
    roots: Vec<String>,
}

/// One row: names of files that are treated alike.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRow {
    /// For libraries the part before `.so`; for other files a path or a pattern, either absolute
    /// or relative to the directories for its kind. `{version}` stands for the driver's version.
    names: Vec<String>,
    #[serde(rename = "for")]
    capabilities: Vec<Capability>,
    #[serde(default)]
    kind: Option<FileKind>,
    /// Links to make in the file's directory, `name -> target`.
    #[serde(default)]
    links: Vec<String>,
    /// True for libraries with a version of their own instead of the driver's.
    #[serde(default)]
    own_version: bool,
    /// Where programs look for the file. Used if it lies in a directory they do not search; `/usr/share` by default.
    #[serde(default)]
    place: Option<PathBuf>,
    /// Whether a container is started without the file where it cannot be reached.
    #[serde(default)]
    optional: bool,
    /// Where the fact comes from. Documentation only.
    #[allow(
        dead_code,
        reason = "documentation column; only the table's test reads it"
    )]
    source: String,
}

fn table() -> DriverFileTable {
    toml::from_str(TABLE).expect("driver-files.toml is read whole by this module's test")
}

/// Every file of the driver of this version, sorted by path.
pub(crate) fn find(space: &UserSpace<'_>, version: &str) -> Vec<DriverFile> {
    let table = table();
    let mut finder = Finder {
        space,
        version,
        found: BTreeMap::new(),
    };
    let requested = space.libraries.iter().map(|dir| space.inner(dir));
    for dir in library_dirs(space.tree, &table.search, requested) {
        finder.libraries(&dir, &table.library);
    }
    for row in &table.file {
        finder.files(row, &table.search);
    }
    finder.found.into_values().collect()
}

/// Driver roots other than `/` at which a driver may be installed.
pub(crate) fn known_roots() -> Vec<PathBuf> {
    table().search.roots.iter().map(PathBuf::from).collect()
}

/// Version of the installed driver, whether or not it is loaded: the newest suffix of
/// `libcuda.so.*`. With no driver loaded this tells "not installed" from "not loaded".
pub fn installed_version(root: &Root, driver_root: &Path) -> Option<String> {
    let tree = &user_space::tree(root, driver_root).ok()?;
    let mut versions: Vec<String> = library_dirs(tree, &table().search, std::iter::empty())
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

/// Directories with libraries, links resolved, without duplicates: first the requested ones, then
/// those that the loader cache has driver libraries in, then the usual ones.
fn library_dirs(
    tree: &Root,
    search: &SearchDirs,
    requested: impl Iterator<Item = PathBuf>,
) -> Vec<PathBuf> {
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
    let requested = requested.flat_map(|dir| {
        let below = search.below.iter().map(|b| dir.join(b)).collect::<Vec<_>>();
        std::iter::once(dir).chain(below)
    });
    let mut seen = HashSet::new();
    let dirs: Vec<PathBuf> = requested
        .chain(cached)
        .chain(usual)
        .filter_map(|dir| tree.canonicalize(dir).ok())
        .filter(|dir| seen.insert(dir.clone()))
        .collect();
    let link_targets: Vec<PathBuf> = dirs
        .iter()
        .filter_map(|dir| libcuda_target_dir(tree, dir))
        .filter(|dir| seen.insert(dir.clone()))
        .collect();
    dirs.into_iter().chain(link_targets).collect()
}

/// The directory of the file that `libcuda.so.1` in `dir` leads to. It differs from `dir` where a
/// driver has a directory of its own, such as /opt/nvidia, and the loader finds it by links in
/// /usr/lib.
fn libcuda_target_dir(tree: &Root, dir: &Path) -> Option<PathBuf> {
    let library = tree.canonicalize(dir.join("libcuda.so.1")).ok()?;
    library.parent().map(Path::to_path_buf)
}

struct Finder<'a> {
    space: &'a UserSpace<'a>,
    version: &'a str,
    found: BTreeMap<PathBuf, DriverFile>,
}

impl Finder<'_> {
    fn libraries(&mut self, dir: &Path, rows: &[FileRow]) {
        let names = self.space.tree.read_dir(dir).unwrap_or_default();
        let present: BTreeSet<&str> = names.iter().filter_map(|n| n.to_str()).collect();
        for name in &present {
            let Some((stem, suffix)) = name.split_once(".so") else {
                continue;
            };
            let Some(row) = rows
                .iter()
                .find(|r| r.names.iter().any(|n| glob::fits(n, stem)))
            else {
                continue;
            };
            let suffix = suffix.strip_prefix('.').unwrap_or(suffix);
            // A library with its own version is found by its SONAME link too: libfoo.so.1 leads to
            // the file with the full version.
            let is_of_driver = if row.own_version {
                suffix.bytes().next().is_some_and(|b| b.is_ascii_digit())
            } else {
                suffix == self.version
            };
            if is_of_driver {
                self.library(dir, name, row, &present);
            }
        }
    }

    fn library(&mut self, dir: &Path, name: &str, row: &FileRow, present: &BTreeSet<&str>) {
        let Ok(path) = self.space.tree.canonicalize(dir.join(name)) else {
            return;
        };
        if self.found.contains_key(&path) {
            return;
        }
        let object = self.space.tree.open_file(&path).ok().and_then(elf::read);
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
        // A development link (libcuda.so, libnvidia-ml.so) is given only where the host has it.
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
        self.add(
            path.clone(),
            &path,
            kind,
            capabilities,
            object.soname,
            links,
        );
        if row.optional {
            self.mark_optional(&path);
        }
    }

    fn files(&mut self, row: &FileRow, search: &SearchDirs) {
        let kind = row.kind.unwrap_or(FileKind::Config);
        for name in &row.names {
            let name = name.replace("{version}", self.version);
            match kind {
                FileKind::Binary => self.program(row, search, &name),
                FileKind::Firmware => {
                    for dir in firmware::dirs(self.space) {
                        let paths = glob::expand(self.space.tree, &dir.join(&name));
                        for path in &paths {
                            self.data(row, kind, path, path);
                        }
                        // The kernel takes the firmware from the first directory that has it.
                        if !paths.is_empty() {
                            break;
                        }
                    }
                }
                FileKind::XModule => self.matching(row, kind, &search.xorg, &name),
                _ => {
                    self.matching(row, kind, &search.data, &name);
                    if !name.starts_with('/') {
                        self.misplaced(row, kind, &search.misplaced, &name);
                    }
                }
            }
        }
    }

    /// Adds a program of this driver: the one next to its libraries if it is an ELF file, else the first in the usual directories that is one.
    fn program(&mut self, row: &FileRow, search: &SearchDirs, name: &str) {
        let tree = self.space.tree;
        let next_to_libraries = self.program_dirs();
        let usual = search.binaries.iter().map(PathBuf::from);
        let path = next_to_libraries
            .into_iter()
            .chain(usual)
            .filter_map(|dir| tree.canonicalize(dir.join(name)).ok())
            .find(|path| tree.open_file(path).ok().and_then(elf::read).is_some());
        let Some(path) = path else { return };
        let mut links = links(path.parent().unwrap_or(Path::new("/")), row, self.version);
        let is_on_path = path
            .parent()
            .is_some_and(|dir| search.path.iter().any(|p| p == dir));
        if let (false, Some(first)) = (is_on_path, search.path.first()) {
            links.push(Link {
                path: first.join(name),
                target: path.clone(),
            });
        }
        let capabilities = Capabilities::of(&row.capabilities);
        self.add(
            path.clone(),
            &path,
            FileKind::Binary,
            capabilities,
            None,
            links,
        );
    }

    /// The `bin` next to each directory that has this driver's libraries, without duplicates.
    fn program_dirs(&self) -> Vec<PathBuf> {
        let libraries = self.found.values().filter(|f| f.kind == FileKind::Library);
        let dirs = libraries.filter_map(|f| Some(f.path.parent()?.parent()?.join("bin")));
        dirs.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Adds files that a container gets at the same path as on the host.
    fn matching(&mut self, row: &FileRow, kind: FileKind, dirs: &[String], name: &str) {
        let patterns: Vec<PathBuf> = if name.starts_with('/') {
            vec![name.into()]
        } else {
            dirs.iter().map(|dir| Path::new(dir).join(name)).collect()
        };
        for pattern in patterns {
            for path in glob::expand(self.space.tree, &pattern) {
                self.data(row, kind, &path, &path);
            }
        }
    }

    /// Adds files from directories that programs do not search. A container gets them where programs do look.
    fn misplaced(&mut self, row: &FileRow, kind: FileKind, dirs: &[String], name: &str) {
        let destination = row.place.as_deref().unwrap_or(Path::new("/usr/share"));
        let dirs = dirs.iter().map(PathBuf::from);
        let requested = self.space.configs.iter().map(|dir| self.space.inner(dir));
        for dir in dirs.chain(requested).collect::<Vec<_>>() {
            for path in glob::expand(self.space.tree, &dir.join(name)) {
                if let Ok(inner) = path.strip_prefix(&dir) {
                    self.data(row, kind, &destination.join(inner), &path);
                }
            }
        }
    }

    fn data(&mut self, row: &FileRow, kind: FileKind, path: &Path, source: &Path) {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let links = links(parent, row, self.version);
        let capabilities = Capabilities::of(&row.capabilities);
        self.add(path.to_owned(), source, kind, capabilities, None, links);
        if row.optional {
            self.mark_optional(path);
        }
    }

    fn mark_optional(&mut self, path: &Path) {
        if let Some(file) = self.found.get_mut(path) {
            file.need = reach::need(self.space.root, &file.host_path);
        }
    }

    fn add(
        &mut self,
        path: PathBuf,
        source: &Path,
        kind: FileKind,
        capabilities: Capabilities,
        soname: Option<String>,
        links: Vec<Link>,
    ) {
        // `path` stays as given: in the container a data file has the name that programs look up,
        // not the name of the file that a link on the host leads to.
        let Ok(real) = self.space.tree.canonicalize(source) else {
            return;
        };
        let host_path = self
            .space
            .driver_root
            .join(real.strip_prefix("/").unwrap_or(&real));
        let file = DriverFile {
            kind,
            path: path.clone(),
            host_path,
            capabilities,
            soname,
            links,
            need: Need::Required,
        };
        self.found.entry(path).or_insert(file);
    }
}

fn links(parent: &Path, row: &FileRow, version: &str) -> Vec<Link> {
    row.links
        .iter()
        .filter_map(|l| l.split_once(" -> "))
        .map(|(path, target)| Link {
            path: parent.join(path),
            target: target.replace("{version}", version).into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_complete_and_unique() {
        let table = table();
        let mut names = HashSet::new();
        for row in table.library.iter().chain(&table.file) {
            assert!(!row.names.is_empty() && !row.capabilities.is_empty());
            assert!(!row.source.is_empty(), "{:?} has no source", row.names);
            for name in &row.names {
                assert!(names.insert(name), "{name} twice");
            }
            for link in &row.links {
                assert!(link.contains(" -> "), "{link}");
            }
        }
        for row in &table.file {
            let is_searched = matches!(
                row.kind,
                Some(FileKind::Binary | FileKind::XModule | FileKind::Firmware)
            );
            let is_socket = row.kind == Some(FileKind::Socket);
            for name in &row.names {
                assert!(!(is_searched && name.starts_with('/')), "{name}");
                assert!(!is_socket || name.starts_with('/'), "{name}");
            }
        }
    }
}
