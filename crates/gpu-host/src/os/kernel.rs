//! Facts about the running kernel, and which kernel each way into a container needs.

use std::fmt::{self, Display, Formatter};

use super::cgroup;
use crate::root::Root;

/// A version of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

impl Display for KernelVersion {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}.{}", self.0, self.1)
    }
}

/// A way into a container, with the oldest kernel that it works on.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Its name for users.
    pub name: &'static str,
    /// The oldest kernel.
    pub since: KernelVersion,
    /// The feature that this kernel has and older ones lack.
    pub needs: &'static str,
    /// Whether it is needed only on hosts with cgroup v2 alone, or everywhere.
    pub is_of_v2: bool,
}

/// The ways into a container. Other features of newer kernels are in [`CALLS`], because nothing depends on them.
pub const WAYS: [Way; 2] = [
    Way {
        name: "the runtime, CDI and `--gpus`",
        since: KernelVersion(3, 10),
        needs: "descriptors that name a file without opening it (O_PATH); NVIDIA's driver asks for it, too",
        is_of_v2: false,
    },
    Way {
        name: "`--gpus` and nvidia-container-cli with cgroup v2",
        since: KernelVersion(4, 15),
        needs: "programs that grant devices (BPF_PROG_TYPE_CGROUP_DEVICE)",
        is_of_v2: true,
    },
];

/// A system call that is used if it is available.
#[derive(Clone, Copy, Debug)]
pub struct SystemCall {
    /// Its name.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: KernelVersion,
    /// The fallback, for older kernels or if a sandbox refuses the call with ENOSYS or EPERM.
    pub instead: &'static str,
}

/// All such calls, newest first.
pub const CALLS: [SystemCall; 6] = [
    SystemCall {
        name: "mount_setattr",
        since: KernelVersion(5, 12),
        instead: "flags by a remount, in a mount namespace of its own",
    },
    SystemCall {
        name: "close_range",
        since: KernelVersion(5, 9),
        instead: "close(2), 1,021 times",
    },
    SystemCall {
        name: "statx with STATX_MNT_ID",
        since: KernelVersion(5, 8),
        instead: "the number of a mount by /proc/self/fdinfo",
    },
    SystemCall {
        name: "openat2",
        since: KernelVersion(5, 6),
        instead: "a walk that opens one directory at a time, each from the one before",
    },
    SystemCall {
        name: "pidfd_open",
        since: KernelVersion(5, 3),
        instead: "/proc/PID, if /proc is of our own pid namespace",
    },
    SystemCall {
        name: "open_tree",
        since: KernelVersion(5, 2),
        instead: "mount(2) by /proc/self/fd, in a tmpfs of its own",
    },
];

/// A call of [`CALLS`] with its kernel, as messages name it; only the name if it is not in the table.
#[must_use]
pub fn with_version(name: &str) -> String {
    match CALLS.iter().find(|call| call.name == name) {
        Some(call) => format!("{name} ({})", call.since),
        None => name.to_owned(),
    }
}

/// The kernel release, such as `6.12.9-amd64`; `None` in a tree that is not a running system.
pub fn release(root: &Root) -> Option<String> {
    let text = root.read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(text.trim().to_owned()).filter(|r| !r.is_empty())
}

/// The version of a kernel release.
#[must_use]
pub fn version(release: &str) -> Option<KernelVersion> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse().ok()
    };
    let (major, rest) = release.split_once('.')?;
    Some(KernelVersion(number(major)?, number(rest)?))
}

/// The ways for which the running kernel is too old. None in a tree that is not a running system.
pub fn missing_ways(root: &Root) -> Vec<&'static Way> {
    let Some(own) = release(root).and_then(|release| version(&release)) else {
        return Vec::new();
    };
    let is_v2 = cgroup::version(root) == cgroup::Version::V2;
    let is_missing = |way: &&Way| own < way.since && (is_v2 || !way.is_of_v2);
    WAYS.iter().filter(is_missing).collect()
}

/// Whether the module is loaded or built in.
pub fn has_module(root: &Root, name: &str) -> bool {
    root.exists(format!("/sys/module/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_a_version() {
        for (release, wanted) in [
            ("6.12.9-amd64", Some(KernelVersion(6, 12))),
            ("3.10.0-1160.el7.x86_64", Some(KernelVersion(3, 10))),
            ("5.15", Some(KernelVersion(5, 15))),
            ("6.6-rc1", Some(KernelVersion(6, 6))),
            ("odd", None),
            ("", None),
        ] {
            assert_eq!(version(release), wanted, "{release}");
        }
    }

    #[test]
    fn the_ways_that_a_kernel_is_too_old_for_are_named() {
        let missing = |release: &str, is_v2: bool| {
            let tree = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = tree.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            write("proc/sys/kernel/osrelease", release);
            if is_v2 {
                write("sys/fs/cgroup/cgroup.controllers", "");
            }
            missing_ways(&Root::open(tree.path()).unwrap()).len()
        };
        assert_eq!(missing("6.12.9-amd64", true), 0);
        assert_eq!(missing("4.14.0", true), 1);
        assert_eq!(missing("4.14.0", false), 0);
        assert_eq!(missing("2.6.32-754.el6", true), 2);
        assert_eq!(missing("odd", true), 0);
    }

    #[test]
    fn calls_are_named_with_their_kernels() {
        assert_eq!(with_version("open_tree"), "open_tree (Linux 5.2)");
        assert_eq!(with_version("mount"), "mount");
        assert!(CALLS.is_sorted_by_key(|call| std::cmp::Reverse(call.since)));
    }
}
