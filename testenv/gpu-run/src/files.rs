//! Snapshots of files, and what differs between two of them: type, mode, owner, link target and content.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::image::hex;

/// Of a larger file only the size and the modification time are compared.
const MAX_CONTENT: u64 = 4 * 1024 * 1024;
/// At most so many entries are recorded: a tree with more files is not a configuration.
const MAX_ENTRIES: usize = 50_000;

pub(crate) type Snapshot = BTreeMap<PathBuf, String>;

/// Everything at and below these paths, without crossing file systems. Missing paths are left out.
pub(crate) fn snapshot(paths: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for path in paths {
        let path = Path::new(path);
        if let Ok(metadata) = path.symlink_metadata() {
            add(path, metadata.dev(), &mut snapshot);
        }
    }
    snapshot
}

fn add(path: &Path, device: u64, snapshot: &mut Snapshot) {
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    if snapshot.len() >= MAX_ENTRIES {
        return;
    }
    let kind = metadata.file_type();
    let content_text = if kind.is_symlink() {
        format!(
            "link to {}",
            fs::read_link(path).unwrap_or_default().display()
        )
    } else if kind.is_file() {
        content(path, &metadata).unwrap_or_else(|e| format!("file that cannot be read: {e}"))
    } else if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {:x}", metadata.rdev())
    } else {
        "other".to_owned()
    };
    let text = format!(
        "{:o} {}:{} {content_text}",
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid()
    );
    snapshot.insert(path.to_owned(), text);
    if kind.is_dir() && metadata.dev() == device {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            add(&entry.path(), device, snapshot);
        }
    }
}

fn content(path: &Path, metadata: &fs::Metadata) -> io::Result<String> {
    if metadata.len() > MAX_CONTENT {
        return Ok(format!("{} bytes of {}", metadata.len(), metadata.mtime()));
    }
    Ok(hex(&Sha256::digest(fs::read(path)?)))
}

/// What differs, one line each.
pub(crate) fn differences(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, was) in before {
        match after.get(path) {
            None => lines.push(format!("{} is gone", path.display())),
            Some(is) if is != was => lines.push(format!("{} is another", path.display())),
            Some(_) => {}
        }
    }
    let new = after.keys().filter(|p| !before.contains_key(*p));
    lines.extend(new.map(|p| format!("{} is new", p.display())));
    lines
}

/// The differences in one line. The first few are enough to start looking.
pub(crate) fn summary(differences: &[String]) -> String {
    let more = differences.len().saturating_sub(8);
    let mut text = differences
        .iter()
        .take(8)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["same", "gone", "content", "mode"] {
            fs::write(path(name), name).unwrap();
        }
        let root = dir.path().to_str().unwrap();
        let before = snapshot(&[root, "/no/such/directory"]);
        assert_eq!(
            differences(&before, &snapshot(&[root])),
            Vec::<String>::new()
        );
        fs::remove_file(path("gone")).unwrap();
        fs::write(path("content"), "other").unwrap();
        fs::write(path("new"), "new").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path("mode"), mode).unwrap();
        let changes = differences(&before, &snapshot(&[root])).join("\n");
        for wanted in [
            "gone is gone",
            "content is another",
            "mode is another",
            "new is new",
        ] {
            assert!(changes.contains(wanted), "{wanted} in {changes}");
        }
        assert!(!changes.contains("same"));
    }
}
