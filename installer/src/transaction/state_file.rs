//! Reads and writes the two state files, the journal and the receipt: a checksum covers their
//! content, and a file whose checksum does not match is refused.
//!
//! They have schema 2, so that an older gpusetup refuses them too: it expects a list in `changes`,
//! finds a string, and shows that string in its error.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::error::state_fault::{Fault, SCHEMA};
use crate::files::atomic_write;
use crate::host::Host;

/// Smaller than the limit for reading: a file that could not be read again could not be rolled
/// back.
const LIMIT: usize = 60 << 20;

/// The text that a gpusetup that knows only schema 1 shows. It puts `invalid type: string "…",
/// expected a sequence` around it.
const TO_OLDER: &str = "of a newer gpusetup, which this one cannot read; \
install that version again, and run `gpusetup undo` there before you go back to an older one";

/// A SHA-256 sum in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sum(String);

impl Sum {
    /// The checksum of a text.
    pub fn of(text: &str) -> Self {
        Self::of_parts(&[text])
    }

    /// The checksum of a file's content. It includes the file's name, so that a receipt cannot pass
    /// for a journal.
    fn of_content(name: &str, content: &str) -> Self {
        Self::of_parts(&[name, "\n", content])
    }

    fn of_parts(parts: &[&str]) -> Self {
        let mut sum = Sha256::new();
        for part in parts {
            sum.update(part.as_bytes());
        }
        Self(sum.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
}

/// A value that is read from a state file and then checked; see [`crate::transaction::stored`].
pub trait Checked: Sized {
    /// Its form on disk, not yet checked.
    type Stored: DeserializeOwned + Serialize;

    /// Checks what was read. An error lists the entries whose text is not the one that was written.
    fn checked(stored: Self::Stored, has_sums: bool) -> Result<Self, Lacks>;

    /// The form to write to disk.
    fn stored(&self) -> Self::Stored;
}

/// The part of a file that tells its schema.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

/// The part of a file with a later schema that tells which version wrote it, if it does.
#[derive(Deserialize)]
struct Later {
    version: Option<String>,
}

/// A file of schema 2.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(rename = "schema")]
    _schema: u32,
    #[serde(rename = "version")]
    _version: String,
    #[serde(rename = "changes")]
    _to_older: String,
    sha256: Sum,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// A file of schema 2, in the form in which it is written.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    version: &'a str,
    changes: &'a str,
    sha256: Sum,
    content: &'a RawValue,
}

/// Reads one of the files in the state directory; `None` if there is none.
pub fn load<T: Checked>(host: &Host, name: &str) -> Result<Option<T>, Error> {
    let path = host.state(name);
    let damaged = |what: String| Error::StateFile {
        path: path.clone(),
        fault: Fault::Damaged(what),
    };
    let unreachable = |what: String| Error::StateFile {
        path: path.clone(),
        fault: Fault::Unreachable(what),
    };
    let bytes = match host.root().read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return match dangling_link(host, &path)? {
                None => Ok(None),
                Some(what) => Err(unreachable(what)),
            };
        }
        Err(e) if e.kind() == ErrorKind::FileTooLarge => return Err(damaged(e.to_string())),
        Err(e) if is_something_else(host, &path) => return Err(unreachable(e.to_string())),
        Err(e) => return Err(Error::file(&path, "read")(e)),
    };
    parse(name, &bytes)
        .map(Some)
        .map_err(|fault| Error::StateFile { path, fault })
}

/// Whether the file, or a directory on the way to it, is a link whose target does not exist, for
/// example because a disk is not mounted. The file may then exist although it cannot be found.
fn dangling_link(host: &Host, path: &Path) -> Result<Option<String>, Error> {
    for part in path.ancestors() {
        match host.root().symlink_metadata(part) {
            // This link's target is missing.
            Ok(metadata) if metadata.is_symlink() && is_missing(host, part)? => {
                let target = host
                    .root()
                    .read_link(part)
                    .map_err(Error::file(part, "read"))?;
                let (part, target) = (part.display(), target.display());
                return Ok(Some(format!(
                    "{part} is a link to {target}, which is not there"
                )));
            }
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::file(part, "read")(e)),
        }
    }
    Ok(None)
}

fn is_missing(host: &Host, path: &Path) -> Result<bool, Error> {
    match host.root().metadata(path) {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::file(path, "read")(e)),
    }
}

/// Whether the path is a directory, a socket, a FIFO or a link, or has a file where a directory
/// should be.
fn is_something_else(host: &Host, path: &Path) -> bool {
    match host.root().symlink_metadata(path) {
        Ok(metadata) => !metadata.is_file(),
        Err(e) => e.kind() == ErrorKind::NotADirectory,
    }
}

