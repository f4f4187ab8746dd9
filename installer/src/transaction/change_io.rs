//! Reads the file that a change is about, and writes either side of the change to it.

use std::io;
use std::path::PathBuf;

use crate::error::Error;
use crate::files::atomic_write::{forget, link, remove, unlink, write_as};
use crate::files::attributes::Attributes;
use crate::files::resolved_path::{self, ResolvedPath};
use crate::host::Host;
use crate::model::change::{Change, MergeKind, Side};

/// What is at a change's path now, as text: the file's content, or the target of a link.
pub fn current(host: &Host, change: &Change) -> Result<Option<String>, Error> {
    if change.kind != MergeKind::Link {
        return host.text(&change.path);
    }
    match host.root().read_link(&change.path) {
        Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        // Not a link, so another program has put it there. None of our links has an empty target.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(Some(String::new())),
        Err(e) => Err(Error::file(&change.path, "read link")(e)),
    }
}

/// Attributes of the file that a change replaces or removes; `None` if the file does not exist.
pub fn attributes(host: &Host, change: &Change) -> Result<Option<Attributes>, Error> {
    if change.kind == MergeKind::Link {
        return Ok(None);
    }
    match host.root().open_file(&change.path) {
        Ok(file) => Attributes::of(&file).map(Some),
        Err(e) if resolved_path::is_nothing(&e) => return Ok(None),
        Err(e) => Err(e),
    }
    .map_err(Error::file(&change.path, "read the attributes of"))
}

/// Makes the file look as it does on that side of the change, and removes it if that side has none. A file that is
/// created again gets `attributes`; a file that exists keeps its own.
///
/// The text always comes from the change itself, never from a separate parameter: see
/// [`crate::model::change`].
pub(super) fn write_side(
    host: &Host,
    change: &Change,
    side: Side,
    attributes: Option<&Attributes>,
) -> Result<(), Error> {
    let path = &change.path;
    match (change.text(side), &change.kind) {
        (None, MergeKind::Link) => unlink(host, ResolvedPath::of_link(host, path), false)
            .map_err(Error::file(path, "remove link")),
        (None, _) => remove(host, path),
        (Some(target), MergeKind::Link) => {
            log::debug!("link {} to {target}", path.display());
            link(host, path, target).map_err(Error::file(path, "make link"))
        }
        (Some(text), _) => write_as(host, path, text, change.mode, attributes),
    }
}

/// Removes the temporary file that a killed run may have left beside a change's file.
pub fn remove_temporary_of(host: &Host, change: &Change) -> Result<(), Error> {
    let place = match change.kind {
        MergeKind::Link => ResolvedPath::of_link(host, &change.path),
        _ => ResolvedPath::of(host, &change.path),
    };
    forget(host, place, &change.path)
}

/// Directories that a change would create, outermost first.
pub fn missing_dirs(host: &Host, change: &Change) -> Result<Vec<PathBuf>, Error> {
    let place = match change.kind {
        MergeKind::Link => ResolvedPath::of_link(host, &change.path),
        _ => ResolvedPath::of(host, &change.path),
    };
    let place = place.map_err(Error::file(&change.path, "find"))?;
    let missing = place.missing_dirs(host.root());
    missing.map_err(Error::file(&change.path, "find"))
}

#[cfg(test)]
mod tests;
