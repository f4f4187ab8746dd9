//! Tests unusual files and directories: one that cannot be written is refused before anything is
//! changed; one that can be written keeps all its attributes. Needs root.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use fixture::{DAEMON_JSON, Tree};

const JSON: &str = "etc/docker/daemon.json";
const BIN: &str = env!("CARGO_BIN_EXE_gpusetup");

fn is_root() -> bool {
    skips::has(&[skips::Need::Root])
}

fn tree() -> Tree {
    let tree = Tree::on_disk().with_engines("26.1.5", "1.7.24");
    fs::create_dir(tree.path("run")).unwrap();
    tree
}

/// Runs a shell line in a mount namespace of its own, then gpusetup. `$T` is the tree.
fn behind(tree: &Tree, line: &str, args: &str) -> Output {
    Command::new("unshare")
        .args(["-m", "sh", "-ec"])
        .arg(format!("{line}; exec {BIN} --root $T {args}"))
        .env("T", tree.path(""))
        .output()
        .unwrap()
}

fn message(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// An engine that cannot be set up keeps the others.
const ALL: &str = "install --yes --all-or-nothing";

/// Expects exit code 1, a message that contains `why`, and a fix.
fn refuses(out: &Output, why: &str) {
    let message = message(out);
    assert_eq!(out.status.code(), Some(1), "{message}");
    let has_fix = message.contains("fix:") || message.contains("Nothing was changed. ");
    assert!(message.contains(why) && has_fix, "{message}");
}

fn attributes(path: &Path) -> (u32, u32, u32, BTreeMap<OsString, Vec<u8>>) {
    let metadata = path.metadata().unwrap();
    let all = xattr::list(path).unwrap();
    let all = all.map(|n| (n.clone(), xattr::get(path, &n).unwrap().unwrap()));
    (
        metadata.uid(),
        metadata.gid(),
        metadata.mode(),
        all.collect(),
    )
}

/// An ACL as the kernel stores it (`linux/posix_acl_xattr.h`): rw for the owner, r for all others
/// and for one user.
fn acl() -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 4, 7),
        (4, 4, u32::MAX),
        (0x10, 4, u32::MAX),
        (0x20, 4, u32::MAX),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn a_mounted_file_is_refused() {
    if !is_root() {
        return;
    }
    let tree = tree();
    tree.write("real.json", DAEMON_JSON);
    let before = tree.state();
    let mount = "mount --bind $T/real.json $T/etc/docker/daemon.json";
    for args in ["plan --engine docker", "install --yes --engine docker"] {
        refuses(&behind(&tree, mount, args), "is a mount of its own");
    }
    assert_eq!(tree.state(), before);
}

#[test]
fn a_read_only_file_system_is_refused() {
    if !is_root() {
        return;
    }
    let tree = tree();
    let before = tree.state();
    for dir in ["etc", "etc/docker", "var"] {
        let mount = format!("mount --bind $T/{dir} $T/{dir}; mount -o remount,bind,ro $T/{dir}");
        refuses(&behind(&tree, &mount, ALL), "read-only");
        assert_eq!(tree.state(), before, "{dir}");
    }
    let dir = "mount --bind $T/etc $T/etc; mount -o remount,bind,ro $T/etc";
    refuses(
        &behind(&tree, dir, "plan --all-or-nothing"),
        "read-only file system",
    );
}

