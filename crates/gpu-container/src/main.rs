//! One static binary for everything at a container's start: which program it is, its
//! name says, or the first argument where the name is `gpu-container`.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "the tests have a main of their own"))]

mod applets;
mod cli;
mod exit;
mod hook;
mod input;
mod log;
mod nvidia_ctk;
mod oci_bundle;
mod probe;
mod refresh;
mod runtime;
mod start;

#[cfg(not(target_env = "musl"))]
use std::alloc::System;

use start::OrEnd;

/// musl's own asks the kernel for every larger piece and gives it back at once: half of the
/// shim's system calls.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: OrEnd<dlmalloc::GlobalDlmalloc> = OrEnd(dlmalloc::GlobalDlmalloc);
#[cfg(not(target_env = "musl"))]
#[global_allocator]
static ALLOCATOR: OrEnd<System> = OrEnd(System);
