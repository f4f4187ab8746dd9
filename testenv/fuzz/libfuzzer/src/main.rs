//! The program of all fuzz targets: `GPUSETUP_FUZZ` names the target, so that one build is enough. A parser that
//! needs more than 64 MiB for one input aborts, which is a crash like any other. (libFuzzer's own limits need the
//! address sanitizer for that, or include what libFuzzer keeps of its corpus.)
#![no_main]

use std::alloc::System;
use std::sync::OnceLock;

use cap::Cap;
use gpusetup_fuzz::{Target, find};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// How much memory a parser of the start path may use for one input.
const LIMIT: usize = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("GPUSETUP_FUZZ").unwrap_or_default();
        find(&name).unwrap_or_else(|| panic!("GPUSETUP_FUZZ={name} names no target"))
    });
    let _ = ALLOCATOR.set_limit(ALLOCATOR.allocated() + LIMIT);
    (target.run)(bytes);
    let _ = ALLOCATOR.set_limit(usize::MAX);
});
