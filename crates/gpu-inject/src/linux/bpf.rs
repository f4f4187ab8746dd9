//! Calls the bpf(2) commands that device cgroup programs need.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::privileges;
use super::result::owned;

/// One instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    /// Destination in the low four bits, source in the high four.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_REPLACE: u32 = 4;
/// Upper bound on the number of instructions. The kernel allows 4096 without CAP_BPF and a million with it; device
/// programs have tens.
const MAX_INSNS: usize = 65_536;
const BPF_F_QUERY_EFFECTIVE: u32 = 1;
/// Twice the kernel's own limit on the programs of one cgroup (`BPF_CGROUP_MAX_PROGS`), because the programs of its
/// ancestors may be listed too. If there are more, the kernel returns `ENOSPC`.
const MAX_PROGRAMS: usize = 128;

/// Calls bpf(2). Every command reads the attribute structure up to its size and the buffers that
/// pointers in it lead to; some commands write to them.
fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: each caller passes the structure that its command expects. The pointers in it lead to buffers that
    // outlive the call and have the sizes given in the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

#[repr(C)]
#[allow(clippy::struct_field_names, reason = "the kernel's names")]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// Ids of the device programs attached to the cgroup itself (not to its ancestors), and the flags with which they
/// were attached.
pub(crate) fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<(Vec<u32>, u32)> {
    query(cgroup, 0)
}

/// Ids of all device programs that a process in the cgroup is subject to: the programs of the cgroup itself and of
/// its ancestors, including ancestors outside our cgroup namespace.
pub(crate) fn effective_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    query(cgroup, BPF_F_QUERY_EFFECTIVE).map(|(ids, _)| ids)
}

fn query(cgroup: BorrowedFd<'_>, query_flags: u32) -> io::Result<(Vec<u32>, u32)> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut query = Query {
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: u32::try_from(MAX_PROGRAMS).unwrap_or(0),
        padding: 0,
    };
    bpf(BPF_PROG_QUERY, &mut query)?;
    let count = (query.prog_cnt as usize).min(MAX_PROGRAMS);
    Ok((ids[..count].to_vec(), query.attach_flags))
}

#[repr(C)]
struct FdById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Opens the program with this id.
pub(crate) fn program(id: u32) -> io::Result<OwnedFd> {
    let mut attr = FdById {
        id,
        next_id: 0,
        open_flags: 0,
    };
    owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)?)
}

/// The start of `struct bpf_prog_info`, up to and including the instructions.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

/// Reads the program's instructions. A device program can be loaded again exactly as the kernel returns it, because
/// the kernel does not rewrite its context accesses (kernel/bpf/cgroup.c, `cg_dev_verifier_ops` has no
/// `convert_ctx_access`).
///
/// `None` if the kernel hides the instructions. It does so if it has blinded their constants
/// (`net.core.bpf_jit_harden` is 2) and hides kernel addresses from us (`kernel.kptr_restrict` is 2, or 1 without
/// `CAP_SYSLOG`).
pub(crate) fn instructions(program: BorrowedFd<'_>) -> io::Result<Option<Vec<Insn>>> {
    let mut info = ProgramInfo::default();
    let query = |info: &mut ProgramInfo| {
        let mut attr = InfoByFd {
            fd: program.as_raw_fd().unsigned_abs(),
            length: u32::try_from(size_of::<ProgramInfo>()).unwrap_or(0),
            info: std::ptr::from_mut(info) as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)
    };
    query(&mut info)?;
    let count = info.xlated_len as usize / size_of::<Insn>();
    if count == 0 || count > MAX_INSNS {
        return Err(io::Error::other(
            "the program's instructions cannot be read; CAP_SYS_ADMIN is needed",
        ));
    }
    let empty = Insn {
        code: 0,
        registers: 0,
        offset: 0,
        immediate: 0,
    };
    let mut code = vec![empty; count];
    info = ProgramInfo {
        xlated_len: info.xlated_len,
        xlated: code.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    query(&mut info)?;
    code.truncate(info.xlated_len as usize / size_of::<Insn>());
    // Without bpf_dump_raw_ok() the kernel returns no instructions (kernel/bpf/syscall.c).
    let is_hidden = info.xlated == 0 || code.iter().all(|i| *i == empty);
    Ok((!is_hidden).then_some(code))
}

#[repr(C)]
struct Load {
    kind: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// Loads a device program.
///
/// Before Linux 5.11 the kernel counts all programs and maps of a user, including those of an eBPF agent, against
/// `RLIMIT_MEMLOCK`, and returns `EPERM` beyond it.
pub(crate) fn load(code: &[Insn]) -> io::Result<OwnedFd> {
    match load_once(code) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
            privileges::lift_memory_lock_limit();
            load_once(code)
        }
        loaded => loaded,
    }
}

fn load_once(code: &[Insn]) -> io::Result<OwnedFd> {
    let mut attr = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        insns: code.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    owned(bpf(BPF_PROG_LOAD, &mut attr)?)
}

#[repr(C)]
#[allow(clippy::struct_field_names, reason = "the kernel's names")]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    padding: u32,
}

/// Replaces the attached program `old` with `new` atomically. If programs were attached with
/// `BPF_F_ALLOW_MULTI`, this needs `BPF_F_REPLACE` (Linux 5.6); a single program is replaced by
/// attaching another.
pub(crate) fn replace(
    cgroup: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    flags: u32,
) -> io::Result<()> {
    const ALLOW_MULTI: u32 = 2;
    let is_multi = flags & ALLOW_MULTI != 0;
    let mut attr = Attach {
        target_fd: cgroup.as_raw_fd().unsigned_abs(),
        attach_bpf_fd: new.as_raw_fd().unsigned_abs(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: if is_multi {
            flags | BPF_F_REPLACE
        } else {
            flags
        },
        replace_bpf_fd: if is_multi {
            old.as_raw_fd().unsigned_abs()
        } else {
            0
        },
        padding: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}
