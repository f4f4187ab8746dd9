//! How a program starts that will become another one, or be one at a container's start: what it
//! was started with goes on as it was.

use crate::linux::start;

/// Before anything else is done in `main`, where Rust's own start-up has not run: that would have
/// SIGPIPE ignored, and open /dev/null for good where standard error is closed.
///
/// From here on a write fails where nobody reads any more (`EPIPE`) and where a file may get no
/// longer (`EFBIG`), instead of ending us without a word.
pub fn start() {
    // Where one of these does not work we start all the same.
    let _ = start::fill_closed_descriptors();
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        let _ = start::survive_signal(signal);
    }
}
