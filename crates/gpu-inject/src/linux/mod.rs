//! What Linux has that no safe crate has: the mount API, bpf(2), namespaces by descriptor, and what
//! a process gives up. unsafe is here and nowhere else.

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
