//! The golden cases: a tree, and the arguments of the install on it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::fixture::{Tree, walk};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/containerd");

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) tree: Tree,
    pub(crate) args: Vec<String>,
    pub(crate) version: Option<String>,
}

pub(crate) fn all_cases() -> Vec<Case> {
    let mut names: Vec<_> = fs::read_dir(GOLDEN)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.iter().map(|name| case(name)).collect()
}

pub(crate) fn case(name: &str) -> Case {
    let dir = Path::new(GOLDEN).join(name);
    let tree = bare();
    let mut case = Case {
        name: name.to_owned(),
        args: Vec::new(),
        version: None,
        tree,
        dir,
    };
    for (path, text) in files(&case.dir.join("before")) {
        case.tree.write(&path, &text);
    }
    let host = fs::read_to_string(case.dir.join("host")).unwrap();
    for line in host.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["containerd", version] => {
                package(&case.tree, version);
                case.version = Some(version.to_owned());
            }
            ["has", path] => case.tree.write(path.trim_start_matches('/'), ""),
            ["link", path, target] => {
                symlink(target, case.tree.path(path.trim_start_matches('/'))).unwrap();
            }
            ["args", ..] => case.args = words[1..].iter().map(|w| (*w).to_owned()).collect(),
            _ => panic!("{name}/host: {line}"),
        }
    }
    case
}

/// A tree with neither Docker nor containerd.
pub(crate) fn bare() -> Tree {
    let tree = Tree::new("1", "1");
    for path in ["usr/sbin/dockerd", "usr/bin/containerd"] {
        fs::remove_file(tree.path(path)).unwrap();
    }
    for path in ["etc/docker", "etc/containerd", "var/lib/dpkg"] {
        fs::remove_dir_all(tree.path(path)).unwrap();
    }
    tree
}

pub(crate) fn package(tree: &Tree, version: &str) {
    tree.write("usr/bin/containerd", "");
    let status =
        format!("Package: containerd\nStatus: install ok installed\nVersion: {version}\n\n");
    tree.write("var/lib/dpkg/status", &status);
}

pub(crate) fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    if dir.exists() {
        walk(dir, &mut files);
    }
    let relative = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    files
        .iter()
        .filter(|(path, _)| path.is_file())
        .map(|(path, (_, text))| (relative(path), text.clone()))
        .collect()
}

/// Files that differ between two states of a tree, except gpusetup's own.
pub(crate) fn changed(
    tree: &Tree,
    before: &BTreeMap<PathBuf, (u32, String)>,
) -> BTreeMap<String, String> {
    let root = tree.path("");
    let own = tree.path("var/lib/gpusetup");
    tree.state()
        .into_iter()
        .filter(|(path, state)| {
            path.is_file() && !path.starts_with(&own) && before.get(path) != Some(state)
        })
        .map(|(path, (_, text))| {
            let path = path.strip_prefix(&root).unwrap().display().to_string();
            (path, text)
        })
        .collect()
}

pub(crate) fn install(case: &Case) -> Output {
    let args: Vec<&str> = ["install", "--yes", "--json"]
        .into_iter()
        .chain(case.args.iter().map(String::as_str))
        .collect();
    case.tree.run(&args)
}

pub(crate) fn document(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
}
