//! A change and the file it is about: what is there now, and making the file what it is on either side.

use std::io;
use std::path::PathBuf;

use crate::error::Error;
use crate::files::atomic_write::{forget, link, remove, unlink, write_as};
use crate::files::attributes::Attributes;
use crate::files::resolved_path::{self, ResolvedPath};
use crate::host::Host;
use crate::model::change::{Change, FileKind, Side};

/// What is at a change's path now, as text: content, or where a link leads.
pub fn current(host: &Host, change: &Change) -> Result<Option<String>, Error> {
    if change.kind != FileKind::Link {
        return host.text(&change.path);
    }
    match host.root().read_link(&change.path) {
        Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        // No link at all, so somebody else's: no link of ours is empty.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(Some(String::new())),
        Err(e) => Err(Error::file(&change.path, "read link")(e)),
    }
}

/// Attributes of the file that a change replaces or removes; `None` where there is no such file.
pub fn attributes(host: &Host, change: &Change) -> Result<Option<Attributes>, Error> {
    if change.kind == FileKind::Link {
        return Ok(None);
    }
    match host.root().open_file(&change.path) {
        Ok(file) => Attributes::of(&file).map(Some),
        Err(e) if resolved_path::is_nothing(&e) => return Ok(None),
        Err(e) => Err(e),
    }
    .map_err(Error::file(&change.path, "read the attributes of"))
}

/// Makes a file what it is in that state of the change; where there is none in it, it goes. A file
/// that comes back gets its `attributes` back, one that is there keeps its own.
///
/// The text is the change's own, never one given beside it: see [`crate::model::change`].
pub(super) fn put(
    host: &Host,
    change: &Change,
    side: Side,
    attributes: Option<&Attributes>,
) -> Result<(), Error> {
    let path = &change.path;
    match (change.text(side), &change.kind) {
        (None, FileKind::Link) => unlink(host, ResolvedPath::of_link(host, path), false)
            .map_err(Error::file(path, "remove link")),
        (None, _) => remove(host, path),
        (Some(target), FileKind::Link) => {
            log::debug!("link {} to {target}", path.display());
            link(host, path, target).map_err(Error::file(path, "make link"))
        }
        (Some(text), _) => write_as(host, path, text, change.mode, attributes),
    }
}

/// Removes what a killed run may have left beside a change's file.
pub fn remove_temporary_of(host: &Host, change: &Change) -> Result<(), Error> {
    let place = match change.kind {
        FileKind::Link => ResolvedPath::of_link(host, &change.path),
        _ => ResolvedPath::of(host, &change.path),
    };
    forget(host, place, &change.path)
}

/// Directories that a change would make, outermost first.
pub fn missing_dirs(host: &Host, change: &Change) -> Result<Vec<PathBuf>, Error> {
    let place = match change.kind {
        FileKind::Link => ResolvedPath::of_link(host, &change.path),
        _ => ResolvedPath::of(host, &change.path),
    };
    let place = place.map_err(Error::file(&change.path, "find"))?;
    let missing = place.missing_dirs(host.root());
    missing.map_err(Error::file(&change.path, "find"))
}

#[cfg(test)]
mod tests;
