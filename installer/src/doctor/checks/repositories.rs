//! Checks of the package sources for NVIDIA's repositories.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;

pub const CHECKS: Checks = &[
    ("repo-page", page),
    ("repo-gone", gone),
    ("repo-twice", twice),
    ("repo-key", key),
];

const DIRS: [&str; 3] = [
    "/etc/apt/sources.list.d",
    "/etc/yum.repos.d",
    "/etc/zypp/repos.d",
];
/// Words in a file name that mark a source of NVIDIA's.
const NAMES: [&str; 3] = ["nvidia", "cuda", "libnvidia"];
/// Repositories that no longer exist.
const ENDED: [&str; 2] = [
    "nvidia.github.io/nvidia-docker",
    "nvidia.github.io/nvidia-container-runtime",
];

/// A file that lists package sources.
struct SourceList {
    path: PathBuf,
    text: String,
}

fn lists(look: &HostFacts) -> Vec<SourceList> {
    let paths = DIRS.iter().flat_map(|d| look.entries(d));
    let read = paths.filter(|p| {
        p.extension()
            .is_some_and(|e| e == "list" || e == "sources" || e == "repo")
    });
    read.filter_map(|path| {
        Some(SourceList {
            text: look.text(&path)?,
            path,
        })
    })
    .collect()
}

/// The lines that are neither empty nor comments.
fn lines(list: &SourceList) -> impl Iterator<Item = &str> {
    list.text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
}

fn page(look: &HostFacts) -> Option<String> {
    let findings = lists(look).into_iter().filter(|list| {
        let name = list
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let first = list.text.trim_start().to_lowercase();
        let is_page = first.starts_with("<!doctype")
            || first.starts_with("<html")
            || first.starts_with("# unsupported distribution")
            || first.starts_with("404");
        NAMES.iter().any(|n| name.contains(n)) && is_page
    });
    evidence(findings.map(|l| l.path.display().to_string()).collect())
}

fn gone(look: &HostFacts) -> Option<String> {
    let findings = lists(look)
        .into_iter()
        .filter(|list| lines(list).any(|line| ENDED.iter().any(|e| line.contains(e))));
    evidence(findings.map(|l| l.path.display().to_string()).collect())
}

/// Address and key of each entry for the toolkit's repository.
fn entries(list: &SourceList) -> Vec<(String, Option<String>)> {
    if list.path.extension().is_some_and(|e| e == "sources") {
        let field = |key: &str| {
            lines(list).find_map(|l| {
                let (name, value) = l.split_once(':')?;
                name.eq_ignore_ascii_case(key)
                    .then(|| value.trim().to_owned())
            })
        };
        return field("URIs")
            .map(|uri| (uri, field("Signed-By")))
            .into_iter()
            .collect();
    }
    let one = |line: &str| {
        let rest = line.strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let key = options
            .split_whitespace()
            .find_map(|o| o.strip_prefix("signed-by="));
        Some((
            rest.split_whitespace().next()?.to_owned(),
            key.map(str::to_owned),
        ))
    };
    lines(list).filter_map(one).collect()
}

/// NVIDIA's repositories: the file that names each, its address and its key.
fn theirs(look: &HostFacts) -> Vec<(PathBuf, String, Option<String>)> {
    let mut repositories = Vec::new();
    for list in lists(look) {
        for (uri, key) in entries(&list) {
            if uri.contains("nvidia.github.io") || uri.contains("developer.download.nvidia.com") {
                repositories.push((list.path.clone(), uri.trim_end_matches('/').to_owned(), key));
            }
        }
    }
    repositories
}

fn twice(look: &HostFacts) -> Option<String> {
    let all = theirs(look);
    let mut findings = Vec::new();
    for (n, (path, uri, key)) in all.iter().enumerate() {
        let other = all[n + 1..].iter().find(|(_, u, k)| u == uri && k != key);
        findings.extend(other.map(|(other, _, _)| {
            format!(
                "{} and {} have {uri} with different signed-by",
                path.display(),
                other.display()
            )
        }));
    }
    evidence(findings)
}

fn key(look: &HostFacts) -> Option<String> {
    let mut findings = Vec::new();
    for (path, _, key) in theirs(look) {
        let Some(key) = key.filter(|k| k.starts_with('/')) else {
            continue;
        };
        match look.host.root().metadata(Path::new(&key)) {
            Err(_) => findings.push(format!(
                "{} names {key}, which is not there",
                path.display()
            )),
            Ok(m) if m.mode() & 0o004 == 0 => {
                findings.push(format!("{key} has mode {:04o}", m.mode() & 0o7777));
            }
            Ok(_) => {}
        }
    }
    evidence(findings)
}
