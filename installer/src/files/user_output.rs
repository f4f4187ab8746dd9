//! A file that the user names for a result: of their shell, not of the host that is looked at.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What is in these is the system's, and no file of somebody's to put another in the place of.
const OF_THE_SYSTEM: [&str; 2] = ["/dev", "/proc"];

/// Writes into a pipe, a terminal, `/dev/stdout`: renaming a file over it would take it away, as
/// root even `/dev/null`. False, and nothing is written, where there is a plain file or none.
pub fn into_stream(path: &Path, bytes: &[u8]) -> io::Result<bool> {
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
