//! Detects changes outside the image: records every file beside it with all attributes, and the host's
//! mount table, before and after a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::RuncBundle;

/// Content of a file of the canary that no container may read.
pub(crate) const SECRET: &str = "a-secret-of-the-host";

/// Fills the directory with one file of each type.
pub(crate) fn make(dir: &Path) {
    for below in ["deep/er", "lib", "sub"] {
        fs::create_dir_all(dir.join(below)).unwrap();
    }
    for (name, mode) in [
        ("secret", 0o600),
        ("program", 0o4755),
        ("lib/libcuda.so.1.2.3", 0o444),
        ("lib/libcuda.so.1", 0o644),
        ("deep/er/file", 0o640),
        ("00-gpu-container.conf", 0o600),
    ] {
        fs::write(dir.join(name), SECRET).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("secret", dir.join("link")).unwrap();
    // Not every file system has extended attributes.
    let _ = xattr::set(dir.join("secret"), "user.canary", b"sings");
}

/// Each file's path, and its attributes in one line. Link count and ctime are left out, because an
/// image may remove a hard link of its own.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

/// Records everything in the test's directory except the image, the runtime's state and the test's own files.
pub(crate) fn look(place: &RuncBundle) -> Tree {
    let mut tree = Tree::new();
    for part in ["host", "canary", "inventory.json", "config.toml"] {
        walk(&place.path(part), &mut tree);
    }
    // Files next to them, other than those that a run makes.
    for entry in fs::read_dir(place.path("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !["state", "inner", "injection", "overlay", "strace.log"].contains(&name)
            && !name.ends_with("-hook")
        {
            tree.entry(path).or_default();
        }
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place_path = place.path("").to_string_lossy().into_owned();
    let mounts = table.lines().filter(|l| l.contains(&place_path));
    tree.insert("mounts".into(), mounts.collect::<Vec<_>>().join("\n"));
    tree
}

/// Whether the image has a hard link to a file of the canary.
pub(crate) fn image_has_hosts_file(place: &RuncBundle) -> bool {
    let mut of_host = BTreeSet::new();
    identities(&place.path("canary"), &mut of_host);
    let mut of_image = BTreeSet::new();
    identities(&place.image(""), &mut of_image);
    !of_host.is_disjoint(&of_image)
}

/// Adds device and inode of each file below `dir`.
fn identities(dir: &Path, found: &mut BTreeSet<(u64, u64)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            identities(&entry.path(), found);
        } else {
            found.insert((about.dev(), about.ino()));
        }
    }
}

fn walk(path: &Path, tree: &mut Tree) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let attributes: Vec<_> = xattr::list(path)
        .into_iter()
        .flatten()
        .map(|name| (name.clone(), xattr::get(path, &name).ok().flatten()))
        .collect();
    let content = if metadata.is_file() {
        fs::read(path).unwrap()
    } else if metadata.is_symlink() {
        fs::read_link(path)
            .unwrap()
            .to_string_lossy()
            .into_owned()
            .into_bytes()
    } else {
        Vec::new()
    };
    tree.insert(
        path.to_owned(),
        format!(
            "inode {} mode {:o} owner {}:{} device {} modified {}.{} attributes {:?} content {:?}",
            metadata.ino(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.rdev(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            attributes,
            String::from_utf8_lossy(&content),
        ),
    );
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), tree);
        }
    }
}

/// The paths that differ, relative to `below`.
pub(crate) fn changed(before: &Tree, after: &Tree, below: &Path) -> Vec<String> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .map(|path| {
            path.strip_prefix(below)
                .unwrap_or(path)
                .display()
                .to_string()
        })
        .collect()
}

/// The differences, one line each.
pub(crate) fn differences(before: &Tree, after: &Tree) -> Vec<String> {
    let gone = before
        .iter()
        .filter(|(path, _)| !after.contains_key(*path))
        .map(|(path, _)| format!("gone: {}", path.display()));
    let other = after
        .iter()
        .filter(|(path, now)| before.get(*path) != Some(now))
        .map(|(path, now)| {
            let was = before.get(path).map_or("not there", String::as_str);
            format!("{}: {was} -> {now}", path.display())
        });
    gone.chain(other).collect()
}

/// Removes and counts empty files that runc itself made on the host.
///
/// runc before 1.1.14 makes mount points by path, so an image that changes meanwhile can have them
/// made on the host, as empty files of mode 0755 (CVE-2024-45310). We make no files of that mode.
pub(crate) fn forgive_runc(place: &RuncBundle, before: &mut Tree) -> usize {
    if !runc_makes_files_outside() {
        return 0;
    }
    let after = look(place);
    let made_by_runc: Vec<&PathBuf> = after
        .iter()
        .filter(|(path, line)| {
            let is_empty = line.contains(" mode 100755 ") && line.ends_with("content \"\"");
            is_empty && !before.contains_key(*path)
        })
        .map(|(path, _)| path)
        .collect();
    for path in &made_by_runc {
        fs::remove_file(path).unwrap();
        // Making and removing a file changes only the directory's time.
        let parent = path.parent().unwrap();
        let but_the_time = |line: &str| {
            let (head, rest) = line.split_once(" modified ").unwrap();
            let (_, tail) = rest.split_once(' ').unwrap();
            format!("{head} {tail}")
        };
        let now = look(place)[parent].clone();
        let then = before.get_mut(parent).unwrap();
        if but_the_time(then) == but_the_time(&now) {
            *then = now;
        }
    }
    made_by_runc.len()
}

fn runc_makes_files_outside() -> bool {
    let out = Command::new("runc").arg("--version").output().unwrap();
    let output = String::from_utf8_lossy(&out.stdout).into_owned();
    let version = output.split_whitespace().nth(2).unwrap_or_default();
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next()) < (1, 1, 14)
}
