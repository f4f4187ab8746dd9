//! Linux system calls that no safe crate offers: the mount API, bpf(2), namespaces by descriptor and dropping
//! privileges. These are the only modules with unsafe code.

use std::io;

#[allow(unsafe_code)]
pub(crate) mod bpf;
#[allow(unsafe_code)]
pub(crate) mod descriptors;
pub(crate) mod kernel_text;
#[allow(unsafe_code)]
pub(crate) mod mount_api;
pub(crate) mod namespace;
#[allow(unsafe_code)]
pub(crate) mod privileges;
pub(crate) mod process;
#[allow(unsafe_code)]
mod result;
pub(crate) mod seccomp_filter;
#[allow(unsafe_code)]
pub(crate) mod start;

/// Whether the error means that a system call is unavailable, because the kernel is too old or a sandbox's seccomp
/// filter refuses the call. Some filters refuse with `EPERM`, which can also mean a missing privilege; in that case
/// the fallback fails with `EPERM` too.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}
