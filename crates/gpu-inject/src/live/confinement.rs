//! Confines a process before it touches a container: it irrevocably drops what it does not need.
//!
//! Landlock is not used because it forbids every change to mounts (landlock(7)), which is what
//! the hook does.

use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{Mode, umask};
use nix::unistd::alarm;

use crate::linux::privileges::Resource;
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
    /// For entering a mount namespace.
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

/// Resource limits of a process that touches a container.
const LIMITS: [(Resource, u64); 5] = [
    // A core dump would put data about the host into a directory of the image.
    (libc::RLIMIT_CORE, 0),
    // Two for each mount, its own and its mount point's; a host can have 2,048 IMEX channels.
    (libc::RLIMIT_NOFILE, 8192),
    // Twice the largest loader cache that we may write.
    (libc::RLIMIT_FSIZE, 48 << 20),
    (libc::RLIMIT_AS, 512 << 20),
    (libc::RLIMIT_CPU, 60),
];
/// Time limit in seconds. A start that takes longer hangs, for instance on a FUSE file system that
/// a process of the image serves.
const SECONDS: u32 = 120;

/// System calls that our hook never makes and that an attacker who took it over would need: to
/// start programs, to reach other processes, the network or the kernel, to open files by handle,
/// to make device nodes.
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
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
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

/// Confines this process irrevocably. It keeps only the three standard descriptors and the
/// capabilities in `keep`; it has no environment, limited resources and two minutes of time; it
/// can start no program and no process. To be called at the start of a single-threaded program.
///
/// `prepare` runs after inherited descriptors are closed and before anything else is dropped.
/// Files that it opens stay open, and its result is returned.
///
/// A restriction that the kernel or the runtime does not permit is skipped. This is safe because
/// none of them is the barrier against a hostile image; they limit the damage if that one fails.
pub fn confine<T>(keep: &[Capability], prepare: impl FnOnce() -> T) -> T {
    descriptors::close_inherited();
    let prepared = prepare();
    privileges::clear_environment();
    umask(Mode::from_bits_truncate(0o022));
    for (resource, value) in LIMITS {
        let _ = privileges::limit(resource, value);
    }
    // Before Linux 5.11 device programs count against this limit, which is usually 64 KiB.
    let _ = privileges::limit(libc::RLIMIT_MEMLOCK, 8 << 20);
    let _ = start::reset_signal(libc::SIGALRM);
    alarm::set(SECONDS);
    let _ = set_no_new_privs();
    drop_privileges(keep, DENIED);
    prepared
}

/// Gives up these system calls, and all capabilities except `keep`.
fn drop_privileges(keep: &[Capability], calls: &[libc::c_long]) {
    let mask = keep.iter().fold(0, |mask, c| mask | 1u64 << *c as u8);
    // The bounding set matters only for programs started later. If the filter forbids starting
    // any, the some forty calls to empty the set are saved.
    if privileges::deny(calls).is_err() {
        privileges::bound_capabilities(mask);
    }
    let _ = privileges::keep_capabilities(mask);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// A line of this thread's status. All that is dropped belongs to the thread, not the process.
    fn status(key: &str) -> u64 {
        let text = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    #[test]
    fn dropped_capabilities_cannot_be_regained_with_or_without_the_filter() {
        if !skips::has(&[skips::Need::Root]) {
            return;
        }
        let kept = status("CapPrm:") & 1 << Capability::DacOverride as u8;
        for (calls, filter, bounding) in [
            (DENIED, 2, None),
            // -1 is not a system call, so making the filter fails.
            (&[-1][..], status("Seccomp:"), Some(kept)),
        ] {
            let confined = move || {
                set_no_new_privs().unwrap();
                drop_privileges(&[Capability::DacOverride], calls);
                assert_eq!(status("Seccomp:"), filter);
                for set in ["CapPrm:", "CapEff:"] {
                    assert_eq!(status(set), kept, "{set}");
                }
                assert_eq!(status("CapInh:") | status("CapAmb:"), 0);
                assert!(bounding.is_none_or(|bound| status("CapBnd:") == bound));
                let path = c"/bin/true";
                let no_args: [&std::ffi::CStr; 0] = [];
                if bounding.is_none() {
                    let started = nix::unistd::execv(path, &no_args);
                    assert_eq!(started, Err(nix::errno::Errno::EPERM));
                }
            };
            thread::spawn(confined).join().unwrap();
        }
    }
}
