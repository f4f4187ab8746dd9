//! What a program of ours finds when it starts, and must hand on as it was.

use std::ffi::c_int;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::result::done;

/// Opens /dev/null in the place of those of standard input, output and error that are closed: what
/// we open next would be taken for them. Closed again by exec(3).
pub(crate) fn fill_closed_descriptors() -> io::Result<()> {
    let mut asked = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: poll(2) reads and writes three structures, which live.
    done(unsafe { libc::poll(asked.as_mut_ptr(), 3, 0) }.into())?;
    for one in asked.iter().filter(|one| one.revents & libc::POLLNVAL != 0) {
        // SAFETY: open(2) reads a NUL-ended path. It takes the lowest number that is free: this one.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if fd != one.fd {
            let error = io::Error::last_os_error();
            if fd >= 0 {
                // SAFETY: it was opened just now and nobody else has it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            return Err(error);
        }
    }
    Ok(())
}

extern "C" fn survive(_: c_int) {}

/// Has a system call fail where this signal would end us without a word: by a handler that does
/// nothing. Unlike `SIG_IGN` it is gone in the program that we become. A signal that is ignored
/// already stays so, there too.
pub(crate) fn survive_signal(signal: c_int) -> io::Result<()> {
    // SAFETY: all zeros are a `sigaction` without flags, mask and restorer.
    let (mut wanted, mut found): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int) = survive;
    wanted.sa_sigaction = handler as usize;
    wanted.sa_flags = libc::SA_RESTART;
    // SAFETY: sigaction(2) reads the one and writes the other; both live. The handler does nothing,
    // which any code may be interrupted by.
    done(unsafe { libc::sigaction(signal, &raw const wanted, &raw mut found) }.into())?;
    if found.sa_sigaction == libc::SIG_IGN {
        let none = std::ptr::null_mut();
        // SAFETY: as above; it is what was there.
        done(unsafe { libc::sigaction(signal, &raw const found, none) }.into())?;
    }
    Ok(())
}

/// Has this signal end us, whatever whoever started us has made of it: ignored and blocked signals are inherited.
pub(crate) fn heed_signal(signal: c_int) -> io::Result<()> {
    // SAFETY: all zeros are a `sigaction` with SIG_DFL, without flags, mask and restorer, and an empty signal set.
    let (wanted, mut set): (libc::sigaction, libc::sigset_t) = unsafe { std::mem::zeroed() };
    let none = std::ptr::null_mut();
    // SAFETY: sigaction(2) reads one structure, which lives.
    done(unsafe { libc::sigaction(signal, &raw const wanted, none) }.into())?;
    // SAFETY: sigaddset(3) writes to a set that lives; sigprocmask(2) reads it. We have one thread.
    unsafe {
        libc::sigaddset(&raw mut set, signal);
        done(libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()).into())
    }
    .map(drop)
}
