//! What the limits of a process (setrlimit(2)) do to a run. A file that may not grow is a full disk:
//! an error of the write, not a signal that kills. Memory that there is not is an end with a line
//! and an exit code, and a run begins only where there is enough of it to be put back.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use rustix::process::{Resource, getrlimit};

use crate::error::Error;

/// What a look at a host of usual size needs, its threads included: below that, memory would run
/// out in the middle, with a line of Rust's that says nothing of a way out.
const TO_LOOK: usize = 24 << 20;
/// What a run needs besides what it writes.
const TO_WRITE: usize = 48 << 20;
/// A text is in the plan, in the journal as JSON, in that of the commit, and in what is read back;
/// a vector that grows is there twice.
const COPIES: usize = 24;

/// Whether files were begun to be written, so that an end is not one with everything as before.
static IS_BEGUN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on these are errors.
pub fn take() {
    // Handlers, and none ignored: that would survive exec(2) into an engine's client or systemctl,
    // and a handler does not. Where none can be set, the kernel's way is as it was.
    let _ = signal_hook::flag::register(Signal::SIGXFSZ as i32, Arc::default());
    // Rust says what memory it did not get, in a line, and aborts. In this order.
    for (code, when) in [
        (3, Arc::clone(&IS_BEGUN)),
        (1, Arc::new(AtomicBool::new(true))),
    ] {
        let abort = Signal::SIGABRT as i32;
        let _ = signal_hook::flag::register_conditional_shutdown(abort, code, when);
    }
}

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

/// Files are about to be written.
pub fn begin() {
    IS_BEGUN.store(true, Ordering::SeqCst);
}

/// They are all as they were, or all as they should be.
pub fn end() {
    IS_BEGUN.store(false, Ordering::SeqCst);
}

/// What to do where memory was refused.
pub fn memory_fix() -> &'static str {
    "raise the limit of this process (`ulimit -v`, `ulimit -d`, MemoryMax= of the service), or make room"
}

/// Whether an error is of the number of files that may be open: EMFILE, ENFILE. Told by its text: a
/// path around it takes its number away, and no kind of error stands for these two.
pub fn is_of_open_files(error: &str) -> bool {
    let numbers = [Errno::EMFILE as i32, Errno::ENFILE as i32];
    numbers
        .iter()
        .any(|n| error.ends_with(&format!("(os error {n})")))
}

/// What to do where no more files may be open.
pub fn open_files_fix() -> &'static str {
    "raise the limit of open files (`ulimit -n`, LimitNOFILE= of the service)"
}

/// Whether an error is of the size that files may have: EFBIG, which only a write can get.
pub fn is_of_size(error: &io::Error, what: &str) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge && !what.starts_with("read")
}

/// What to do where a file may not grow.
pub fn size_fix() -> String {
    match getrlimit(Resource::Fsize).current {
        Some(limit) => format!(
            "files may have at most {limit} bytes here: raise that limit (`ulimit -f`, LimitFSIZE= of the service)"
        ),
        None => "this file system takes no file of that size".into(),
    }
}