#[test]
fn an_immutable_file_is_refused() {
    let tree = tree();
    let chattr = |how: &str, path: &str| {
        let mut command = Command::new("chattr");
        command.arg(how).arg(tree.path(path)).stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    if !is_root() {
        return;
    }
    if !chattr("+i", JSON) {
        skips::skip(skips::Need::ImmutableFiles, "chattr +i fails");
        return;
    }
    let before = tree.state();
    let file = tree.run(&["install", "--yes", "--all-or-nothing"]);
    assert!(chattr("-i", JSON) && chattr("+i", "etc/docker"));
    let dir = tree.run(&["install", "--yes", "--all-or-nothing"]);
    assert!(chattr("-i", "etc/docker"));
    refuses(&file, "daemon.json is immutable");
    refuses(&dir, "etc/docker is immutable");
    assert!(message(&dir).contains("chattr -i"));
    assert_eq!(tree.state(), before);
}

#[test]
fn files_on_an_overlay_are_edited() {
    if !is_root() {
        return;
    }
    let lower = tree();
    let before = lower.state();
    let upper = tempfile::tempdir_in("/dev/shm").unwrap();
    let line = format!(
        "U={}; mkdir $U/u $U/w $U/m; mount -t overlay overlay -o lowerdir=$T,upperdir=$U/u,workdir=$U/w $U/m; \
         {BIN} --root $U/m install --yes; grep -q gpu-container-runtime $U/m/{JSON}; \
         {BIN} --root $U/m undo --yes; cmp $U/m/{JSON} $T/{JSON}; test ! -e $U/m/var/lib/gpusetup; T=$U/m",
        upper.path().display()
    );
    let out = behind(&lower, &line, "plan");
    assert_eq!(out.status.code(), Some(2), "{}", message(&out));
    assert_eq!(lower.state(), before);
}

#[test]
fn owner_mode_labels_and_acl_are_kept() {
    if !is_root() {
        return;
    }
    let tree = tree();
    let json = tree.path(JSON);
    chown(&json, Some(7), Some(8)).unwrap();
    fs::set_permissions(&json, Permissions::from_mode(0o640)).unwrap();
    // Without SELinux, a label is just another attribute.
    let label = b"system_u:object_r:container_config_t:s0\0";
    xattr::set(&json, "security.selinux", label).unwrap();
    xattr::set(&json, "trusted.note", b"x").unwrap();
    xattr::set(&json, "system.posix_acl_access", &acl()).unwrap();
    // An attribute that would be wrong for the new file.
    xattr::set(&json, "trusted.overlay.origin", b"x").unwrap();
    // This file has no ACL, and must not get one from its directory.
    let toml = tree.path("etc/containerd/config.toml");
    fs::set_permissions(&toml, Permissions::from_mode(0o660)).unwrap();
    xattr::set(
        tree.path("etc/containerd"),
        "system.posix_acl_default",
        &acl(),
    )
    .unwrap();
    let mut was = [attributes(&json), attributes(&toml)];
    was[0].3.remove(&OsString::from("trusted.overlay.origin"));
    for command in ["install", "undo"] {
        assert_eq!(tree.code(&[command, "--yes"]), 0);
        assert_eq!([attributes(&json), attributes(&toml)], was, "{command}");
    }
}

#[test]
fn created_directories_ignore_the_umask() {
    let tree = tree();
    let line = "umask 077";
    if !is_root() {
        return;
    }
    let out = behind(&tree, line, "install --yes");
    assert_eq!(out.status.code(), Some(0), "{}", message(&out));
    let mode = |path: &str| tree.path(path).metadata().unwrap().mode() & 0o777;
    assert_eq!(mode("etc/systemd/system/docker.service.d"), 0o755);
    assert_eq!(
        mode("etc/systemd/system/docker.service.d/50-gpusetup.conf"),
        0o644
    );
    assert_eq!(mode("var/lib/gpusetup/receipt.json"), 0o600);
}

#[test]
fn a_second_hard_link_is_reported() {
    let tree = tree();
    fs::hard_link(tree.path(JSON), tree.path("etc/docker/other.json")).unwrap();
    let out = tree.run(&["install", "--yes"]);
    assert_eq!(out.status.code(), Some(0));
    assert!(
        message(&out).contains("1 more name(s)"),
        "{}",
        message(&out)
    );
    assert_eq!(tree.read("etc/docker/other.json"), DAEMON_JSON);
}

/// The target may be on a disk that is not mounted yet. A file in its place, or below the empty
/// mount point, would hide it.
#[test]
fn a_dangling_link_is_refused_and_kept() {
    let tree = tree();
    fs::remove_dir_all(tree.path("etc/docker")).unwrap();
    let refused = |tree: &Tree| {
        let before = tree.state();
        for args in [&["plan"][..], &["install", "--yes"]] {
            let args = [args, &["--all-or-nothing"]].concat();
            refuses(&tree.run(&args), "is a link to what is not there");
            assert_eq!(tree.state(), before);
        }
    };
    symlink("/mnt/disk/docker", tree.path("etc/docker")).unwrap();
    refused(&tree);
    fs::create_dir_all(tree.path("mnt/disk/docker")).unwrap();
    let json = tree.path("mnt/disk/docker/daemon.json");
    symlink("../real.json", &json).unwrap();
    refused(&tree);
    tree.write("mnt/disk/real.json", "{}");
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert!(tree.read("mnt/disk/real.json").contains("runtimes"));
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert_eq!(tree.read("mnt/disk/real.json"), "{}");
    assert!(json.is_symlink());
}

#[test]
fn a_file_that_is_not_text_is_refused_and_kept() {
    type Make<'a> = &'a dyn Fn(&Tree);
    let json = |tree: &Tree| tree.path(JSON);
    let odd: [(&str, Make<'_>); 5] = [
        ("not a regular file", &|t| fs::create_dir(json(t)).unwrap()),
        ("not a regular file", &|t| {
            mkfifo(&json(t), Mode::from_bits_truncate(0o600)).unwrap();
        }),
        ("not UTF-8", &|t| {
            fs::write(json(t), b"{\"a\": \"\xff\"}").unwrap();
        }),
        ("longer than", &|t| {
            fs::File::create(json(t))
                .unwrap()
                .set_len(65 << 20)
                .unwrap();
        }),
        ("links", &|t| symlink("daemon.json", json(t)).unwrap()),
    ];
    for (why, make) in odd {
        let tree = tree();
        fs::remove_file(tree.path(JSON)).unwrap();
        make(&tree);
        let kind = tree.path(JSON).symlink_metadata().unwrap().mode();
        let out = tree.run(&["install", "--yes", "--all-or-nothing"]);
        assert_eq!(out.status.code(), Some(1), "{why}");
        assert!(message(&out).contains(why), "{why}: {}", message(&out));
        assert_eq!(tree.path(JSON).symlink_metadata().unwrap().mode(), kind);
        assert!(!tree.path("var/lib/gpusetup").exists() && !tree.path("etc/systemd").exists());
    }
}

#[test]
fn missing_write_permission_is_reported_and_nothing_changes() {
    if !is_root() {
        return;
    }
    let tree = tree();
    // A directory to which every user has access.
    let bin = tempfile::tempdir().unwrap();
    fs::set_permissions(bin.path(), Permissions::from_mode(0o755)).unwrap();
    let program = bin.path().join("gpusetup");
    fixture::copy_program(BIN, &program);
    fs::set_permissions(tree.path(""), Permissions::from_mode(0o755)).unwrap();
    let nobody = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--root").arg(tree.path("")).args(args);
        command.uid(65534).gid(65534).output().unwrap()
    };
    let before = tree.state();
    let plan = nobody(&["plan"]);
    assert_eq!(plan.status.code(), Some(2), "{}", message(&plan));
    refuses(&nobody(&["install", "--yes"]), "run it with sudo");
    // A file that may not be read is not treated as missing.
    fs::set_permissions(tree.path(JSON), Permissions::from_mode(0o600)).unwrap();
    refuses(&nobody(&["plan"]), "daemon.json");
    fs::set_permissions(tree.path(JSON), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(tree.state(), before);
}

/// A purge once removed the user's daemon.json (nvidia-docker #1776).
#[test]
fn undo_removes_no_file_of_the_users() {
    for text in ["", "\n", "{}", "{\n}\n", DAEMON_JSON] {
        let tree = tree();
        tree.write(JSON, text);
        assert_eq!(tree.code(&["install", "--yes"]), 0, "{text:?}");
        assert_eq!(tree.code(&["undo", "--yes"]), 0, "{text:?}");
        assert_eq!(tree.read(JSON), text);
    }
    // We made the file, but the user added to it.
    let tree = tree();
    fs::remove_file(tree.path(JSON)).unwrap();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    let with = tree.read(JSON).replacen('{', "{\"debug\": true,", 1);
    tree.write(JSON, &with);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    let left: serde_json::Value = serde_json::from_str(&tree.read(JSON)).unwrap();
    assert_eq!(left, serde_json::json!({"debug": true}));
    // A file that is entirely ours is removed.
    let tree = Tree::on_disk().with_engines("26.1.5", "1.7.24");
    fs::remove_file(tree.path(JSON)).unwrap();
    assert_eq!(tree.code(&["install", "--yes"]), 0);
    assert_eq!(tree.code(&["undo", "--yes"]), 0);
    assert!(!tree.path(JSON).exists());
}
