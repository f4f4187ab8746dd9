//! The lock that lets only one run at a time change this host.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use nix::fcntl::{self, OFlag};
use nix::sys::stat::{self, Mode};

use crate::error::Error;
use crate::files::resolved_path::ResolvedPath;
use crate::host::{Host, timestamp};
use crate::transaction::refresh_due;

/// Held until dropped. The kernel releases it even if the process is killed.
pub struct Lock {
    /// `None` only while it is dropped.
    file: Option<File>,
    host: Host,
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.file.take());
        if self.host.user().is_none() {
            refresh_due::start(&self.host);
        }
    }
}

/// Takes the lock, or fails with an error that names its holder. It does not wait: the other run
/// may change the host, and our plan would then be out of date.
pub fn take(host: &Host) -> Result<Lock, Error> {
    let path = host.lock_file();
    let failed = |what| Error::file(&path, what);
    let file = open(host).map_err(failed("open"))?;
    file.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => Error::Locked {
            path: path.clone(),
            holder: holder(&file),
        },
        TryLockError::Error(e) => failed("lock")(e),
    })?;
    // The file's modification time tells others since when the lock is held. Failing to set it is
    // no reason to stop.
    let _ = file.set_modified(SystemTime::now());
    Ok(Lock {
        file: Some(file),
        host: host.clone(),
    })
}

/// Fails if another run holds the lock. It is not taken, not even for a moment: a run that begins just then would fail.
pub fn ensure_free(host: &Host) -> Result<(), Error> {
    let path = host.lock_file();
    // Nobody has ever taken a lock that is missing. One that cannot be opened has another user's state, and so has its
    // journal, which this user has not seen.
    let Ok(file) = host.root().open_file(&path) else {
        return Ok(());
    };
    match holder(&file) {
        None => Ok(()),
        holder => Err(Error::Locked { path, holder }),
    }
}

/// Follows no link: we would open its target, wherever that is, with our privileges.
fn open(host: &Host) -> io::Result<File> {
    let place = ResolvedPath::of_link(host, &host.lock_file())?;
    let (dir, _) = place.make(host)?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o600);
    Ok(fcntl::openat(&dir, place.name.as_os_str(), flags, mode)?.into())
}

/// The process that holds the lock. The kernel names it, so it is never a process that has ended.
/// `None` if it runs in another PID namespace, or has just released the lock.
fn holder(file: &File) -> Option<String> {
    let metadata = file.metadata().ok()?;
    let (dev, inode) = (metadata.dev(), metadata.ino());
    let place = format!("{:02x}:{:02x}:{inode}", stat::major(dev), stat::minor(dev));
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|l| holder_in(l, &place))?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    Some(format!(
        "process {pid} ({}), since {}",
        line.trim_end(),
        timestamp::text(metadata.modified().ok()?)?
    ))
}

/// The holder in a line of /proc/locks (`proc_locks(5)`): `1: FLOCK ADVISORY WRITE 708 00:1a:1234 0
/// EOF`.
fn holder_in(line: &str, place: &str) -> Option<i32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [_, "FLOCK", _, "WRITE", pid, at, ..] if at == place => pid.parse().ok().filter(|p| *p > 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_of_this_lock_file_is_named() {
        let line = "3: FLOCK  ADVISORY  WRITE 708 fe:00:1234 0 EOF";
        assert_eq!(holder_in(line, "fe:00:1234"), Some(708));
        assert_eq!(holder_in(line, "fe:00:234"), None);
        assert_eq!(holder_in(&line.replace("708", "0"), "fe:00:1234"), None);
        // A process that waits for the lock.
        assert_eq!(
            holder_in(&line.replace("FLOCK", "-> FLOCK"), "fe:00:1234"),
            None
        );
        assert_eq!(holder_in("", "fe:00:1"), None);
    }
}