/// Checks the checksums of a state file and returns its content.
pub fn parse<T: Checked>(name: &str, bytes: &[u8]) -> Result<T, Fault> {
    let broken = |e: serde_json::Error| Fault::Damaged(e.to_string());
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        Fault::Damaged(format!("byte {at} is no UTF-8 text"))
    })?;
    let head: Head = serde_json::from_str(text).map_err(broken)?;
    let (content, has_sums) = match head.schema {
        1 => (text, false),
        SCHEMA => {
            let envelope: Envelope = serde_json::from_str(text).map_err(broken)?;
            let content = envelope.content.get();
            if Sum::of_content(name, content) != envelope.sha256 {
                return Err(Fault::Damaged(where_it_is::<T>(content)));
            }
            (content, true)
        }
        0 => return Err(Fault::Damaged("schema 0 was never written".into())),
        later => {
            let version = serde_json::from_str(text).ok();
            let version = version.and_then(|l: Later| l.version);
            return Err(Fault::Newer(later, version));
        }
    };
    let stored: T::Stored = serde_json::from_str(content).map_err(broken)?;
    T::checked(stored, has_sums).map_err(|lacks| Fault::Damaged(lacks.to_string()))
}

/// Names the damaged entries of a file whose own checksum does not match.
fn where_it_is<T: Checked>(content: &str) -> String {
    let sum = "its checksum is not that of its content";
    match serde_json::from_str(content) {
        Err(e) => format!("{sum}, which cannot be read: {e}"),
        Ok(stored) => match T::checked(stored, true) {
            Err(lacks) => lacks.to_string(),
            Ok(_) => format!(
                "{sum}; the texts of the files are whole, a path, mode or owner in it is not"
            ),
        },
    }
}

/// Writes a state file and syncs it to disk.
pub fn store<T: Checked>(host: &Host, name: &str, value: &T) -> Result<(), Error> {
    let path = host.state(name);
    let text = text(name, value).map_err(|e| Error::file(&path, "make")(e.into()))?;
    if text.len() > LIMIT {
        let fault = Fault::TooLong(LIMIT);
        return Err(Error::StateFile { path, fault });
    }
    atomic_write::write(host, &path, &text, 0o600)
}

fn text<T: Checked>(name: &str, value: &T) -> serde_json::Result<String> {
    let content = RawValue::from_string(serde_json::to_string_pretty(&value.stored())?)?;
    let written = Written {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        changes: TO_OLDER,
        sha256: Sum::of_content(name, content.get()),
        content: &content,
    };
    serde_json::to_string_pretty(&written).map(|text| text + "\n")
}

/// What is wrong with the entries of a file.
#[derive(Debug)]
pub struct Lacks(pub Vec<String>);

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::RECEIPT;
    use crate::model::change::{Change, MergeKind};
    use crate::transaction::receipt::Receipt;

    fn record() -> Receipt {
        let change = |path: &str, before: Option<&str>| Change {
            path: path.into(),
            before: before.map(str::to_owned),
            after: Some("{\"a\": 1}\n".into()),
            mode: 0o644,
            why: "w".into(),
            kind: MergeKind::Own,
        };
        Receipt {
            version: "1".into(),
            changes: vec![change("/a", Some("{}\n")), change("/b", None)],
            ..Receipt::default()
        }
    }

    /// Whichever byte is damaged, either the same content is read or the file is refused.
    #[test]
    fn a_changed_byte_is_always_detected() {
        let whole = record();
        let text = text(RECEIPT, &whole).unwrap().into_bytes();
        assert_eq!(parse::<Receipt>(RECEIPT, &text), Ok(whole.clone()));
        let mut refused = 0;
        for at in 0..text.len() {
            for mask in [0x01, 0x20, 0x80] {
                let mut bytes = text.clone();
                bytes[at] ^= mask;
                match parse::<Receipt>(RECEIPT, &bytes) {
                    Ok(read) => assert_eq!(read, whole, "byte {at}"),
                    Err(_) => refused += 1,
                }
            }
            // Only the newline at the end of the file can be missing.
            let is_cut = at + 1 < text.len();
            assert_eq!(
                parse::<Receipt>(RECEIPT, &text[..at]).is_err(),
                is_cut,
                "{at}"
            );
        }
        // Only the text for older versions and our version number may change unnoticed.
        assert!(refused > 2 * text.len(), "{refused}");
    }

    #[test]
    fn a_later_schema_is_not_reported_as_damage() {
        let later = br#"{"schema": 3, "version": "9.9", "anything": []}"#;
        let fault = parse::<Receipt>(RECEIPT, later).unwrap_err();
        assert_eq!(fault, Fault::Newer(3, Some("9.9".into())));
        assert!(fault.to_string().contains("of a newer gpusetup (9.9)"));
        assert!(fault.fix(Path::new("/r")).contains("that version again"));
    }

    #[test]
    fn entries_without_checksums_stay_without() {
        let old = br#"{"schema": 1, "version": "0.1.0", "changes": [{"path": "/a", "before": "x", "after": "y", "mode": 420, "why": "w", "kind": {"kind": "own"}}], "directories": [], "services": []}"#;
        let read: Receipt = parse(RECEIPT, old).unwrap();
        assert_eq!(read.unchecked.len(), 1);
        let again: Receipt = parse(RECEIPT, text(RECEIPT, &read).unwrap().as_bytes()).unwrap();
        assert_eq!(again, read);
        let mut both = again;
        both.add(record());
        let kept: Receipt = parse(RECEIPT, text(RECEIPT, &both).unwrap().as_bytes()).unwrap();
        assert_eq!((kept.changes.len(), kept.unchecked.len()), (2, 1));
    }
}
