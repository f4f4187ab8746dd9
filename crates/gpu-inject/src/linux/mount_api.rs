//! The mount API of Linux 5.2: makes mounts, sets their flags and attaches them by descriptor. If the kernel or a
//! sandbox does not offer it, mount(2) does the same through the descriptors' names in procfs (`rootfs/stage.rs`).

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::NixPath;

use super::namespace::Apart;
use super::result::{io_result, owned};

/// `MOUNT_ATTR_*` of linux/mount.h.
pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes a detached bind mount of `path`, including everything mounted below it.
pub(crate) fn open_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE.unsigned_abs();
    path.with_nix_path(|path| {
        // SAFETY: open_tree(2) reads a NUL-terminated path, which outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
    })?
}

/// Whether the kernel has `open_tree(2)` and `mount_setattr(2)` and no seccomp filter forbids them. Both are called
/// with an invalid descriptor: they fail with EBADF only if they are available.
pub(crate) fn has_mount_api() -> bool {
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
    let flags = io_result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            -1,
            c"x".as_ptr(),
            0,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    });
    let is_available = |e: io::Error| e.raw_os_error() == Some(libc::EBADF);
    tree.err().is_some_and(is_available) && flags.err().is_some_and(is_available)
}

fn private(set: u64) -> MountAttr {
    MountAttr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    }
}

/// Makes a detached bind mount of the file `name` in `dir`, without anything mounted below it.
pub(crate) fn open_tree_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW.unsigned_abs();
    // SAFETY: open_tree(2) reads a NUL-terminated name; it and the descriptor outlive the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), name.as_ptr(), flags) })
}

/// Makes a detached tmpfs of at most `size` bytes, `nosuid,nodev,noexec`.
pub(crate) fn tmpfs(size: u64) -> io::Result<OwnedFd> {
    const CLOEXEC: libc::c_uint = 1; // FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
    const SET_STRING: libc::c_uint = 1; // FSCONFIG_SET_STRING
    const CREATE: libc::c_uint = 6; // FSCONFIG_CMD_CREATE
    // SAFETY: fsopen(2) reads a NUL-ended name.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), CLOEXEC) })?;
    let size = CString::new(size.to_string())?;
    for (key, value) in [(c"mode", c"0755"), (c"size", size.as_c_str())] {
        // SAFETY: fsconfig(2) reads two NUL-ended texts, which live.
        io_result(unsafe {
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
    io_result(unsafe {
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

/// Sets flags on all mounts of a detached tree and makes their propagation private.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attr = private(set);
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: mount_setattr(2) reads an empty path and `attr`, whose size is given; both live.
    io_result(unsafe {
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

/// Makes the mount a slave: later mounts on it do not propagate to its peers, but mounts on its peers still propagate
/// to it.
pub(crate) fn set_slave(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: 0,
        attr_clr: 0,
        propagation: libc::MS_SLAVE,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads an empty path and `attr`, whose size is given; both live.
    io_result(unsafe {
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

/// The mount ID, as in mountinfo(5), of the mount on which a descriptor was opened; `None` before Linux 5.8.
pub(crate) fn mount_id(fd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut statx = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: statx(2) reads an empty path and writes one structure; both live.
    io_result(unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            libc::STATX_MNT_ID,
            statx.as_mut_ptr(),
        )
    })?;
    // SAFETY: the structure has only numbers and was zeroed.
    let statx = unsafe { statx.assume_init() };
    Ok((statx.stx_mask & libc::STATX_MNT_ID != 0).then_some(statx.stx_mnt_id))
}

/// Attaches a detached mount at `target`. The argument of type [`Apart`] proves that the current mount namespace is
/// not the host's.
pub(crate) fn attach(_: Apart, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: move_mount(2) reads two empty paths; the descriptors outlive the call.
    io_result(unsafe {
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
