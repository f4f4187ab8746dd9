//! Sets up standard descriptors and signals at the start of a program that passes them on unchanged.

use std::ffi::c_int;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::result::io_result;

/// Opens /dev/null in place of each closed descriptor among standard input, output and error.
/// Otherwise the next file we open would be mistaken for it. exec(3) closes them again.
pub(crate) fn fill_closed_descriptors() -> io::Result<()> {
    let mut polled = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: poll(2) reads and writes three structures, which live.
    io_result(unsafe { libc::poll(polled.as_mut_ptr(), 3, 0) }.into())?;
    for one in polled
        .iter()
        .filter(|one| one.revents & libc::POLLNVAL != 0)
    {
        // SAFETY: open(2) reads a NUL-terminated path. It uses the lowest free number, which is this one.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd != one.fd {
            let error = io::Error::last_os_error();
            if fd >= 0 {
                // SAFETY: the descriptor was just opened, so nothing else owns it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            return Err(error);
        }
    }
    Ok(())
}

extern "C" fn ignore_signal(_: c_int) {}

/// Installs a handler that does nothing, so that the system call fails instead of this signal ending the process
/// silently. Unlike `SIG_IGN`, a handler is reset by exec(3). A signal that is already ignored stays ignored, even
/// after exec(3).
pub(crate) fn survive_signal(signal: c_int) -> io::Result<()> {
    // SAFETY: all zeros are a `sigaction` without flags, mask and restorer.
    let (mut action, mut previous): (libc::sigaction, libc::sigaction) =
        unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int) = ignore_signal;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: sigaction(2) reads one structure and writes the other; both live. The handler does
    // nothing, so it may interrupt any code.
    io_result(unsafe { libc::sigaction(signal, &raw const action, &raw mut previous) }.into())?;
    if previous.sa_sigaction == libc::SIG_IGN {
        let none = std::ptr::null_mut();
        // SAFETY: sigaction(2) reads a structure that it has returned before.
        io_result(unsafe { libc::sigaction(signal, &raw const previous, none) }.into())?;
    }
    Ok(())
}

/// Sets the signals of a hook, besides those that [`survive_signal`] has set at its start. The engine, runtime or
/// shell may have left signals ignored or blocked, so this unblocks all signals and lets the process end when its
/// time limit or its CPU time limit is reached.
pub(crate) fn set_own_signals() -> io::Result<()> {
    let previous = std::ptr::null_mut();
    for signal in [libc::SIGALRM, libc::SIGXCPU] {
        // SAFETY: all zeros are a `sigaction` with SIG_DFL, without flags, mask and restorer.
        let action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: sigaction(2) reads one structure, which lives.
        let done = unsafe { libc::sigaction(signal, &raw const action, previous) };
        io_result(done.into())?;
    }
    // SAFETY: all zeros are an empty signal set.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: sigprocmask(2) reads a set that lives. The process has one thread.
    let done =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    io_result(done.into()).map(drop)
}
