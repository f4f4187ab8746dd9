//! Writing that waits for nobody. Whoever has the other end of our standard error, or of a log,
//! may read it when the container has started, or never; until then a pipe takes 64 KiB and then
//! holds whoever writes.
//!
//! An inherited descriptor is the engine's too, so it is never made non-blocking: each kind has
//! its own way to be written to once without waiting.

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

/// What a pipe with room takes whole (`PIPE_BUF`).
const PIECE: usize = 4096;
/// How long whoever asked for output may leave it unread.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages that nobody had room for.
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// A message on standard error or output. Dropped and counted where there is no room for it;
/// the next one that finds room tells how many were.
pub(super) fn message(to: impl AsFd, text: &str) {
    let to = to.as_fd();
    tell_dropped(to);
    let mut line = String::with_capacity(text.len() + 1);
    line += text;
    line.push('\n');
    for piece in line.as_bytes().chunks(PIECE) {
        if !goes_whole(to, piece) {
            dropped();
            return;
        }
    }
}

/// Says how many messages were dropped, where there were any and there is room now.
pub(super) fn tell_dropped(to: impl AsFd) {
    let count = DROPPED.load(Ordering::Relaxed);
    if count == 0 {
        return;
    }
    let what = if count == 1 { "message" } else { "messages" };
    let line =
        format!("gpu-container: {count} {what} dropped: nobody read them, or the disk is full\n");
    if goes_whole(to.as_fd(), line.as_bytes()) {
        DROPPED.store(0, Ordering::Relaxed);
    }
}

/// At most [`PIECE`] bytes; without memory of its own.
pub(super) fn piece(to: impl AsFd, bytes: &[u8]) {
    let _ = write_once(to.as_fd(), bytes);
}

fn dropped() {
    DROPPED.fetch_add(1, Ordering::Relaxed);
}

fn goes_whole(to: BorrowedFd<'_>, piece: &[u8]) -> bool {
    write_once(to, piece).is_ok_and(|written| written == piece.len())
}

/// What a command was asked for, on standard output: whole, or an error. Whoever reads it may be
/// slow, but not for more than ten seconds without taking anything.
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

/// Writes what there is room for now, at most [`PIECE`]; `EAGAIN` where there is none.
fn write_once(to: BorrowedFd<'_>, piece: &[u8]) -> Result<usize, Errno> {
    match FileType::from_raw_mode(fstat(to)?.st_mode) {
        FileType::RegularFile => write(to, piece),
        FileType::Socket => send(to, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        FileType::Fifo => {
            match pwritev2(to, &[IoSlice::new(piece)], u64::MAX, ReadWriteFlags::NOWAIT) {
                // Pipes know it since Linux 6.4. Before, somebody else who writes to the same pipe
                // between these two calls could take the room.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                    write_where_room(to, piece)
                }
                done => done,
            }
        }
        // A terminal takes a part and waits for the rest to go, unless it is opened anew: then the
        // flag is of this opening alone.
        FileType::CharacterDevice => match reopened(to) {
            Ok(own) => write(own, piece),
            Err(_) => write_where_room(to, piece),
        },
        _ => Err(Errno::INVAL),
    }
}

fn write_where_room(to: BorrowedFd<'_>, piece: &[u8]) -> Result<usize, Errno> {
    if has_room(to, Duration::ZERO) {
        write(to, piece)
    } else {
        Err(Errno::AGAIN)
    }
}

/// A pipe has room for [`PIECE`] where it says that it has any.
fn has_room(to: BorrowedFd<'_>, wait: Duration) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    let wait = Timespec::try_from(wait).unwrap_or_default();
    poll(&mut asked, Some(&wait)).is_ok_and(|n| n > 0)
}

fn reopened(of: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/self/fd/{}", of.as_raw_fd()).map_err(|_| Errno::NAMETOOLONG)?;
    let length = 32 - rest.len();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(&path[..length], flags, Mode::empty())
}

/// A file that lines are added to.
#[derive(Debug)]
pub(crate) struct LogFile(File);

impl LogFile {
    /// `None` for what is there and is no regular file: a FIFO, a terminal or a socket would hold
    /// us, and a device is not written to by mistake.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path);
        match opened {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(Self(file))),
            // A FIFO that nobody reads, a socket.
            Err(e) if e.raw_os_error() != Some(Errno::NXIO.raw_os_error()) => Err(e),
            _ => Ok(None),
        }
    }

    /// A line, or nothing of it is promised: a full disk and a file at its limit keep no
    /// container from starting.
    pub(crate) fn add(&mut self, line: &str) {
        let line = format!("{line}\n");
        if self.0.write(line.as_bytes()).ok() != Some(line.len()) {
            dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Takes until there is no room for a piece.
    fn fill(to: impl AsFd) {
        while goes_whole(to.as_fd(), &[b'x'; PIECE]) {}
    }

    #[test]
    fn a_full_pipe_or_socket_waits_for_nobody_and_hears_later_what_it_missed() {
        // Both in one test: what was dropped is counted for the whole program.
        let (mut from, to) = io::pipe().unwrap();
        fill(&to);
        message(&to, "first");
        message(&to, "second");
        from.read_exact(&mut [0; 2 * PIECE]).unwrap();
        message(&to, "third");
        drop(to);
        let mut heard = String::new();
        from.read_to_string(&mut heard).unwrap();
        let heard = heard.trim_start_matches('x');
        let told =
            "gpu-container: 2 messages dropped: nobody read them, or the disk is full\nthird\n";
        assert_eq!(heard, told);

        let (_from, to) = UnixStream::pair().unwrap();
        fill(&to);
        message(&to, "nobody hears it");
        assert!(write_once(to.as_fd(), b"x") == Err(Errno::AGAIN));
        DROPPED.store(0, Ordering::Relaxed);
    }

    #[test]
    fn a_pipe_is_not_waited_for_where_the_kernel_cannot_ask_it() {
        let (_from, to) = io::pipe().unwrap();
        fill(&to);
        assert_eq!(write_where_room(to.as_fd(), b"x"), Err(Errno::AGAIN));
        let flags = rustix::fs::fcntl_getfl(&to).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "it is the engine's, too");
    }

    #[test]
    fn a_log_is_a_regular_file() {
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
