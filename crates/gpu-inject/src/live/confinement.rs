//! Confines a process before it touches a container: it irrevocably drops what it does not need.
//!
//! Landlock is not used because it forbids every change to mounts (landlock(7)), which is what
//! the hook does.

use std::io;

use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{Mode, umask};
use nix::unistd::alarm;

use crate::linux::privileges::Resource;
use crate::linux::seccomp_filter::OnlyWith;
use crate::linux::{descriptors, privileges, start};

/// A capability of a Linux process (capabilities(7)), with its number in linux/capability.h. Not
/// to be confused with the driver's capabilities, [`gpu_host::Capability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// For files in the container that belong to another user.
    DacOverride = 1,
    /// For files in sticky directories.
    Fowner = 3,
    /// For becoming the container's root group.
    Setgid = 6,
    /// For becoming the container's root user.
    Setuid = 7,
    /// For `bpf(2)` on cgroups before Linux 5.8.
    NetAdmin = 12,
    /// Entering a mount namespace: the container's, or before Linux 5.12 again our own.
    SysChroot = 18,
    /// For the namespaces of another user's process.
    SysPtrace = 19,
    /// For mounts, namespaces and device cgroups.
    SysAdmin = 21,
    /// For reading the runtime's device program if `kptr_restrict` is 1.
    Syslog = 34,
    /// For device programs.
    Bpf = 39,
}

impl Capability {
    /// The bit mask of these capabilities.
    pub(super) fn mask(of: &[Self]) -> u64 {
        of.iter().fold(0, |mask, c| mask | 1u64 << *c as u8)
    }
}

/// Resource limits that suffice for a process that touches a container. The size of files is not limited here:
/// `RLIMIT_FSIZE` would also apply to a log file of the host that is already long. Files written into a container
/// have a limit of their own in `rootfs/write.rs`.
const LIMITS: [(Resource, u64); 4] = [
    // A core dump of ours would contain what we know of the host. A limit of 0 prevents core files only: a program
    // named in core_pattern is started even so, and may pass the dump on to the container. A limit of 1 prevents both
    // (core(5)).
    (libc::RLIMIT_CORE, 1),
    // One descriptor for each mount, and for some mounts one for the mount point: a host can have 2,048 IMEX
    // channels.
    (libc::RLIMIT_NOFILE, 8192),
    (libc::RLIMIT_AS, 512 << 20),
    (libc::RLIMIT_CPU, 60),
];
/// Time limit in seconds. A start that takes longer hangs, for instance on a FUSE file system that
/// a process of the image serves.
const SECONDS: u32 = 120;

/// The C library that most of our programs are built with does not define this number on every architecture.
#[cfg(target_arch = "x86_64")]
const KEXEC_FILE_LOAD: libc::c_long = 320;
/// The number in arch/powerpc/kernel/syscalls/syscall.tbl.
#[cfg(target_arch = "powerpc64")]
const KEXEC_FILE_LOAD: libc::c_long = 382;
/// The number in asm-generic/unistd.h.
#[cfg(not(any(target_arch = "x86_64", target_arch = "powerpc64")))]
const KEXEC_FILE_LOAD: libc::c_long = 294;

/// System calls that none of our hooks makes but that an attacker who controls one would: they affect other programs,
/// other processes, new namespaces, the network, the kernel itself, files by handle and device nodes.
const DENIED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Signals and limits of other processes: root needs no capability to change those of root's processes.
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_prlimit64,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_open_by_handle_at,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_setup,
    libc::SYS_memfd_create,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Before Linux 5.12 every hook may need a mount namespace of its own for a while. No other kind of namespace is
/// allowed, because in a new user namespace a process has every capability again.
const UNSHARE: OnlyWith = OnlyWith {
    call: libc::SYS_unshare,
    argument: 0,
    value: libc::CLONE_NEWNS,
};
const SETNS: OnlyWith = OnlyWith {
    call: libc::SYS_setns,
    argument: 1,
    value: libc::CLONE_NEWNS,
};

/// Installs the seccomp filter of a process that keeps these capabilities.
fn set_filter(keep: &[Capability]) -> io::Result<()> {
    let mut calls = DENIED.to_vec();
    if !keep.contains(&Capability::Bpf) {
        calls.push(libc::SYS_bpf);
    }
    // A process that may become the container's root needs setns(2) to enter the container's user namespace.
    if keep.contains(&Capability::Setuid) {
        privileges::deny(&calls, &[UNSHARE])
    } else {
        privileges::deny(&calls, &[UNSHARE, SETNS])
    }
}

