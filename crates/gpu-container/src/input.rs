//! Reads the JSON document that a runtime gives a hook on standard input. Reading stops when the
//! document is complete, at the end of the input, or when the time is up. Waiting for the end of
//! the input would hang with a runtime that keeps the pipe open.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Time limit. The runtime has the document before it starts the hook, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are read at a time; a container state is shorter.
const CHUNK: usize = 4096;

/// Reads the document, of at most `most` bytes.
pub(crate) fn document(mut from: impl Read + AsFd, most: usize) -> Result<Vec<u8>, String> {
    let mut document = Vec::with_capacity(CHUNK);
    let result = read_chunks(&mut from, |piece| {
        document.extend_from_slice(piece);
        document.len() <= most
    });
    match result {
        _ if document.len() > most => Err(format!("longer than {most} bytes")),
        Ok(()) => Ok(document),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            Err(format!("not complete after {} seconds", PATIENCE.as_secs()))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Reads and discards the document, of any length.
pub(crate) fn discard(mut from: impl Read + AsFd) {
    // For a hook with nothing to do an incomplete document is no error.
    let _ = read_chunks(&mut from, |_| true);
}

/// Passes the input to `goes_on` in chunks, until the document or the input ends or `goes_on`
/// returns false.
fn read_chunks(
    from: &mut (impl Read + AsFd),
    mut goes_on: impl FnMut(&[u8]) -> bool,
) -> io::Result<()> {
    let start = Instant::now();
    let mut chunk = [0; CHUNK];
    let mut nesting = Nesting::default();
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if !is_readable(from, left)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let length = match from.read(&mut chunk) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        let chunk = &chunk[..length];
        if length == 0 || !goes_on(chunk) || nesting.ends_in(chunk) {
            return Ok(());
        }
    }
}

/// Waits until there is input or the end of it. False if the time is up.
fn is_readable(from: &impl AsFd, wait: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::new(from, PollFlags::IN)];
    let wait = Timespec::try_from(wait).unwrap_or_default();
    match poll(&mut polled, Some(&wait)) {
        Ok(0) => Ok(false),
        Ok(_) | Err(Errno::INTR) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Tracks the nesting depth in a JSON text. Does not check whether the text is valid.
#[derive(Default)]
struct Nesting {
    depth: u64,
    in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    /// Whether the outermost object or list ends in this chunk.
    fn ends_in(&mut self, chunk: &[u8]) -> bool {
        chunk.iter().any(|byte| self.ends_with(*byte))
    }

    /// Whether the outermost object or list ends with this byte.
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
    fn a_document_ends_with_its_outermost_object() {
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
    fn reading_does_not_wait_for_a_pipe_to_close() {
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
