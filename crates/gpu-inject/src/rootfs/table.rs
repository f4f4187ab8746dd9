//! mountinfo(5): what tells whose a mount is.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Of mountinfo(5): what a decision needs.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) shared: HashSet<u64>,
    pub(super) parents: HashMap<u64, u64>,
    /// File systems that are mounted outside of the container, `major:minor`.
    pub(super) outside: HashSet<(u64, u64)>,
}

struct Line {
    id: u64,
    parent: u64,
    device: (u64, u64),
    is_shared: bool,
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let (before, _) = line.split_once(" - ")?;
        let mut words = before.split(' ');
        let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (major, minor) = words.next()?.split_once(':')?;
        Some(Self {
            id,
            parent,
            device: (major.parse().ok()?, minor.parse().ok()?),
            // Behind root, mount point and options.
            is_shared: words.skip(3).any(|w| w.starts_with("shared:")),
        })
    }
}

impl Table {
    /// Of the table of a mount namespace in which the container's root is the mount `root`.
    pub(super) fn of(mountinfo: &str, root: u64) -> Self {
        let lines: Vec<Line> = mountinfo.lines().filter_map(Line::read).collect();
        let parents: HashMap<u64, u64> = lines.iter().map(|l| (l.id, l.parent)).collect();
        let is_inside = |mut id: u64| {
            // The top of a namespace is its own parent, or that of a mount that is not listed.
            for _ in 0..parents.len() {
                if id == root {
                    return true;
                }
                match parents.get(&id) {
                    Some(parent) if *parent != id => id = *parent,
                    _ => break,
                }
            }
            id == root
        };
        Self {
            shared: lines.iter().filter(|l| l.is_shared).map(|l| l.id).collect(),
            outside: lines
                .iter()
                .filter(|l| !is_inside(l.id))
                .map(|l| l.device)
                .collect(),
            parents,
        }
    }
}

/// The file systems that are mounted.
pub(super) fn devices(mountinfo: &str) -> HashSet<(u64, u64)> {
    let lines = mountinfo.lines().filter_map(Line::read);
    lines.map(|l| l.device).collect()
}

/// The mount that a path is on: the last of those at the deepest mount point above.
/// Mount points are compared as bytes: one that is not UTF-8 would else be none, and what is in it
/// would count as the mount around it.
pub(super) fn mount_at(mountinfo: &[u8], path: &Path) -> Option<u64> {
    let above = mountinfo.split(|b| *b == b'\n').filter_map(|line| {
        let point = unescaped(line.split(|b| *b == b' ').nth(4)?);
        let id = Line::read(&String::from_utf8_lossy(line))?.id;
        path.starts_with(&point)
            .then(|| (point.components().count(), id))
    });
    above.max_by_key(|(depth, _)| *depth).map(|(_, id)| id)
}

/// A path of mountinfo(5), in which `\040` is a blank.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let code = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match code.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}
