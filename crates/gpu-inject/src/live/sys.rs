//! The system calls that no safe crate has: the mount API of Linux 5.2, bpf(2), and what a
//! process gives up for good.
#![allow(unsafe_code)]

mod bpf;
mod filter;
mod start;

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;

use super::namespace::Apart;

pub(super) use bpf::{Insn, device_programs, instructions, load, program, replace};
pub(super) use start::{fill_closed_descriptors, heed_signal, survive_signal};

/// `MOUNT_ATTR_*` of linux/mount.h.
pub(super) const RDONLY: u64 = 0x1;
pub(super) const NOSUID: u64 = 0x2;
pub(super) const NODEV: u64 = 0x4;
pub(super) const NOEXEC: u64 = 0x8;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = done(result)?;
    // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// A descriptor of our own for the one of that number, which we were started with.
pub(super) fn inherited(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes numbers only; it fails where `fd` is none.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) }.into())
}

/// A detached bind mount of `path`, with everything mounted below it.
pub(super) fn open_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE.unsigned_abs();
    path.with_nix_path(|path| {
        // SAFETY: open_tree(2) reads a NUL-ended path, which outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
    })?
}

/// Whether detached mounts can be made and given flags: by calls that say of a descriptor that
/// is none that it is none, and would say first that they are missing, or forbidden.
pub(super) fn has_mount_api() -> bool {
    let attr = private(0);
    // SAFETY: open_tree(2) reads a NUL-ended path.
    let tree = owned(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            -1,
            c"x".as_ptr(),
            libc::OPEN_TREE_CLONE,
        )
    });
    // SAFETY: mount_setattr(2) reads a NUL-ended path and `attr`, whose size is given.
    let flags = done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            -1,
            c"x".as_ptr(),
            0,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    });
    let is_there = |e: io::Error| e.raw_os_error() == Some(libc::EBADF);
    tree.err().is_some_and(is_there) && flags.err().is_some_and(is_there)
}

fn private(set: u64) -> MountAttr {
    MountAttr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    }
}

/// A detached mount of the file `name` in the directory `dir`, and of nothing else.
pub(super) fn open_tree_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW.unsigned_abs();
    // SAFETY: open_tree(2) with a descriptor that lives and a NUL-ended name that does too.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), name.as_ptr(), flags) })
}

/// A detached tmpfs of at most `size` bytes, `nosuid,nodev,noexec`.
pub(super) fn tmpfs(size: u64) -> io::Result<OwnedFd> {
    const CLOEXEC: libc::c_uint = 1; // FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
    const SET_STRING: libc::c_uint = 1; // FSCONFIG_SET_STRING
    const CREATE: libc::c_uint = 6; // FSCONFIG_CMD_CREATE
    // SAFETY: fsopen(2) reads a NUL-ended name.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), CLOEXEC) })?;
    let size = CString::new(size.to_string())?;
    for (key, value) in [(c"mode", c"0755"), (c"size", size.as_c_str())] {
        // SAFETY: fsconfig(2) reads two NUL-ended texts, which live.
        done(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                SET_STRING,
                key.as_ptr(),
                value.as_ptr(),
                0,
            )
        })?;
    }
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command of fsconfig(2) takes no key and no value.
    done(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            CREATE,
            none,
            none,
            0,
        )
    })?;
    let flags = NOSUID | NODEV | NOEXEC;
    // SAFETY: fsmount(2) takes a descriptor, which lives, and two numbers.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, flags) })
}

/// Sets flags on a whole detached tree and cuts it off from all propagation.
pub(super) fn set_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attr = private(set);
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: mount_setattr(2) reads an empty path and `attr`, whose size is given; both live.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// What is mounted on this mount from now on shows up nowhere else. What shows up on it from
/// elsewhere still does.
pub(crate) fn set_slave(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: 0,
        attr_clr: 0,
        propagation: libc::MS_SLAVE,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads an empty path and `attr`, whose size is given; both live.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// The number that mountinfo(5) has for the mount a descriptor is on; `None` before Linux 5.8.
pub(crate) fn mount_id(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: statx(2) reads an empty path and writes one structure; both live.
    done(unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            libc::STATX_MNT_ID,
            found.as_mut_ptr(),
        )
    })?;
    // SAFETY: all of it is numbers, and was zero before.
    let found = unsafe { found.assume_init() };
    Ok((found.stx_mask & libc::STATX_MNT_ID != 0).then_some(found.stx_mnt_id))
}

