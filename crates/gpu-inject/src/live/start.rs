//! The first steps of a program that executes another program or runs at a container's start: what it inherits must
//! be passed on unchanged.

use crate::linux::start;

/// To be called first in a `main` that runs without Rust's own start-up, which would leave SIGPIPE
/// ignored, and /dev/null open in place of a closed standard descriptor, across exec(3).
///
/// Afterwards a write to a closed pipe fails with `EPIPE`, and one beyond the file size limit with
/// `EFBIG`, instead of a signal ending the process silently.
pub fn start() {
    // A failure of one of these steps does not keep the program from starting.
    let _ = start::fill_closed_descriptors();
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        let _ = start::survive_signal(signal);
    }
}
