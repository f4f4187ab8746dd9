//! Irrevocably drops privileges of a process: its environment, resource limits, capabilities and system calls.

use std::io;

use nix::errno::Errno;

use super::result::io_result;
use super::seccomp_filter::{self, OnlyWith};

/// Empties the environment. The process must have only one thread.
pub(crate) fn clear_environment() {
    // SAFETY: no other thread reads the environment, and no pointer into it is kept.
    unsafe { libc::clearenv() };
}

/// The C library's type of `RLIMIT_*`.
#[cfg(target_env = "gnu")]
pub(crate) type Resource = libc::__rlimit_resource_t;
/// The C library's type of `RLIMIT_*`.
#[cfg(not(target_env = "gnu"))]
pub(crate) type Resource = libc::c_int;

/// Sets both limits of a resource (`RLIMIT_*`). Without the right to raise the hard limit, they become that limit.
pub(crate) fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let set = |value| {
        let limit = libc::rlimit {
            rlim_cur: value,
            rlim_max: value,
        };
        // SAFETY: setrlimit(2) reads the structure, which lives.
        io_result(unsafe { libc::setrlimit(resource, &raw const limit) }.into()).map(drop)
    };
    set(value).or_else(|_| {
        let mut current = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: getrlimit(2) writes the structure, which lives.
        io_result(unsafe { libc::getrlimit(resource, &raw mut current) }.into())?;
        set(value.min(current.rlim_max))
    })
}

/// Removes the limit on locked memory; without the right to do so, raises it as far as is allowed.
pub(crate) fn lift_memory_lock_limit() {
    let _ = limit(libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY);
}

/// `struct __user_cap_header_struct` and `__user_cap_data_struct`, of linux/capability.h.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Removes every capability that is not in `keep` (a bit mask) from the bounding set, so that no
/// program started later can gain it from its file. Needs `CAP_SETPCAP`, so it must run before
/// [`keep_capabilities`].
pub(crate) fn bound_capabilities(keep: u64) {
    for capability in 0..64 {
        if keep >> capability & 1 == 0 {
            // SAFETY: this prctl(2) takes only numbers.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            if done == -1 && Errno::last() == Errno::EINVAL {
                // The number is above the kernel's last capability.
                break;
            }
        }
    }
}

// _LINUX_CAPABILITY_VERSION_3
const CAP_HEADER: CapHeader = CapHeader {
    version: 0x2008_0522,
    pid: 0,
};

fn own_capabilities() -> io::Result<[CapData; 2]> {
    let (header, mut data) = (CAP_HEADER, [CapData::default(); 2]);
    // SAFETY: capget(2) writes two structures for this version; both live.
    io_result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    Ok(data)
}

/// The effective capabilities of this thread, as a bit mask.
pub(crate) fn permitted_capabilities() -> io::Result<u64> {
    let [low, high] = own_capabilities()?.map(|data| u64::from(data.permitted));
    Ok(low | high << 32)
}

/// Irrevocably drops every capability that is not in `keep`, a bit mask.
pub(crate) fn keep_capabilities(keep: u64) -> io::Result<()> {
    // SAFETY: this prctl(2) takes only numbers.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    let (header, mut data) = (CAP_HEADER, own_capabilities()?);
    for (half, data) in data.iter_mut().enumerate() {
        let keep = u32::try_from(keep >> (32 * half) & 0xffff_ffff).unwrap_or(0);
        data.permitted &= keep;
        data.effective = data.permitted;
        data.inheritable = 0;
    }
    // SAFETY: capset(2) reads the structures that capget(2) has written; both live.
    io_result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
        .map(drop)
}

/// From now on the system calls `calls` fail with `EPERM` in this process and its children, and those in `only_with`
/// fail unless an argument has the given value. Needs `no_new_privs` or CAP_SYS_ADMIN.
pub(crate) fn deny(calls: &[libc::c_long], only_with: &[OnlyWith]) -> io::Result<()> {
    let mut code = seccomp_filter::refusing(calls, only_with)?;
    let program = libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: seccomp(2) reads the program and the `len` instructions it points to; both live.
    io_result(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })
    .map(drop)
}

/// Whether the filter refuses a call. The arguments are invalid, so that the call does nothing if it is allowed.
#[cfg(test)]
pub(crate) fn is_denied(call: libc::c_long) -> bool {
    // SAFETY: no descriptor, process, address or command is -1, so the call fails.
    let done = unsafe { libc::syscall(call, -1, -1, -1, -1, -1, -1) };
    done == -1 && Errno::last() == Errno::EPERM
}
