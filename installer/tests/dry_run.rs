//! Looking writes nothing and reads nothing that is not the host's at `--root`: every system call
//! of `detect`, `plan`, `install --dry-run` and the like, as strace sees it. Needs strace.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use fixture::Tree;
use skips::Need;

/// Calls that change a file system or another process, or reach one. What is not in a list is
/// not noticed, so these are strace's own classes, and the calls that no class has.
const CHANGES: &str = "trace=?creat,?mkdir,?mkdirat,?rmdir,?unlink,?unlinkat,?rename,?renameat,?renameat2,\
    ?link,?linkat,?symlink,?symlinkat,?chmod,?fchmod,?fchmodat,?chown,?fchown,?fchownat,?lchown,?truncate,\
    ?ftruncate,?fallocate,?copy_file_range,?sendfile,?splice,?mknod,?mknodat,?utime,?utimes,?utimensat,\
    ?futimesat,?setxattr,?lsetxattr,?fsetxattr,?removexattr,?lremovexattr,?fremovexattr,?mount,?umount2,\
    ?move_mount,?open_tree,?mount_setattr,?pivot_root,?chroot,?kill,?tkill,?tgkill,?pidfd_send_signal,\
    ?ptrace,?setns,?unshare,?reboot,?swapon,?init_module,?finit_module,?delete_module,?bpf,\
    ?flock,?io_uring_setup,?sethostname,?quotactl,?open_by_handle_at,?fork,?vfork,?execve,?execveat,%network";
/// Calls that open or look at a path.
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
        // cargo's, which the loader would search.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(matches!(out.status.code(), Some(0 | 2)), "{args:?}: {said}");
    Some(fs::read_to_string(log.path()).unwrap())
}

#[test]
fn looking_writes_nothing() {
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
            // The program's own start.
            .filter(|l| !(l.contains("execve(") && l.contains("gpusetup")))
            // The end of a call that another thread's came between: its beginning says it all.
            .filter(|l| !l.contains(" resumed>"))
            .filter(|l| {
                let opens =
                    l.contains(" open(") || l.contains(" openat(") || l.contains(" openat2(");
                let to_write = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"];
                let only_reads = opens && !to_write.iter().any(|f| l.contains(f));
                // Standard output and error, whatever they are here.
                let says = ["write(1<", "write(2<", "writev(1<", "writev(2<"];
                !only_reads && !says.iter().any(|s| l.contains(s))
            })
            .collect();
        assert!(changing.is_empty(), "{args:?}: {changing:#?}");
        assert_eq!(tree.state(), before);
    }
}

/// What starts any Rust program: the loader, its libraries, and what std and libc ask of the
/// kernel.
const PROGRAM: [&str; 11] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/lib/",
    "/lib64/",
    "/usr/lib/",
    "/usr/share/locale",
    "/proc/self/maps",
    "/proc/self/cgroup",
    // Where a descriptor of ours has led: `Root::canonicalize`.
    "/proc/self/fd/",
    "/sys/fs/cgroup/",
    "/sys/devices/system/cpu",
];

#[test]
fn looking_stays_in_the_tree() {
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
                // The way to the root, link by link.
                let is_way = Path::new(&root).starts_with(path);
                !is_program && !is_way && !path.starts_with(&root)
            })
            .collect();
        assert!(outside.is_empty(), "{args:?}: {outside:#?}");
        // By the root's descriptor, and no link may lead out.
        let by_root = |l: &&str| l.contains(&format!("<{root}>,"));
        assert!(log.lines().filter(by_root).count() > 1, "{log}");
        let free: Vec<&str> = log
            .lines()
            .filter(|l| l.contains("openat2(") && !l.contains("RESOLVE_IN_ROOT"))
            .collect();
        assert!(free.is_empty(), "{free:#?}");
    }
}

/// The first path of a line, where it is an absolute one.
fn absolute(line: &str) -> Option<&str> {
    let path = line.split_once('"')?.1.split('"').next()?;
    path.starts_with('/').then_some(path)
}

/// What this user may not read is said, and nothing falls over.
#[test]
fn what_may_not_be_read_is_told() {
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
            let said = String::from_utf8_lossy(&out.stderr);
            let known = matches!(out.status.code(), Some(0 | 1 | 2 | 6));
            assert!(
                known,
                "{} {args:?}: {:?} {said}",
                path.display(),
                out.status
            );
            assert!(!said.contains("panicked"), "{said}");
            if out.status.code() == Some(1) {
                assert!(
                    said.contains("gpusetup: /") || said.contains("ermission"),
                    "{said}"
                );
            }
        }
        mode(&path, was);
    }
}
