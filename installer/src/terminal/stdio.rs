//! What is written to standard output and standard error.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::host::limits;

/// Writes to standard error. Nobody may be reading there any more, which is no reason to
/// stop in the middle of a run, as `eprintln` would.
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

/// Something of the result is lost: a full disk.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// Prints the result.
pub fn result(text: &str) {
    bytes(text.as_bytes());
}

/// The same for one that is no text. A reader that has gone away is no failure of ours.
pub fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout();
    if let Err(e) = out.write_all(bytes).and_then(|()| out.flush())
        && e.kind() != std::io::ErrorKind::BrokenPipe
        // Said once: what comes after it is lost for the same reason.
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
