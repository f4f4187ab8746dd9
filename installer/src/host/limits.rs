//! Makes the limits of a process (setrlimit(2)) harmless to a run.
//!
//! If a file may not grow, that is treated like a full disk: the write fails, and no signal kills
//! the process. If memory runs out, the process ends with a message and an exit code, and a run
//! begins only if there is enough memory to roll it back.

use std::io;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use rustix::process::{Resource, getrlimit};

/// Whether writing files has begun, so that an abort cannot claim that nothing was changed.
static IS_BEGUN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on, exceeding a limit is an error.
pub fn take() {
    // The signal is handled, not ignored: an ignored signal stays ignored across exec(2) in an
    // engine's client or in systemctl, a handler does not. If no handler can be set, the kernel's
    // default applies as before.
    let _ = signal_hook::flag::register(Signal::SIGXFSZ as i32, Arc::default());
    // When memory runs out, Rust prints a line and aborts. The order of these two matters.
    for (code, when) in [
        (3, Arc::clone(&IS_BEGUN)),
        (1, Arc::new(AtomicBool::new(true))),
    ] {
        let abort = Signal::SIGABRT as i32;
        let _ = signal_hook::flag::register_conditional_shutdown(abort, code, when);
    }
}

/// Records that files are about to be written.
pub fn begin() {
    IS_BEGUN.store(true, Ordering::SeqCst);
}

/// Records that all files are as they were before the run, or as they should be after it.
pub fn end() {
    IS_BEGUN.store(false, Ordering::SeqCst);
}

/// What to do if memory was refused.
pub fn memory_fix() -> &'static str {
    "raise the limit of this process (`ulimit -v`, `ulimit -d`, MemoryMax= of the service), or make room"
}

/// Whether an error is about the number of open files: EMFILE, ENFILE. It is recognized by its
/// text: adding the path to an error drops its number, and no `ErrorKind` stands for these two.
pub fn is_of_open_files(error: &str) -> bool {
    let numbers = [Errno::EMFILE as i32, Errno::ENFILE as i32];
    numbers
        .iter()
        .any(|n| error.ends_with(&format!("(os error {n})")))
}

/// What to do if no more files may be open.
pub fn open_files_fix() -> &'static str {
    "raise the limit of open files (`ulimit -n`, LimitNOFILE= of the service)"
}

/// Whether an error is about the size that files may have: EFBIG, which only a write can get.
pub fn is_of_size(error: &io::Error, what: &str) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge && !what.starts_with("read")
}

/// What to do if a file may not grow.
pub fn size_fix() -> String {
    match getrlimit(Resource::Fsize).current {
        Some(limit) => format!(
            "files may have at most {limit} bytes here: raise that limit (`ulimit -f`, LimitFSIZE= of the service)"
        ),
        None => "this file system takes no file of that size".into(),
    }
}
