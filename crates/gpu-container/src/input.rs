//! What a runtime tells a hook on standard input: one JSON document, taken until it ends, or its
//! writer does, or the time is up. A runtime that keeps the pipe open would keep us for good.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// The runtime has the document before it starts us; a machine under load may take its time.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is read at a time; a state is less.
const PIECE: usize = 4096;

/// The document, of at most `most` bytes.
pub(crate) fn document(mut from: impl Read + AsFd, most: usize) -> Result<Vec<u8>, String> {
    let mut document = Vec::with_capacity(PIECE);
    let whole = pieces(&mut from, |piece| {
        document.extend_from_slice(piece);
        document.len() <= most
    });
    match whole {
        _ if document.len() > most => Err(format!("longer than {most} bytes")),
        Ok(()) => Ok(document),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            Err(format!("not complete after {} seconds", PATIENCE.as_secs()))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Takes the document, of any length, and keeps none of it.
pub(crate) fn pass_over(mut from: impl Read + AsFd) {
    // Whoever has nothing to do minds nothing.
    let _ = pieces(&mut from, |_| true);
}

/// Hands on what comes, until the document ends, nothing more comes or `goes_on` says no.
fn pieces(from: &mut (impl Read + AsFd), mut goes_on: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let start = Instant::now();
    let mut piece = [0; PIECE];
    let mut document = Nesting::default();
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if !has_something(from, left)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let length = match from.read(&mut piece) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        let piece = &piece[..length];
        if length == 0 || !goes_on(piece) || document.ends_in(piece) {
            return Ok(());
        }
    }
}

/// Whether there is something to read, or the end, before the time is up.
fn has_something(from: &impl AsFd, wait: Duration) -> io::Result<bool> {
    let mut asked = [PollFd::new(from, PollFlags::IN)];
    let wait = Timespec::try_from(wait).unwrap_or_default();
    match poll(&mut asked, Some(&wait)) {
        Ok(0) => Ok(false),
        Ok(_) | Err(Errno::INTR) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// How deep in its objects and lists a JSON text is. Whether it is one, its reader says.
#[derive(Default)]
struct Nesting {
    depth: u64,
    in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    /// Whether the outermost of them ends in this piece.
    fn ends_in(&mut self, piece: &[u8]) -> bool {
        piece.iter().any(|byte| self.ends_with(*byte))
    }

    fn ends_with(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_document_ends_where_its_outermost_object_does() {
        for text in [
            r#"{"a": "}\"}", "b": [{}, []], "c": "\\"}"#,
            r#"{"bundle": "/b"}"#,
            "[[]]",
        ] {
            let mut nesting = Nesting::default();
            let ends: Vec<usize> = text
                .bytes()
                .enumerate()
                .filter(|(_, byte)| nesting.ends_with(*byte))
                .map(|(at, _)| at)
                .collect();
            assert_eq!(ends, [text.len() - 1], "{text}");
        }
    }

    #[test]
    fn a_pipe_that_stays_open_is_waited_for_no_longer_than_its_document() {
        let (from, mut to) = io::pipe().unwrap();
        to.write_all(br#"{"bundle": "#).unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            to.write_all(br#""/b"}"#).unwrap();
            to
        });
        let start = Instant::now();
        assert_eq!(document(&from, 4096).unwrap(), br#"{"bundle": "/b"}"#);
        assert!(start.elapsed() < PATIENCE);
        drop(writer.join());
    }

    #[test]
    fn a_document_that_never_ends_is_an_error() {
        let (from, to) = io::pipe().unwrap();
        let start = Instant::now();
        let error = document(&from, 4096).unwrap_err();
        assert!(error.contains("not complete"), "{error}");
        assert!(start.elapsed() < 2 * PATIENCE);
        drop(to);
        let zero = std::fs::File::open("/dev/zero").unwrap();
        assert!(document(&zero, 1 << 20).unwrap_err().contains("longer"));
        assert_eq!(
            document(std::fs::File::open("/dev/null").unwrap(), 9).unwrap(),
            b""
        );
    }
}
