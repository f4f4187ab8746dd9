//! What a process has in a container's user namespace: no more than it kept before, and out of reach of what runs there.
//! Needs root and unshare.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gpu_inject::Edits;
use gpu_inject::live::{Capability, Pidfd, Target, confine, inject};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, fork, setgroups};

const KEPT: [Capability; 7] = [
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Setgid,
    Capability::Setuid,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysAdmin,
];

/// A process with user and mount namespaces of its own, whose root is the host's, as with `--uidmap 0:0:65536`: nothing
/// but our own doing then changes when we become it.
fn container() -> Child {
    let mut child = Command::new("unshare")
        .args(["--user", "--mount", "--propagation", "unchanged"])
        .args(["sh", "-c", "echo ready; read -r _"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.id()), "0 0 65536").unwrap();
    }
    child
}

/// What the process that entered is afterwards, a line each.
fn entered(container: i32, rootfs: &Path, mut report: File) {
    setgroups(&[Gid::from_raw(0), Gid::from_raw(6)]).unwrap();
    let pidfd = Pidfd::open(container).unwrap();
    let mut target = Target::of_process(&pidfd, rootfs.to_owned()).unwrap();
    target.no_cgroups = true;
    let done = inject(&target, &Edits::default());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let dumpable = prctl::get_dumpable();
    write!(report, "{done:?}\nDumpable:\t{dumpable:?}\n{status}").unwrap();
}

#[test]
fn dropped_privileges_stay_dropped_in_the_containers_user_namespace() {
    if !skips::has(&[skips::Need::Root, skips::Need::Unshare]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path().join("rootfs");
    fs::create_dir(&rootfs).unwrap();
    let report = dir.path().join("report");
    let mut container = container();
    let number = i32::try_from(container.id()).unwrap();
    // Only a process of one thread may change its user namespace.
    // SAFETY: the child leaves by _exit, and of other threads uses nothing but the allocator, whose locks glibc puts right.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let file = confine(&KEPT, || File::create(&report));
            let done = catch_unwind(AssertUnwindSafe(|| {
                entered(number, &rootfs, file.unwrap());
            }));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
    let rights = fs::read_to_string(&report).unwrap();
    drop(container.stdin.take());
    container.wait().unwrap();
    let of = |key: &str| {
        let line = rights.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("{key} {rights}")).trim()
    };
    assert!(rights.starts_with("Ok("), "{rights}");
    assert_eq!(of("Uid:"), "0\t0\t0\t0");
    let kept = KEPT
        .iter()
        .fold(0, |mask, right| mask | 1u64 << *right as u8);
    let mut wrong = Vec::new();
    for set in ["CapPrm:", "CapEff:"] {
        let has = u64::from_str_radix(of(set), 16).unwrap();
        if has & !kept != 0 || has == 0 {
            wrong.push(format!("{set} {has:x}, {kept:x} were kept"));
        }
    }
    for (key, wanted) in [("Groups:", ""), ("Dumpable:", "Ok(false)")] {
        if of(key) != wanted {
            wrong.push(format!("{key} {:?}", of(key)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
