//! Checks, before a run begins, that there is enough memory and that files may be large enough.

use std::hint::black_box;

use rustix::process::{Resource, getrlimit};

use crate::error::Error;

/// The memory needed to inspect a typical host, threads included. With less, the process would run
/// out of memory half-way, and Rust's message would not tell what to do.
const TO_LOOK: usize = 24 << 20;

/// The memory that a run needs in addition to the texts that it writes.
const TO_WRITE: usize = 48 << 20;

/// How many copies of a text are in memory at once: it is in the plan, as JSON in the journal, in
/// the journal's commit, and in what is read back, and a growing vector exists twice.
const COPIES: usize = 24;

/// Fails if there is hardly any memory.
pub fn ensure_memory_to_look() -> Result<(), Error> {
    ensure_memory(TO_LOOK)
}

/// Fails if there is not enough memory for that much text. Running out later would also prevent a
/// rollback of the files already written.
pub fn ensure_memory_to_write(text: usize) -> Result<(), Error> {
    ensure_memory(text.saturating_mul(COPIES).saturating_add(TO_WRITE))
}

fn ensure_memory(wanted: usize) -> Result<(), Error> {
    let mut room: Vec<u8> = Vec::new();
    let is_there = room.try_reserve_exact(wanted).is_ok();
    // Otherwise the compiler removes the allocation.
    black_box(&room);
    if is_there {
        return Ok(());
    }
    Err(Error::Memory {
        mib: wanted.div_ceil(1 << 20),
    })
}

/// Fails if one of the files to roll back is larger than files may be here: the others would be
/// rolled back and that one not. A run needs no such check, since its journal is larger than each
/// of its files.
pub fn ensure_file_size<'a>(texts: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let longest = texts.map(str::len).max().unwrap_or_default();
    let limit = getrlimit(Resource::Fsize).current;
    if limit.is_none_or(|limit| longest as u64 <= limit) {
        return Ok(());
    }
    Err(Error::FileSize { bytes: longest })
}
