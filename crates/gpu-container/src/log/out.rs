//! Writes without blocking. The reader of our standard error or of a log may read only after the
//! container has started, or never; a pipe takes 64 KiB and then blocks the writer.
//!
//! An inherited descriptor is shared with the engine, so it is never made non-blocking. Instead each
//! type of file has its own way of writing once without blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, ReadWriteFlags, pwritev2, write};
use rustix::net::{SendFlags, send};

/// Maximum bytes of one write. A pipe with space takes so much as a whole (`PIPE_BUF`).
const PIECE: usize = 4096;
/// How long the reader of requested output may take to read more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Number of messages that were dropped.
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Writes a message to standard error or output. If it cannot be written without blocking it is
/// dropped and counted; the next message that can be written reports the count.
pub(super) fn message(to: impl AsFd, text: &str) {
    let to = to.as_fd();
    tell_dropped(to);
    let mut line = String::with_capacity(text.len() + 1);
    line += text;
    line.push('\n');
    for piece in line.as_bytes().chunks(PIECE) {
        if !is_written(to, piece) {
            count_dropped();
            return;
        }
    }
}

/// Reports how many messages were dropped, if there were any and it can be written now.
pub(super) fn tell_dropped(to: impl AsFd) {
    let count = DROPPED.load(Ordering::Relaxed);
    if count == 0 {
        return;
    }
    let what = if count == 1 { "message" } else { "messages" };
    let line =
        format!("gpu-container: {count} {what} dropped: nobody read them, or the disk is full\n");
    if is_written(to.as_fd(), line.as_bytes()) {
        DROPPED.store(0, Ordering::Relaxed);
    }
}

/// At most [`PIECE`] bytes; without memory of its own.
pub(super) fn piece(to: impl AsFd, bytes: &[u8]) {
    let _ = write_once(to.as_fd(), bytes);
}

fn count_dropped() {
    DROPPED.fetch_add(1, Ordering::Relaxed);
}

fn is_written(to: BorrowedFd<'_>, piece: &[u8]) -> bool {
    write_once(to, piece).is_ok_and(|written| written == piece.len())
}

/// Writes the requested output of a command to standard output: all of it, or an error. The reader
/// may be slow, but must read something every ten seconds.
pub(crate) fn output(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    let to = stdout.as_fd();
    while !bytes.is_empty() {
        match write_once(to, &bytes[..bytes.len().min(PIECE)]) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if has_room(to, PATIENCE) => {}
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Writes as much as possible without blocking, at most [`PIECE`]; `EAGAIN` if nothing can be written.
fn write_once(to: BorrowedFd<'_>, piece: &[u8]) -> Result<usize, Errno> {
    match FileType::from_raw_mode(fstat(to)?.st_mode) {
        FileType::RegularFile => write(to, piece),
        FileType::Socket => send(to, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        FileType::Fifo => {
            match pwritev2(to, &[IoSlice::new(piece)], u64::MAX, ReadWriteFlags::NOWAIT) {
                // Before Linux 6.4 pipes do not support NOWAIT. Then another process that writes to
                // the same pipe between our two calls could make ours block.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                    write_if_room(to, piece)
                }
                done => done,
            }
        }
        // Writing to a terminal can block in the middle. It is reopened, so that O_NONBLOCK applies
        // only to our own open file.
        FileType::CharacterDevice => match reopened(to) {
            Ok(own) => write(own, piece),
            Err(_) => write_if_room(to, piece),
        },
        _ => Err(Errno::INVAL),
    }
}

fn write_if_room(to: BorrowedFd<'_>, piece: &[u8]) -> Result<usize, Errno> {
    if has_room(to, Duration::ZERO) {
        write(to, piece)
    } else {
        Err(Errno::AGAIN)
    }
}

/// Waits until the file can be written to. A pipe that reports any space has space for [`PIECE`].
fn has_room(to: BorrowedFd<'_>, wait: Duration) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    let wait = Timespec::try_from(wait).unwrap_or_default();
    poll(&mut polled, Some(&wait)).is_ok_and(|n| n > 0)
}

fn reopened(of: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/self/fd/{}", of.as_raw_fd()).map_err(|_| Errno::NAMETOOLONG)?;
    let length = 32 - rest.len();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(&path[..length], flags, Mode::empty())
}

/// A log file, opened for appending.
#[derive(Debug)]
pub(crate) struct LogFile(File);

impl LogFile {
    /// Opens or makes the file. `None` if it is not a regular file: a FIFO, terminal or socket could
    /// block us, and a device must not be written to by mistake.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path);
        match opened {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(Self(file))),
            // ENXIO: a FIFO without a reader, or a socket.
            Err(e) if e.raw_os_error() != Some(Errno::NXIO.raw_os_error()) => Err(e),
            _ => Ok(None),
        }
    }

    /// Appends a line. Errors are only counted: a full disk or a file at its size limit must not keep
    /// a container from starting.
    pub(crate) fn add(&mut self, line: &str) {
        let line = format!("{line}\n");
        if self.0.write(line.as_bytes()).ok() != Some(line.len()) {
            count_dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Writes until there is no space for another piece.
    fn fill(to: impl AsFd) {
        while is_written(to.as_fd(), &[b'x'; PIECE]) {}
    }

    #[test]
    fn a_full_pipe_or_socket_does_not_block_and_dropped_messages_are_reported() {
        // One test for both, because the count of dropped messages is global.
        let (mut from, to) = io::pipe().unwrap();
        fill(&to);
        message(&to, "first");
        message(&to, "second");
        from.read_exact(&mut [0; 2 * PIECE]).unwrap();
        message(&to, "third");
        drop(to);
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        let text = text.trim_start_matches('x');
        let expected =
            "gpu-container: 2 messages dropped: nobody read them, or the disk is full\nthird\n";
        assert_eq!(text, expected);

        let (_from, to) = UnixStream::pair().unwrap();
        fill(&to);
        message(&to, "nobody hears it");
        assert!(write_once(to.as_fd(), b"x") == Err(Errno::AGAIN));
        DROPPED.store(0, Ordering::Relaxed);
    }

    #[test]
    fn a_full_pipe_does_not_block_without_nowait() {
        let (_from, to) = io::pipe().unwrap();
        fill(&to);
        assert_eq!(write_if_room(to.as_fd(), b"x"), Err(Errno::AGAIN));
        let flags = rustix::fs::fcntl_getfl(&to).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "it is the engine's, too");
    }

    #[test]
    fn only_a_regular_file_is_opened_as_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path).unwrap().unwrap();
        log.add("a line");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a line\n");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(LogFile::open(&fifo).unwrap().is_none());
        let _reader = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&fifo)
            .unwrap();
        assert!(LogFile::open(&fifo).unwrap().is_none());
        assert!(LogFile::open("/dev/null".as_ref()).unwrap().is_none());
        assert!(LogFile::open(&dir.path().join("none/log")).is_err());
    }
}
