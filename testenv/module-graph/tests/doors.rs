//! What of the installer may write on a host, and what of it may begin a command: each a short list, so that a write goes
//! through the transaction and not beside it. docs/architecture.md says which door each command takes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use module_graph::{Uses, uses};

/// The modules that call writing functions of the system, and what they write. The first three are the transaction's hands.
const DOORS: [(&str, &str); 9] = [
    (
        "files::atomic_write",
        "files and links, for the transaction and the user's outputs",
    ),
    ("files::resolved_path", "directories, for the same"),
    ("files::attributes", "owner, mode and labels, for the same"),
    (
        "files::user_output",
        "a file that the user names: archive, spec, manual page",
    ),
    ("transaction::lock", "the lock"),
    (
        "transaction::refresh_due",
        "the mark by which a run refreshes when it ends",
    ),
    ("terminal::logging", "the log file that the user names"),
    (
        "verify",
        "the probe's image, gone when its file handle is dropped",
    ),
    ("fuzzing", "a tree of its own; not in the program"),
];

/// Names of ours by which all else is written or begun, and who may use them.
const CALLERS: [(&str, &[&str]); 13] = [
    (
        "crate::files::atomic_write",
        &[
            "files::user_output",
            "transaction::change_io",
            "transaction::journal",
            "transaction::regenerated",
            "transaction::state_file",
        ],
    ),
    (
        "crate::files::resolved_path",
        &[
            "files::atomic_write",
            "transaction::change_io",
            "transaction::lock",
            "transaction::preflight",
        ],
    ),
    (
        "crate::transaction::change_io::write_side",
        &["transaction::journal", "transaction::regenerated"],
    ),
    (
        "crate::transaction::state_file::store",
        &["transaction::journal", "transaction::receipt"],
    ),
    (
        "crate::transaction::regenerated",
        &[
            "commands::cdi",
            "commands::config",
            "commands::system",
            "doctor::fix",
        ],
    ),
    (
        "gpu_inject::generate::host_files::make_node",
        &["transaction::regenerated"],
    ),
    // A command begins in one place.
    (
        "crate::host::Host::open_with_policy",
        &["commands::session"],
    ),
    (
        "crate::host::Host::open",
        &["files::user_output", "fuzzing"],
    ),
    ("crate::host::signals::hold", &["commands::session"]),
    ("crate::transaction::lock::take", &["commands::session"]),
    (
        "crate::transaction::rollback::recover",
        &["commands::session"],
    ),
    (
        "crate::transaction::rollback::recover_before_run",
        &["commands::session"],
    ),
    (
        "nix::unistd::geteuid",
        &["commands::session", "error::system_fix", "host::user"],
    ),
];

/// Where functions are that write. What is not in `READS` counts as one: a list of writing ones would miss the next.
const SYSTEM: [&str; 11] = [
    "std::fs",
    "std::os::unix::fs",
    "nix::dir",
    "nix::fcntl",
    "nix::mount",
    "nix::sys::stat",
    "nix::unistd",
    "rustix::fs",
    "rustix::mount",
    "tempfile",
    "xattr",
];

/// What only looks, and types. By whole path, or for a type whatever is at the end of it.
const READS: [&str; 30] = [
    "std::fs::File",
    "std::fs::File::open",
    "std::fs::Metadata",
    "std::fs::Permissions",
    "std::fs::TryLockError",
    "std::fs::TryLockError::Error",
    "std::fs::TryLockError::WouldBlock",
    "std::fs::metadata",
    "std::fs::read",
    "std::fs::read_dir",
    "std::fs::read_to_string",
    "std::os::unix::fs::FileTypeExt",
    "std::os::unix::fs::MetadataExt",
    "std::os::unix::fs::PermissionsExt",
    "nix::fcntl::AtFlags",
    "nix::fcntl::AtFlags::AT_EACCESS",
    "nix::sys::stat::major",
    "nix::sys::stat::minor",
    "nix::unistd::AccessFlags",
    "nix::unistd::AccessFlags::W_OK",
    "nix::unistd::AccessFlags::X_OK",
    "nix::unistd::Pid",
    "nix::unistd::Pid::from_raw",
    "nix::unistd::faccessat",
    "nix::unistd::geteuid",
    "rustix::fs::AtFlags::SYMLINK_NOFOLLOW",
    "rustix::fs::StatxAttributes::MOUNT_ROOT",
    "rustix::fs::StatxFlags::BASIC_STATS",
    "rustix::fs::statx",
    "xattr::FileExt",
];

/// Methods that write, of a file or of its options.
const WRITING_METHODS: [&str; 11] = [
    "create_new",
    "persist",
    "persist_noclobber",
    "remove_xattr",
    "set_len",
    "set_modified",
    "set_permissions",
    "set_times",
    "set_xattr",
    "sync_all",
    "sync_data",
];

fn installer() -> BTreeMap<String, Uses> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    uses(&top.join("installer/src/lib.rs")).unwrap()
}

