//! Encodes and decodes D-Bus messages, as far as calls to systemd need them
//! (<https://dbus.freedesktop.org/doc/dbus-specification.html>, "Message Protocol").

use std::io::{self, Read};

/// Maximum bytes of a message.
const MAX_MESSAGE: usize = 1 << 20;

/// Types of messages.
const CALL: u8 = 1;
pub(super) const ANSWER: u8 = 2;
pub(super) const ERROR: u8 = 3;

/// Header fields.
pub(super) const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
pub(super) const REPLY_SERIAL: u8 = 5;
const TO: u8 = 6;
pub(super) const SIGNATURE: u8 = 8;

/// A message that was received.
pub(super) struct BusMessage {
    pub(super) kind: u8,
    /// The serial of the call that it answers.
    pub(super) reply_to: Option<u32>,
    pub(super) body: Vec<u8>,
}

impl BusMessage {
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut start = [0; 16];
        from.read_exact(&mut start)?;
        let is_little = start[0] == b'l';
        let word = |at: usize| {
            let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let (body, fields) = (word(4), word(12));
        if !is_little || body > MAX_MESSAGE || fields > MAX_MESSAGE {
            return Err(io::Error::other("systemd's answer cannot be read"));
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        from.read_exact(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        rest.truncate(fields);
        Ok(Self {
            kind: start[1],
            reply_to: reply_serial(&rest),
            body,
        })
    }
}

/// A method call.
pub(super) struct MethodCall<'a> {
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The signature of its arguments.
    pub(super) signature: &'a str,
}

impl MethodCall<'_> {
    pub(super) fn message(&self, to: &str, serial: u32, body: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut message = Writer(vec![b'l', CALL, 0, 1]);
        message.word(length);
        message.word(serial);
        let fields = message.begin_array();
        let first = message.0.len();
        for (code, kind, value) in [
            (PATH, "o", self.path),
            (INTERFACE, "s", self.interface),
            (MEMBER, "s", self.member),
            (TO, "s", to),
        ] {
            message.align(8);
            message.0.push(code);
            message.signature(kind);
            message.text(value);
        }
        if !self.signature.is_empty() {
            message.align(8);
            message.0.push(SIGNATURE);
            message.signature("g");
            message.signature(self.signature);
        }
        message.end_array(fields, first);
        message.align(8);
        message.0.extend_from_slice(body);
        Ok(message.0)
    }
}

/// Writes values in D-Bus encoding, each aligned to a multiple of its size.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn word(&mut self, value: u32) {
        self.align(4);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.word(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// Position of an array's length, which [`Self::end_array`] fills in.
    pub(super) fn begin_array(&mut self) -> usize {
        self.word(0);
        self.0.len() - 4
    }

    /// `first` is the position of the first element.
    pub(super) fn end_array(&mut self, length: usize, first: usize) {
        let bytes = u32::try_from(self.0.len() - first).unwrap_or(u32::MAX);
        self.0[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
    }
}

/// Reads values in D-Bus encoding. A value that is not as expected is `None`.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn next_word(&mut self) -> Option<u32> {
        self.at = self.at.next_multiple_of(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn word(mut self) -> Option<u32> {
        self.next_word()
    }

    pub(super) fn text(mut self) -> Option<String> {
        let length = usize::try_from(self.next_word()?).ok()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn next_signature(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.take(1)?.first()?);
        let signature = self.take(length)?;
        self.take(1)?;
        Some(signature)
    }

    /// Skips this signature, which begins a variant.
    pub(super) fn after_signature(mut self, expected: &str) -> Option<Self> {
        (self.next_signature()? == expected.as_bytes()).then_some(self)
    }
}

/// Reads the header field of a reply that identifies the call it answers. Fields before it are skipped.
fn reply_serial(fields: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(fields);
    loop {
        reader.at = reader.at.next_multiple_of(8);
        let code = *reader.take(1)?.first()?;
        match reader.next_signature()? {
            b"u" => {
                let value = reader.next_word()?;
                if code == REPLY_SERIAL {
                    return Some(value);
                }
            }
            b"g" => drop(reader.next_signature()?),
            b"s" | b"o" => {
                let length = usize::try_from(reader.next_word()?).ok()?;
                reader.take(length.checked_add(1)?)?;
            }
            _ => return None,
        }
    }
}
