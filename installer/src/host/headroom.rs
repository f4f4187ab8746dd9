//! Whether there is room enough, in memory and for the size of files, before a run begins.

use std::hint::black_box;

use rustix::process::{Resource, getrlimit};

use crate::error::Error;
use crate::host::limits::{memory_fix, size_fix};

/// What a look at a host of usual size needs, its threads included: below that, memory would run
/// out in the middle, with a line of Rust's that says nothing of a way out.
const TO_LOOK: usize = 24 << 20;

/// What a run needs besides what it writes.
const TO_WRITE: usize = 48 << 20;

/// A text is in the plan, in the journal as JSON, in that of the commit, and in what is read back;
/// a vector that grows is there twice.
const COPIES: usize = 24;

/// Refuses to begin where there is hardly any memory.
pub fn ensure_memory_to_look() -> Result<(), Error> {
    ensure_memory(TO_LOOK)
}

/// Refuses to begin where memory for so much text would run out on the way: once files are
/// written it would also be missing for putting them back.
pub fn ensure_memory_to_write(text: usize) -> Result<(), Error> {
    ensure_memory(text.saturating_mul(COPIES).saturating_add(TO_WRITE))
}

fn ensure_memory(wanted: usize) -> Result<(), Error> {
    let mut room: Vec<u8> = Vec::new();
    let is_there = room.try_reserve_exact(wanted).is_ok();
    // Or the compiler leaves it out.
    black_box(&room);
    if is_there {
        return Ok(());
    }
    Err(Error::failed(
        format!(
            "not enough memory: {} MiB more are needed",
            wanted.div_ceil(1 << 20)
        ),
        memory_fix(),
    ))
}

/// Refuses to put files back where one of them is longer than files may be here: the others would
/// be back and that one not. A run needs no such look, since its journal is longer than each.
pub fn ensure_file_size<'a>(texts: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let longest = texts.map(str::len).max().unwrap_or_default();
    let limit = getrlimit(Resource::Fsize).current;
    if limit.is_none_or(|limit| longest as u64 <= limit) {
        return Ok(());
    }
    Err(Error::failed(
        format!("a file of {longest} bytes is to be put back"),
        size_fix(),
    ))
}
