//! Parses mountinfo(5) for the facts that tell whether a mount is the container's own.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Facts from mountinfo(5). Mounts are identified by their IDs.
#[derive(Debug, Default)]
pub(super) struct MountTable {
    /// The mounts with shared propagation.
    pub(super) shared: HashSet<u64>,
    /// The parent of each mount.
    pub(super) parents: HashMap<u64, u64>,
    /// File systems that are mounted outside of the container, `major:minor`.
    pub(super) outside: HashSet<(u64, u64)>,
}

struct MountLine {
    id: u64,
    parent: u64,
    device: (u64, u64),
    is_shared: bool,
}

impl MountLine {
    fn read(line: &str) -> Option<Self> {
        let (before, _) = line.split_once(" - ")?;
        let mut words = before.split(' ');
        let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (major, minor) = words.next()?.split_once(':')?;
        Some(Self {
            id,
            parent,
            device: (major.parse().ok()?, minor.parse().ok()?),
            // The optional fields come after root, mount point and options.
            is_shared: words.skip(3).any(|w| w.starts_with("shared:")),
        })
    }
}

impl MountTable {
    /// Parses the table of a mount namespace in which the container's root is the mount `root`.
    pub(super) fn of(mountinfo: &str, root: u64) -> Self {
        let lines: Vec<MountLine> = mountinfo.lines().filter_map(MountLine::read).collect();
        let parents: HashMap<u64, u64> = lines.iter().map(|l| (l.id, l.parent)).collect();
        let is_inside = |mut id: u64| {
            // The topmost mount of a namespace is its own parent, or its parent is not listed.
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

/// The device numbers of all mounted file systems.
pub(super) fn devices(mountinfo: &str) -> HashSet<(u64, u64)> {
    let lines = mountinfo.lines().filter_map(MountLine::read);
    lines.map(|l| l.device).collect()
}

/// The ID of the mount that a path is on: the last mount at the deepest mount point that is a prefix
/// of the path. Mount points are compared as bytes. Otherwise one that is not UTF-8 would be missed,
/// and a file in it would seem to be on the parent mount.
pub(super) fn mount_at(mountinfo: &[u8], path: &Path) -> Option<u64> {
    let candidates = mountinfo.split(|b| *b == b'\n').filter_map(|line| {
        let point = unescaped(line.split(|b| *b == b' ').nth(4)?);
        let id = MountLine::read(&String::from_utf8_lossy(line))?.id;
        path.starts_with(&point)
            .then(|| (point.components().count(), id))
    });
    candidates.max_by_key(|(depth, _)| *depth).map(|(_, id)| id)
}

/// Decodes a path of mountinfo(5), in which, for instance, `\040` is a space.
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
