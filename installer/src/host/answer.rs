//! The answer to a query of a program, a socket or a file of another program, which may also be unknown.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use gpu_host::Root;
use serde_json::Value;

/// The answer to a query. An unknown answer is not a no: a caller that would continue on [`Answer::None`] stops on
/// [`Answer::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It exists, and this is its value.
    Known(T),
    /// It does not exist.
    None,
    /// It is not known whether it exists, for this reason.
    Unknown(String),
}

impl<T> Answer<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::None | Self::Unknown(_) => None,
        }
    }

    /// Why it is not known.
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) => Some(why),
            Self::Known(_) | Self::None => None,
        }
    }

    /// The value or, if it is not known, the reason: for a query that consists of several.
    pub fn value(self) -> Result<Option<T>, String> {
        match self {
            Self::Known(value) => Ok(Some(value)),
            Self::None => Ok(None),
            Self::Unknown(why) => Err(why),
        }
    }

    /// The same answer with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Known(value) => Answer::Known(change(value)),
            Self::None => Answer::None,
            Self::Unknown(why) => Answer::Unknown(why),
        }
    }
}

impl<T> From<std::io::Result<T>> for Answer<T> {
    /// The result of reading from the host. A missing file is `None`; any other error is unknown.
    fn from(read: std::io::Result<T>) -> Self {
        match read {
            Ok(value) => Self::Known(value),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Self::None
            }
            Err(e) => Self::Unknown(e.to_string()),
        }
    }
}

/// Whether a process listens on that socket. `None`: there is no socket, or nothing listens.
pub fn listener(socket: &Path) -> Answer<()> {
    match UnixStream::connect(socket) {
        Ok(_) => Answer::Known(()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Answer::None
        }
        Err(e) => Answer::Unknown(format!("{}: {e}", socket.display())),
    }
}

/// The names in a directory; none if it does not exist.
pub fn names_in(root: &Root, dir: &Path) -> Result<Vec<OsString>, String> {
    let names = Answer::from(root.read_dir(dir)).value()?;
    Ok(names.unwrap_or_default())
}

/// The document in a JSON file of another program; `None` if it does not exist.
pub fn json_file(root: &Root, path: &Path) -> Result<Option<Value>, String> {
    let Some(bytes) = Answer::from(root.read(path)).value()? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes).map(Some);
    parsed.map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_cannot_be_asked_is_not_one_that_nobody_listens_on() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert_eq!(listener(&socket), Answer::None);
        let listens = UnixListener::bind(&socket).unwrap();
        assert_eq!(listener(&socket), Answer::Known(()));
        drop(listens);
        assert_eq!(listener(&socket), Answer::None);
        let loop_ = dir.path().join("loop");
        std::os::unix::fs::symlink(&loop_, &loop_).unwrap();
        assert!(listener(&loop_).unknown().is_some());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| Answer::from(std::fs::read(dir.path().join(name)));
        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert_eq!(read("file"), Answer::Known(b"x".to_vec()));
        assert_eq!(read("none"), Answer::None);
        assert_eq!(read("file/below"), Answer::None);
        assert!(read("").unknown().is_some());
    }
}
