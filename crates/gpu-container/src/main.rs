//! The static binary with all programs that run at a container's start: the OCI runtime shim, the
//! hooks, and `nvidia-container-cli`. The name it is started by selects the program, or the first
//! argument if that name is `gpu-container`.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "tests have their own main"))]

mod applets;
mod cli;
mod exit;
mod hook;
mod host_policy;
mod input;
mod log;
mod nvidia_ctk;
mod oci_bundle;
mod probe;
mod refresh;
mod runtime;
mod start;
mod user_namespace;

#[cfg(not(target_env = "musl"))]
use std::alloc::System;

use start::OrEnd;

/// musl's allocator requests larger blocks from the kernel and returns them at once, which made up
/// half of the shim's system calls.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: OrEnd<dlmalloc::GlobalDlmalloc> = OrEnd(dlmalloc::GlobalDlmalloc);
#[cfg(not(target_env = "musl"))]
#[global_allocator]
static ALLOCATOR: OrEnd<System> = OrEnd(System);
