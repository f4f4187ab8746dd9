//! What the limits of a process (setrlimit(2)) do to a run. A file that may not grow is a full disk:
//! an error of the write, not a signal that kills. Memory that there is not is an end with a line
//! and an exit code, and a run begins only where there is enough of it to be put back.

use std::io;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use rustix::process::{Resource, getrlimit};

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