fn is_of(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What of a module writes.
fn writes(uses: &Uses) -> BTreeSet<String> {
    let is_system = |path: &&String| {
        // The module alone is named by an import; what is used of it is named too.
        SYSTEM
            .iter()
            .any(|place| is_of(path, place) && path != place)
    };
    let paths = uses.paths.iter().filter(is_system);
    let paths = paths.filter(|path| !READS.contains(&path.as_str()) && !is_type(path));
    let methods = uses.methods.iter();
    let methods = methods.filter(|name| WRITING_METHODS.contains(&name.as_str()));
    paths.chain(methods).cloned().collect()
}

/// An import of a type whose use is looked at by itself: `use std::fs::OpenOptions` writes nothing.
fn is_type(path: &str) -> bool {
    const IMPORTED: [&str; 3] = [
        "rustix::fs::StatxAttributes",
        "rustix::fs::StatxFlags",
        "std::os::unix::fs::OpenOptionsExt",
    ];
    IMPORTED.contains(&path)
}

#[test]
fn only_the_doors_write() {
    let modules = installer();
    let mut wrong = Vec::new();
    for (name, uses) in &modules {
        let writes = writes(uses);
        let is_door = DOORS.iter().any(|(door, _)| door == name);
        if !is_door && !writes.is_empty() {
            wrong.push(format!("{name}: {writes:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "a module writes past the transaction; see docs/architecture.md, \"What writes on a host\"\n{}",
        wrong.join("\n")
    );
    // One that does not write any more is no door, and would hide the next.
    for (door, _) in DOORS {
        let uses = modules.get(door).unwrap_or_else(|| panic!("no {door}"));
        assert!(!writes(uses).is_empty(), "{door} writes nothing");
    }
}

#[test]
fn only_listed_modules_use_the_doors() {
    let modules = installer();
    let mut wrong = Vec::new();
    for (door, callers) in CALLERS {
        let mut seen = BTreeSet::new();
        for (name, uses) in &modules {
            let is_the_door = is_of(door, &format!("crate::{name}")) && !name.is_empty();
            if !is_the_door && uses.paths.iter().any(|path| is_of(path, door)) {
                seen.insert(name.as_str());
            }
        }
        let may: BTreeSet<&str> = callers.iter().copied().collect();
        wrong.extend(
            seen.difference(&may)
                .map(|name| format!("{name} uses {door}")),
        );
        wrong.extend(
            may.difference(&seen)
                .map(|name| format!("{name} does not use {door}; take it off the list")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each way to write one would use without thinking, in each way to say it.
#[test]
fn a_write_is_found_in_every_notation() {
    for (text, wanted) in [
        ("fn f() { std::fs::write(\"x\", \"\"); }", "std::fs::write"),
        (
            "use std::fs; fn f() { fs::remove_file(\"x\"); }",
            "std::fs::remove_file",
        ),
        (
            "use std::fs::rename; fn f() { rename(\"x\", \"y\"); }",
            "std::fs::rename",
        ),
        (
            "use std::fs as disk; fn f() { disk::create_dir_all(\"x\"); }",
            "std::fs::create_dir_all",
        ),
        (
            "use std::fs::*; fn f() { write(\"x\", \"\"); }",
            "std::fs::*",
        ),
        (
            "use std::fs::File; fn f() { File::create(\"x\"); }",
            "std::fs::File::create",
        ),
        (
            "fn f() { use std::os::unix::fs::symlink; symlink(\"x\", \"y\"); }",
            "std::os::unix::fs::symlink",
        ),
        (
            "use nix::sys::stat; fn f() { stat::mknodat(); }",
            "nix::sys::stat::mknodat",
        ),
        (
            "use nix::unistd::{self, geteuid}; fn f() { unistd::unlinkat(geteuid()); }",
            "nix::unistd::unlinkat",
        ),
        (
            "use rustix::fs::mkdirat; fn f() { mkdirat(); }",
            "rustix::fs::mkdirat",
        ),
        (
            "fn f() { log!(\"{}\", std::fs::remove_dir(\"x\")); }",
            "std::fs::remove_dir",
        ),
        (
            "fn f(file: std::fs::File) { file.set_permissions(mode); }",
            "set_permissions",
        ),
        (
            "struct S; impl S { fn f() { ::std::fs::write(\"x\", \"\"); } }",
            "std::fs::write",
        ),
        (
            "use ::std::fs; fn f() { fs::write(\"x\", \"\"); }",
            "std::fs::write",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("lib.rs");
        std::fs::write(&root, text).unwrap();
        let writes = writes(&uses(&root).unwrap()[""]);
        assert!(writes.contains(wanted), "{text}: {writes:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("lib.rs");
    let reads = "use std::fs::{self, File}; fn f() { fs::read(\"x\"); File::open(\"y\"); }
        #[cfg(test)] mod tests { fn f() { std::fs::write(\"x\", \"\"); } }";
    std::fs::write(&root, reads).unwrap();
    assert_eq!(writes(&uses(&root).unwrap()[""]), BTreeSet::new());
}
