//! Tests of writing, removing and preflight checks of a single change.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::files::atomic_write::{remove_dirs, remove_temporary, write};
use crate::model::change::Side::{After, Before};
use crate::transaction::preflight;

fn host() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(dir.path(), Path::new("/")).unwrap();
    (dir, host)
}

fn change(path: &str, before: Option<&str>, after: Option<&str>, kind: MergeKind) -> Change {
    Change {
        path: path.into(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        mode: 0o640,
        why: String::new(),
        kind,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn writing_either_side_of_a_change_leaves_no_other_file() {
    let (dir, host) = host();
    let new = change("/etc/deep/a", None, Some("new"), MergeKind::Own);
    assert_eq!(
        missing_dirs(&host, &new).unwrap(),
        [Path::new("/etc"), Path::new("/etc/deep")]
    );
    assert_eq!(current(&host, &new).unwrap(), None);
    assert_eq!(attributes(&host, &new).unwrap(), None);
    write_side(&host, &new, After, None).unwrap();
    let at = dir.path().join("etc/deep/a");
    assert_eq!(current(&host, &new).unwrap().as_deref(), Some("new"));
    assert_eq!(
        (mode(&at), mode(&dir.path().join("etc/deep"))),
        (0o640, 0o755)
    );
    assert_eq!(names(&dir.path().join("etc/deep")), ["a"]);
    assert!(missing_dirs(&host, &new).unwrap().is_empty());

    // An existing file keeps its mode; a restored file gets its old mode back.
    fs::set_permissions(&at, Permissions::from_mode(0o604)).unwrap();
    write_side(
        &host,
        &change("/etc/deep/a", Some("new"), Some("other"), MergeKind::Own),
        After,
        None,
    )
    .unwrap();
    assert_eq!(
        (fs::read_to_string(&at).unwrap().as_str(), mode(&at)),
        ("other", 0o604)
    );
    let gone = change("/etc/deep/a", Some("other"), None, MergeKind::Own);
    let was = attributes(&host, &gone).unwrap();
    write_side(&host, &gone, After, None).unwrap();
    assert!(!at.exists());
    write_side(&host, &gone, After, None).unwrap();
    write_side(&host, &gone, Before, was.as_ref()).unwrap();
    assert_eq!(
        (fs::read_to_string(&at).unwrap().as_str(), mode(&at)),
        ("other", 0o604)
    );

    // A directory is removed only once it is empty.
    let dirs = ["/etc".into(), "/etc/deep".into()];
    remove_dirs(&host, &dirs).unwrap();
    assert!(at.exists());
    write_side(&host, &new, Before, None).unwrap();
    remove_dirs(&host, &dirs).unwrap();
    assert!(names(dir.path()).is_empty());
    remove_dirs(&host, &dirs).unwrap();
}

#[test]
fn a_link_is_replaced_and_a_file_is_written_through_a_link() {
    let (dir, host) = host();
    let link = change("/dev/char/195:0", None, Some("../nvidia0"), MergeKind::Link);
    write_side(&host, &link, After, None).unwrap();
    let at = dir.path().join("dev/char/195:0");
    assert_eq!(fs::read_link(&at).unwrap(), Path::new("../nvidia0"));
    assert_eq!(
        current(&host, &link).unwrap().as_deref(),
        Some("../nvidia0")
    );
    assert_eq!(attributes(&host, &link).unwrap(), None);
    let again = change(
        "/dev/char/195:0",
        Some("../nvidia0"),
        Some("../nvidia1"),
        MergeKind::Link,
    );
    write_side(&host, &again, After, None).unwrap();
    assert_eq!(fs::read_link(&at).unwrap(), Path::new("../nvidia1"));
    write_side(&host, &link, Before, None).unwrap();
    assert!(names(&dir.path().join("dev/char")).is_empty());

    // A file of somebody else's in its place is not our link, and its text is not returned.
    fs::write(&at, "theirs").unwrap();
    assert_eq!(current(&host, &link).unwrap().as_deref(), Some(""));

    // A link to a file of the user's is resolved within the root.
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("/real/file", dir.path().join("conf")).unwrap();
    let file = change("/conf", None, Some("text"), MergeKind::Own);
    write_side(&host, &file, After, None).unwrap();
    assert!(dir.path().join("conf").is_symlink());
    assert_eq!(
        fs::read_to_string(dir.path().join("real/file")).unwrap(),
        "text"
    );
    remove(&host, Path::new("/conf")).unwrap();
    assert!(dir.path().join("conf").is_symlink() && names(&dir.path().join("real")).is_empty());
}

#[test]
fn leftovers_of_a_killed_run_are_removed() {
    let (dir, host) = host();
    fs::create_dir(dir.path().join("etc")).unwrap();
    let left = dir.path().join("etc/.a.gpusetup");
    for kind in [MergeKind::Own, MergeKind::Link] {
        fs::write(&left, "half").unwrap();
        remove_temporary_of(&host, &change("/etc/a", None, Some("x"), kind)).unwrap();
        assert!(!left.exists());
    }
    fs::write(&left, "half").unwrap();
    remove_temporary(&host, Path::new("/etc/a")).unwrap();
    assert!(!left.exists());
    // It is no error if the temporary, or its directory, does not exist.
    remove_temporary(&host, Path::new("/etc/a")).unwrap();
    remove_temporary(&host, Path::new("/none/a")).unwrap();
    remove(&host, Path::new("/none/a")).unwrap();
    // A leftover temporary does not prevent the next write.
    fs::write(&left, "half").unwrap();
    write(&host, Path::new("/etc/a"), "whole", 0o644).unwrap();
    assert_eq!(names(&dir.path().join("etc")), ["a"]);
}

#[test]
fn a_failed_write_leaves_no_temporary_file_and_no_directory() {
    let (dir, host) = host();
    // A directory where the file should be: the rename fails after everything was written.
    fs::create_dir_all(dir.path().join("etc/a/full")).unwrap();
    assert!(write(&host, Path::new("/etc/a"), "x", 0o644).is_err());
    assert_eq!(names(&dir.path().join("etc")), ["a"]);
    assert!(
        write_side(
            &host,
            &change("/etc/a", None, Some("to"), MergeKind::Link),
            After,
            None
        )
        .is_err()
    );
    assert_eq!(names(&dir.path().join("etc")), ["a"]);
    // Directories that were created for this write alone are removed again.
    let long = format!("/new/deep/{}", "x".repeat(250));
    assert!(write(&host, Path::new(&long), "x", 0o644).is_err());
    assert!(!dir.path().join("new").exists());
    assert!(write(&host, Path::new("/"), "x", 0o644).is_err());
    // A file where a directory should be.
    fs::write(dir.path().join("file"), "theirs").unwrap();
    assert!(write(&host, Path::new("/file/a"), "x", 0o644).is_err());
    assert_eq!(
        fs::read_to_string(dir.path().join("file")).unwrap(),
        "theirs"
    );
}

/// Follows as many links as the kernel does, and no more. A link to itself is an error, not an
/// endless loop.
#[test]
fn links_to_what_is_missing_are_followed_as_far_as_the_kernel_does() {
    let (dir, host) = host();
    symlink("/etc/missing", dir.path().join("l0")).unwrap();
    for n in 1..45 {
        symlink(format!("l{}", n - 1), dir.path().join(format!("l{n}"))).unwrap();
    }
    symlink("loop", dir.path().join("loop")).unwrap();
    let of = |path: &str| ResolvedPath::of(&host, Path::new(path));
    let place = of("/l5/below").unwrap();
    assert_eq!(
        (place.dir.as_path(), place.name.to_str()),
        (Path::new("/etc/missing"), Some("below"))
    );
    assert_eq!(of("/l5").unwrap().dir, Path::new("/etc"));
    assert_eq!(
        ResolvedPath::of_link(&host, Path::new("/l5")).unwrap().name,
        "l5"
    );
    assert!(of("/l44").is_err() && of("/loop").is_err() && of("/loop/a").is_err());
}

#[test]
fn an_unwritable_path_is_refused_before_any_write() {
    let (dir, host) = host();
    let own = |path: &str| change(path, None, Some("x"), MergeKind::Own);
    let why = |change: &Change, is_back: bool| {
        preflight::ensure_writable(&host, change, is_back)
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(why(&own("/new/deep/a"), false), None);
    assert!(names(dir.path()).is_empty());
    symlink("/mnt/disk", dir.path().join("gone")).unwrap();
    let reason = why(&own("/gone/conf"), false).unwrap();
    assert!(
        reason.contains("/gone is a link to what is not there"),
        "{reason}"
    );
    // A file that we removed is restored where it was, and a link of ours may have a target that
    // does not exist yet.
    assert_eq!(why(&own("/gone/conf"), true), None);
    assert_eq!(
        why(
            &change("/gone", None, Some("/later"), MergeKind::Link),
            false
        ),
        None
    );
}

#[test]
fn further_hard_links_of_a_file_are_reported() {
    let (dir, host) = host();
    fs::write(dir.path().join("a"), "x").unwrap();
    let edited = change("/a", Some("x"), Some("y"), MergeKind::Own);
    assert_eq!(preflight::remark(&host, &edited), None);
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    let remark = preflight::remark(&host, &edited).unwrap();
    assert!(remark.contains("/a has 1 more name"), "{remark}");
    assert_eq!(
        preflight::remark(&host, &change("/a", None, Some("y"), MergeKind::Own)),
        None
    );
    assert_eq!(
        preflight::remark(&host, &change("/a", Some("x"), Some("y"), MergeKind::Link)),
        None
    );
}
