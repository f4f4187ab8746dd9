//! The one program of all targets: `GPUSETUP_FUZZ` names which. One build instead of twenty.
#![no_main]

use std::sync::OnceLock;

use gpusetup_fuzz::{Target, find};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("GPUSETUP_FUZZ").unwrap_or_default();
        find(&name).unwrap_or_else(|| panic!("GPUSETUP_FUZZ={name} names no target"))
    });
    (target.run)(bytes);
});
