//! No other way to skip: what prints a line of its own is counted by nobody.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && name != "target" && name != "skips" {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_test_prints_a_skip_of_its_own() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for dir in ["crates", "installer", "testenv"] {
        sources(&top.join(dir), &mut files);
    }
    assert!(files.len() > 100, "{}", files.len());
    let prints = |line: &&str| {
        let line = line.to_lowercase();
        line.contains("println!(\"")
            && line
                .split("println!(\"")
                .nth(1)
                .is_some_and(|t| t.starts_with("skip"))
    };
    let mut own = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        own.extend(
            text.lines()
                .filter(prints)
                .map(|l| format!("{}: {}", file.display(), l.trim())),
        );
    }
    assert!(
        own.is_empty(),
        "use skips::has or skips::skip:\n{}",
        own.join("\n")
    );
}
