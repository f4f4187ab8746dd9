//! Tests that commands such as `detect`, `plan` and `install --dry-run` write nothing and read only
//! files below `--root`: strace logs each of their system calls. Needs strace.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use fixture::Tree;
use skips::Need;

/// Calls that change a file system, or that change or reach another process. A call that is not
/// listed would not be noticed, so this has strace's own classes and the calls outside them.
const CHANGES: &str = "trace=?creat,?mkdir,?mkdirat,?rmdir,?unlink,?unlinkat,?rename,?renameat,?renameat2,\
    ?link,?linkat,?symlink,?symlinkat,?chmod,?fchmod,?fchmodat,?chown,?fchown,?fchownat,?lchown,?truncate,\
    ?ftruncate,?fallocate,?copy_file_range,?sendfile,?splice,?mknod,?mknodat,?utime,?utimes,?utimensat,\
    ?futimesat,?setxattr,?lsetxattr,?fsetxattr,?removexattr,?lremovexattr,?fremovexattr,?mount,?umount2,\
    ?move_mount,?open_tree,?mount_setattr,?pivot_root,?chroot,?kill,?tkill,?tgkill,?pidfd_send_signal,\
    ?ptrace,?setns,?unshare,?reboot,?swapon,?init_module,?finit_module,?delete_module,?bpf,\
    ?flock,?io_uring_setup,?sethostname,?quotactl,?open_by_handle_at,?fork,?vfork,?execve,?execveat,%network";
/// Calls that open a path or read its attributes.
const PATHS: &str = "trace=%file";

const LOOKS: &[&[&str]] = &[
    &["detect"],
    &["detect", "--json"],
    &["plan"],
    &["plan", "--json"],
    &["install", "--dry-run"],
    &["install", "--dry-run", "--yes", "--json"],
    &["undo", "--dry-run"],
    &["undo", "--dry-run", "--json"],
    &["cdi", "list"],
    &["cdi", "check"],
    &["doctor"],
    &["doctor", "--json"],
    &["bundle", "--output", "-"],
];

/// A host with a driver and GPUs, so that there is much to look at.
fn tree() -> Tree {
    let tree = Tree::new("26.1.5", "1.7.24");
    tree.write(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  x\n",
    );
    tree.write(
        "proc/driver/nvidia/gpus/0000:3b:00.0/information",
        "Model: \t NVIDIA L4\nGPU UUID: \t GPU-1\nDevice Minor: \t 0\n",
    );
    tree.write("proc/driver/nvidia/params", "ModifyDeviceFiles: 1\n");
    tree.write(
        "usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06",
        "no library",
    );
    tree
}

/// The log of a command; `None` without strace.
fn traced(tree: &Tree, calls: &str, args: &[&str]) -> Option<String> {
    if !skips::has(&[Need::Strace]) {
        return None;
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let out = Command::new("strace")
        .args(["-f", "-qq", "-y", "-s", "4096", "-e", calls, "-o"])
        .arg(log.path())
        .arg(env!("CARGO_BIN_EXE_gpusetup"))
        .arg("--root")
        .arg(tree.path(""))
        .args(args)
        // Set by cargo; the loader would search it.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(
        matches!(out.status.code(), Some(0 | 2)),
        "{args:?}: {stderr}"
    );
    Some(fs::read_to_string(log.path()).unwrap())
}

#[test]
fn read_only_commands_write_nothing() {
    for args in LOOKS {
        let tree = tree();
        let before = tree.state();
        let calls = format!("{CHANGES},?openat,?open,?openat2,?write,?writev,?pwrite64,?pwritev");
        let Some(log) = traced(&tree, &calls, args) else {
            return;
        };
        assert!(log.contains("openat2("), "strace saw nothing: {log}");
        let changing: Vec<&str> = log
            .lines()
            // Not the start of the program itself.
            .filter(|l| !(l.contains("execve(") && l.contains("gpusetup")))
            // Not the second half of a call that another thread interrupted: the first half is
            // enough.
            .filter(|l| !l.contains(" resumed>"))
            .filter(|l| {
                let opens =
                    l.contains(" open(") || l.contains(" openat(") || l.contains(" openat2(");
                let to_write = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"];
                let only_reads = opens && !to_write.iter().any(|f| l.contains(f));
                // Writes to standard output and standard error are allowed.
                let says = ["write(1<", "write(2<", "writev(1<", "writev(2<"];
                !only_reads && !says.iter().any(|s| l.contains(s))
            })
            .collect();
        assert!(changing.is_empty(), "{args:?}: {changing:#?}");
        assert_eq!(tree.state(), before);
    }
}

