//! The parsers of the start path need at most 64 MiB for the worst input that they accept, measured by an allocator
//! that counts.
#![allow(clippy::unwrap_used)]

use std::alloc::System;

use cap::Cap;
use gpu_inject::fuzzing::CACHE_LIMIT;
use gpu_inject::rootfs_edits::ld_cache::MergedCache;
use gpusetup_fuzz::find;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const LIMIT: usize = 64 << 20;

/// The most memory that `run` had allocated at once, above what was allocated before.
fn taken(run: impl FnOnce()) -> usize {
    let before = ALLOCATOR.allocated();
    // `max_allocated` never decreases; an allocation beyond the limit aborts.
    let most = ALLOCATOR.max_allocated();
    ALLOCATOR.set_limit(before + LIMIT).unwrap();
    run();
    ALLOCATOR.set_limit(usize::MAX).unwrap();
    ALLOCATOR.max_allocated().max(most) - before
}

/// A cache of this size with as many entries as it can name, whose texts have this length.
fn cache(size: usize, text: usize) -> Vec<u8> {
    let count = (size - 48 - text - 1) / 24;
    // The reader accepts texts of at most four times the file's size altogether.
    let count = count.min(size * 4 / (text * 2).max(1));
    let at = u32::try_from(48 + count * 24).unwrap();
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    let length = u32::try_from(text + 1).unwrap();
    for number in [u32::try_from(count).unwrap(), length, 2, 0, 0, 0, 0] {
        bytes.extend(number.to_ne_bytes());
    }
    for _ in 0..count {
        for number in [0x0303, at, at, 0, 0, 0] {
            bytes.extend(number.to_ne_bytes());
        }
    }
    bytes.extend(vec![b'a'; text]);
    bytes.push(0);
    bytes.resize(size, 0);
    bytes
}

#[test]
fn no_cache_of_an_image_takes_more_than_64_mib() {
    let size = usize::try_from(CACHE_LIMIT).unwrap();
    for text in [1, 16, 40, 1000] {
        let cache = cache(size, text);
        // As a hook does it: what is written goes to a file in pieces.
        let merge = || {
            let ours: [gpu_inject::Library; 0] = [];
            let merged = MergedCache::new(&cache, &ours).unwrap();
            merged.write(&mut std::io::sink()).unwrap();
        };
        let taken = taken(merge) + cache.len();
        println!("texts of {text} bytes: {} KiB", taken >> 10);
        assert!(taken <= LIMIT);
    }
    let mut elf = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    elf.truncate(4 << 20);
    let target = find("elf").unwrap();
    let taken = taken(|| (target.run)(&elf));
    println!("ELF: {} KiB", taken >> 10);
    assert!(taken <= LIMIT);
}
