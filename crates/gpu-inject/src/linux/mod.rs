//! Linux system calls that no safe crate offers: the mount API, bpf(2), namespaces by descriptor,
//! dropping privileges. The only modules with unsafe code.

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

/// Whether the error means that a call is not to be had: the kernel is older, or a sandbox's filter refuses it, of
/// which some say `EPERM`. Whoever lacks a right for it gets `EPERM` from what is done instead, too.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}
