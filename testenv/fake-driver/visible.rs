//! What the calling process may use: the device nodes that it can open.
//!
//! There is no driver behind the nodes: an allowed open fails with ENXIO, one that the device cgroup forbids with
//! EPERM before that, and one in a container without the node with ENOENT.

use std::fs::OpenOptions;
use std::sync::OnceLock;

use crate::wire::{Gpu, MAGIC, SIZE, Slice, Wire};

#[allow(clippy::large_stack_arrays, reason = "evaluated at compile time")]
const fn empty() -> [u8; SIZE] {
    let mut buffer = [0; SIZE];
    let mut at = 0;
    while at < MAGIC.len() {
        buffer[at] = MAGIC[at];
        at += 1;
    }
    buffer
}

/// Overwritten in the installed file, so it must be read as the file has it and not as compiled.
static DESCRIPTION: [u8; SIZE] = empty();

fn driver() -> &'static Wire {
    static DRIVER: OnceLock<Wire> = OnceLock::new();
    DRIVER.get_or_init(|| {
        let buffer = std::hint::black_box(&DESCRIPTION);
        Wire::from_text(&buffer[MAGIC.len()..])
    })
}

/// Whether a node below /dev (or `$FAKE_DRIVER_DEV`) can be opened.
pub fn opens(name: &str) -> bool {
    let dev = std::env::var("FAKE_DRIVER_DEV").unwrap_or_else(|_| "/dev".into());
    match OpenOptions::new()
        .read(true)
        // Capability nodes are read-only, even for root in a user namespace.
        .write(!name.starts_with("nvidia-caps/"))
        .open(format!("{dev}/{name}"))
    {
        Ok(_) => true,
        Err(e) => e.raw_os_error() == Some(libc::ENXIO),
    }
}

/// The driver as this process sees it: GPUs and slices whose nodes open.
pub fn now() -> Wire {
    let is_whole = |slice: &Slice| {
        slice
            .caps
            .iter()
            .all(|c| opens(&format!("nvidia-caps/nvidia-cap{c}")))
    };
    let gpus = driver()
        .gpus
        .iter()
        .filter(|g| opens(&format!("nvidia{}", g.minor)));
    Wire {
        gpus: gpus
            .map(|gpu| Gpu {
                mig: gpu.mig.iter().filter(|s| is_whole(s)).cloned().collect(),
                ..gpu.clone()
            })
            .collect(),
        ..driver().clone()
    }
}

/// Whether the GPU is partitioned, even if none of its slices can be seen.
#[allow(dead_code, reason = "the CUDA library has no use for it")]
pub fn is_partitioned(uuid: &str) -> bool {
    driver()
        .gpus
        .iter()
        .any(|g| g.uuid == uuid && !g.mig.is_empty())
}