/// Confines this process irrevocably: it closes all descriptors but the standard three, clears the environment, sets
/// resource limits, a time limit of two minutes and a seccomp filter, and drops all capabilities but `keep`. No
/// program or process can be started afterwards. To be called at the start of a program that has one thread.
///
/// `prepare` runs after inherited descriptors are closed and before anything else is dropped.
/// Files that it opens stay open, and its result is returned.
///
/// A restriction that the kernel or the runtime does not permit is skipped. This is safe because none of them is the
/// barrier against a hostile image; they limit the damage if that barrier fails.
pub fn confine<T>(keep: &[Capability], prepare: impl FnOnce() -> T) -> T {
    descriptors::close_inherited();
    let prepared = prepare();
    privileges::clear_environment();
    umask(Mode::from_bits_truncate(0o022));
    for (resource, value) in LIMITS {
        let _ = privileges::limit(resource, value);
    }
    if keep.contains(&Capability::Bpf) {
        // Before Linux 5.11 a device program counts against this limit, together with everything that an eBPF agent
        // has loaded as the same user. Raising the limit needs a capability that is dropped below.
        privileges::lift_memory_lock_limit();
    }
    let _ = start::set_own_signals();
    alarm::set(SECONDS);
    let _ = set_no_new_privs();
    give_up(keep, set_filter(keep).is_ok());
    prepared
}

/// Drops all capabilities but `keep`.
fn give_up(keep: &[Capability], is_filtered: bool) {
    let mask = Capability::mask(keep);
    // The bounding set limits only programs that are started later. If the filter lets none start, the some forty
    // calls to empty the set are not needed.
    if !is_filtered {
        privileges::bound_capabilities(mask);
    }
    let _ = privileges::keep_capabilities(mask);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use nix::sched::CloneFlags;

    use super::*;

    /// A line of this thread's status. Everything that is dropped belongs to the thread, not to the process.
    fn status(key: &str) -> u64 {
        let text = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    /// The filter refuses these calls whatever privileges a process has: the test runs as root with every capability,
    /// and the arguments are invalid. Each call is another way to do what a call beside it in the list does.
    #[test]
    fn no_other_way_is_left_to_what_is_refused() {
        if !skips::has(&[skips::Need::Root]) {
            return;
        }
        let ways = [
            ("execveat", libc::SYS_execveat),
            ("clone3", libc::SYS_clone3),
            ("kill", libc::SYS_kill),
            ("tkill", libc::SYS_tkill),
            ("tgkill", libc::SYS_tgkill),
            ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo),
            ("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo),
            ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
            ("prlimit64", libc::SYS_prlimit64),
            ("kexec_file_load", KEXEC_FILE_LOAD),
            ("quotactl_fd", libc::SYS_quotactl_fd),
            ("adjtimex", libc::SYS_adjtimex),
            ("clock_adjtime", libc::SYS_clock_adjtime),
            ("syslog", libc::SYS_syslog),
            ("unshare", libc::SYS_unshare),
            ("setns", libc::SYS_setns),
            ("bpf", libc::SYS_bpf),
        ];
        let rights = vec![Capability::Setuid, Capability::Bpf];
        for (keep, let_through) in [(vec![], &[][..]), (rights, &["setns", "bpf"])] {
            let left = move || {
                set_filter(&keep).unwrap();
                let left = ways
                    .iter()
                    .filter(|(_, call)| !privileges::is_denied(*call));
                left.map(|(name, _)| *name).collect::<Vec<_>>()
            };
            assert_eq!(thread::spawn(left).join().unwrap(), let_through);
        }
    }

    /// Entering a mount namespace of our own and returning, which is how mounts get their flags before Linux 5.12.
    #[test]
    fn a_mount_namespace_of_its_own_is_left_to_every_hook() {
        if !skips::has(&[skips::Need::Root]) {
            return;
        }
        let goes = || {
            let home = fs::File::open("/proc/thread-self/ns/mnt").unwrap();
            set_no_new_privs().unwrap();
            let keep = [Capability::SysChroot, Capability::SysAdmin];
            give_up(&keep, set_filter(&keep).is_ok());
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
            nix::sched::setns(home, CloneFlags::CLONE_NEWNS).unwrap();
        };
        thread::spawn(goes).join().unwrap();
    }

    #[test]
    fn dropped_capabilities_cannot_be_regained_with_or_without_the_filter() {
        if !skips::has(&[skips::Need::Root]) {
            return;
        }
        let kept = status("CapPrm:") & 1 << Capability::DacOverride as u8;
        for (is_set, filter, bounding) in [(true, 2, None), (false, status("Seccomp:"), Some(kept))]
        {
            let confined = move || {
                set_no_new_privs().unwrap();
                let keep = [Capability::DacOverride];
                // There is no call with this number, so no filter can be made.
                let done = if is_set {
                    set_filter(&keep)
                } else {
                    privileges::deny(&[-1], &[])
                };
                give_up(&keep, done.is_ok());
                assert_eq!(status("Seccomp:"), filter);
                for set in ["CapPrm:", "CapEff:"] {
                    assert_eq!(status(set), kept, "{set}");
                }
                assert_eq!(status("CapInh:") | status("CapAmb:"), 0);
                assert!(bounding.is_none_or(|bound| status("CapBnd:") == bound));
                let path = c"/bin/true";
                let no_args: [&std::ffi::CStr; 0] = [];
                if bounding.is_none() {
                    let apart = nix::sched::unshare(CloneFlags::CLONE_NEWUSER);
                    assert_eq!(apart, Err(nix::errno::Errno::EPERM));
                    let started = nix::unistd::execv(path, &no_args);
                    assert_eq!(started, Err(nix::errno::Errno::EPERM));
                }
            };
            thread::spawn(confined).join().unwrap();
        }
    }
}
