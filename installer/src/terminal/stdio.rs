//! Writes to standard output and standard error, and notes if the result could not be written.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::host::limits;

/// Writes to standard error. Unlike `eprintln`, it does not panic when nobody reads there any more:
/// that must not stop a run half-way.
macro_rules! say {
    (@ $($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($text)*);
    }};
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub(crate) use say;

/// Whether a part of the result was lost, for example because the disk is full.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// Prints the result.
pub fn result(text: &str) {
    bytes(text.as_bytes());
}

/// Prints a result that is not text. A reader that closed the pipe is not an error.
pub fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout();
    if let Err(e) = out.write_all(bytes).and_then(|()| out.flush())
        && e.kind() != std::io::ErrorKind::BrokenPipe
        // Reported only once: later output is lost for the same reason.
        && !IS_CUT.swap(true, Ordering::Relaxed)
    {
        if limits::is_of_size(&e, "write") {
            say!("gpusetup: standard output: {e}; {}", limits::size_fix());
        } else {
            say!("gpusetup: standard output: {e}");
        }
    }
}

/// Whether some of the result could not be written.
pub fn is_cut() -> bool {
    IS_CUT.load(Ordering::Relaxed)
}
