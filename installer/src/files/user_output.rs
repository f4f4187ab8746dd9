//! Writes results to a file that the user names. That file belongs to the user's shell, not to the
//! host that is set up, so no run records it and undo leaves it alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::error::Error;
use crate::files::atomic_write;
use crate::host::Host;

/// Files in these directories belong to the system, and must not be replaced.
const OF_THE_SYSTEM: [&str; 2] = ["/dev", "/proc"];

/// Writes a text; an existing file keeps its owner and mode.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    let path = std::path::absolute(path).map_err(Error::file(path, "name"))?;
    let is_stream = into_stream(&path, text.as_bytes());
    if is_stream.map_err(Error::file(&path, "write"))? {
        return Ok(());
    }
    let here = Host::open(Path::new("/"), Path::new("/"))?;
    atomic_write::write(&here, &path, text, 0o644)
}

/// The same, but only the owner can read the file, whatever its mode was before.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let is_stream = into_stream(path, bytes);
    if is_stream.map_err(Error::file(path, "write"))? {
        return Ok(());
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(Error::file(path, "create"))?;
    file.write_all(bytes).map_err(Error::file(path, "write"))?;
    file.as_file()
        .sync_all()
        .map_err(Error::file(path, "write"))?;
    let kept = file.persist(path);
    kept.map_err(|e| Error::file(path, "write")(e.error))?;
    Ok(())
}

/// Writes one of many files, such as manual pages, in a directory of the user's. The old text is
/// overwritten in place.
pub fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)
}

/// Writes into a pipe, a terminal or `/dev/stdout`: a rename would replace them, as root even
/// `/dev/null`. Returns false, and writes nothing, if the path is a plain file or does not exist.
fn into_stream(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let is_of_the_system = OF_THE_SYSTEM.iter().any(|dir| path.starts_with(dir));
    let is_replaceable = fs::metadata(path).map_or(true, |m| m.is_file() || m.is_dir());
    if is_replaceable && !is_of_the_system {
        return Ok(false);
    }
    let mut options = OpenOptions::new();
    let mut stream = options.write(true).create(true).truncate(true).open(path)?;
    stream.write_all(bytes)?;
    Ok(true)
}