/// Paths that every Rust program opens at its start: the loader, libraries, and what std and libc
/// read from the kernel.
const PROGRAM: [&str; 11] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/lib/",
    "/lib64/",
    "/usr/lib/",
    "/usr/share/locale",
    "/proc/self/maps",
    "/proc/self/cgroup",
    // Read by `Root::canonicalize` to find the path of a descriptor.
    "/proc/self/fd/",
    "/sys/fs/cgroup/",
    "/sys/devices/system/cpu",
];

#[test]
fn read_only_commands_stay_below_the_root() {
    for args in LOOKS {
        let tree = tree();
        let Some(log) = traced(&tree, PATHS, args) else {
            return;
        };
        let root = tree.path("").canonicalize().unwrap();
        let root = root.display().to_string();
        let outside: Vec<&str> = log
            .lines()
            .filter(|line| {
                let Some(path) = absolute(line) else {
                    return false;
                };
                let real = Path::new(env!("CARGO_BIN_EXE_gpusetup"));
                let is_program =
                    PROGRAM.iter().any(|p| path.starts_with(p)) || Path::new(path) == real;
                // The directories above the root, link by link.
                let is_way = Path::new(&root).starts_with(path);
                !is_program && !is_way && !path.starts_with(&root)
            })
            .collect();
        assert!(outside.is_empty(), "{args:?}: {outside:#?}");
        // Paths are opened by the root's descriptor, and no link may lead out of it.
        let by_root = |l: &&str| l.contains(&format!("<{root}>,"));
        assert!(log.lines().filter(by_root).count() > 1, "{log}");
        let free: Vec<&str> = log
            .lines()
            .filter(|l| l.contains("openat2(") && !l.contains("RESOLVE_IN_ROOT"))
            .collect();
        assert!(free.is_empty(), "{free:#?}");
    }
}

/// The first path of a line, if it is absolute.
fn absolute(line: &str) -> Option<&str> {
    let path = line.split_once('"')?.1.split('"').next()?;
    path.starts_with('/').then_some(path)
}

/// Files that the user may not read are reported, and the command still works.
#[test]
fn unreadable_files_are_reported() {
    if !skips::has(&[Need::Root]) {
        return;
    }
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let bin = tempfile::tempdir().unwrap();
    mode(bin.path(), 0o755);
    let program = bin.path().join("gpusetup");
    fixture::copy_program(env!("CARGO_BIN_EXE_gpusetup"), &program);
    let closed = [
        "etc/docker/daemon.json",
        "etc/docker",
        "etc/containerd/config.toml",
        "etc",
        "proc/driver/nvidia/version",
        "proc/driver/nvidia/gpus/0000:3b:00.0/information",
        "proc/driver/nvidia/params",
        "usr/sbin",
        "var/lib/dpkg/status",
        "",
    ];
    for path in closed {
        let tree = tree();
        mode(&tree.path(""), 0o755);
        let path = tree.path(path);
        let was = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        mode(&path, 0);
        for args in LOOKS {
            let mut command = Command::new(&program);
            command.arg("--root").arg(tree.path("")).args(*args);
            let out = command.uid(65534).gid(65534).output().unwrap();
            let stderr = String::from_utf8_lossy(&out.stderr);
            let known = matches!(out.status.code(), Some(0 | 1 | 2 | 6));
            assert!(
                known,
                "{} {args:?}: {:?} {stderr}",
                path.display(),
                out.status
            );
            assert!(!stderr.contains("panicked"), "{stderr}");
            if out.status.code() == Some(1) {
                assert!(
                    stderr.contains("gpusetup: /") || stderr.contains("ermission"),
                    "{stderr}"
                );
            }
        }
        mode(&path, was);
    }
}