/// Attaches a detached mount at the place `target` is a descriptor of, in a mount namespace that is
/// not the host's.
pub(super) fn attach(_: Apart, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: move_mount(2) with two descriptors that live and two empty paths.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// A descriptor of the process of that number in our pid namespace.
pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Closes every descriptor from 3 on. For the start of a program that has opened none yet.
pub(super) fn close_inherited() {
    // SAFETY: close_range(2) takes three numbers; nothing here owns a descriptor it closes.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if done == 0 {
        return;
    }
    // Before Linux 5.9. More than a thousand are nobody's mistake.
    for fd in 3..1024 {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Empties the environment. For a process of one thread.
pub(super) fn clear_environment() {
    // SAFETY: no other thread reads it, and nobody has kept a pointer into it: the arguments
    // are elsewhere.
    unsafe { libc::clearenv() };
}

/// The C library's type of `RLIMIT_*`.
#[cfg(target_env = "gnu")]
pub(super) type Resource = libc::__rlimit_resource_t;
/// The C library's type of `RLIMIT_*`.
#[cfg(not(target_env = "gnu"))]
pub(super) type Resource = libc::c_int;

/// Sets both limits of a resource (`RLIMIT_*`); without the right to raise the hard one, to that one.
pub(super) fn limit(resource: Resource, to: u64) -> io::Result<()> {
    let set = |to| {
        let limit = libc::rlimit {
            rlim_cur: to,
            rlim_max: to,
        };
        // SAFETY: setrlimit(2) reads the structure, which lives.
        done(unsafe { libc::setrlimit(resource, &raw const limit) }.into()).map(drop)
    };
    set(to).or_else(|_| {
        let mut now = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: getrlimit(2) writes the structure, which lives.
        done(unsafe { libc::getrlimit(resource, &raw mut now) }.into())?;
        set(to.min(now.rlim_max))
    })
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

/// No program that is started from here on, whatever its file says, has a capability that is not in
/// `keep` (a bit each). Needs CAP_SETPCAP, so before [`keep_capabilities`].
pub(super) fn bound_capabilities(keep: u64) {
    for capability in 0..64 {
        if keep >> capability & 1 == 0 {
            // SAFETY: prctl(2) with numbers alone.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            if done == -1 && Errno::last() == Errno::EINVAL {
                // Beyond the kernel's last one.
                break;
            }
        }
    }
}

/// Gives up every capability that is not in `keep` (a bit each), for good.
pub(super) fn keep_capabilities(keep: u64) -> io::Result<()> {
    // SAFETY: prctl(2) with numbers alone.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    // _LINUX_CAPABILITY_VERSION_3
    let header = CapHeader {
        version: 0x2008_0522,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: capget(2) writes two structures for this version; both live.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    for (half, data) in data.iter_mut().enumerate() {
        let keep = u32::try_from(keep >> (32 * half) & 0xffff_ffff).unwrap_or(0);
        data.permitted &= keep;
        data.effective = data.permitted;
        data.inheritable = 0;
    }
    // SAFETY: capset(2) reads the same.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// From now on these system calls fail with `EPERM`, here and in whatever would be started.
/// Needs `no_new_privs` or CAP_SYS_ADMIN.
pub(super) fn deny(calls: &[libc::c_long]) -> io::Result<()> {
    let mut code = filter::refusing(calls)?;
    let program = libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: seccomp(2) reads the program, which lives, and `len` instructions behind it.
    done(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })
    .map(drop)
}
