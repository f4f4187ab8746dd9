//! Files written so that a crash, a full disk or a signal leaves the old or the new one,
//! never a half: a temporary beside the real file, with its owner, mode and extended
//! attributes, synced, renamed over it, the directory synced.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{self, UnlinkatFlags};

use crate::attributes::Attributes;
use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, FileKind, Side};
use crate::place::{self, Place};

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
        Err(e) if place::is_nothing(&e) => return Ok(None),
        Err(e) => Err(e),
    }
    .map_err(Error::file(&change.path, "read the attributes of"))
}

/// Makes a file what it is in that state of the change; where there is none in it, it goes. A file
/// that comes back gets its `attributes` back, one that is there keeps its own.
///
/// The text is the change's own, never one given beside it: see [`crate::model::change`].
pub fn put(
    host: &Host,
    change: &Change,
    side: Side,
    attributes: Option<&Attributes>,
) -> Result<(), Error> {
    let path = &change.path;
    match (change.text(side), &change.kind) {
        (None, FileKind::Link) => unlink(host, Place::of_link(host, path), false)
            .map_err(Error::file(path, "remove link")),
        (None, _) => remove(host, path),
        (Some(target), FileKind::Link) => {
            log::debug!("link {} to {target}", path.display());
            link(host, path, target).map_err(Error::file(path, "make link"))
        }
        (Some(text), _) => write_as(host, path, text, change.mode, attributes),
    }
}

/// A link is made anew at every boot, so it is not synced.
fn link(host: &Host, path: &Path, target: &str) -> io::Result<()> {
    let place = Place::of_link(host, path)?;
    landed(host, &place, |dir, temporary| {
        unistd::symlinkat(target, dir, temporary)?;
        fcntl::renameat(dir, temporary, dir, place.name.as_os_str())?;
        Ok(())
    })
}

/// Replaces or creates a file.
pub fn write(host: &Host, path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    write_as(host, path, content, mode, None)
}

fn write_as(
    host: &Host,
    path: &Path,
    content: &str,
    mode: u32,
    attributes: Option<&Attributes>,
) -> Result<(), Error> {
    log::debug!("write {}", path.display());
    Place::of(host, path)
        .and_then(|place| {
            landed(host, &place, |dir, temporary| {
                let file = create(dir, temporary)?;
                fill(file, content, &look(dir, &place.name, mode, attributes)?)?;
                fcntl::renameat(dir, temporary, dir, place.name.as_os_str())?;
                place::sync(dir)
            })
        })
        .map_err(Error::file(path, "write"))
}

/// Works on a temporary beside a file; nothing of it is left where that fails.
fn landed(
    host: &Host,
    place: &Place,
    work: impl FnOnce(&File, &OsStr) -> io::Result<()>,
) -> io::Result<()> {
    let (dir, made) = place.make(host)?;
    let temporary = place.temporary();
    // Of a run that was killed; the lock says that none goes on.
    let _ = unistd::unlinkat(&dir, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
    let done = work(&dir, &temporary);
    if done.is_err() {
        let _ = unistd::unlinkat(&dir, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
        let _ = place::remove_dirs(host.root(), &made);
    }
    done
}

fn create(dir: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o600);
    Ok(fcntl::openat(dir, name, flags, mode)?.into())
}

/// What a new file shall look like.
enum Look {
    Of(Attributes),
    Mode(u32),
}

fn look(dir: &File, name: &OsStr, mode: u32, given: Option<&Attributes>) -> io::Result<Look> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match fcntl::openat(dir, name, flags, Mode::empty()) {
        Ok(old) => Attributes::of(&old.into()).map(Look::Of),
        Err(Errno::ENOENT) => Ok(given.cloned().map_or(Look::Mode(mode), Look::Of)),
        Err(e) => Err(e.into()),
    }
}

fn fill(mut file: File, content: &str, look: &Look) -> io::Result<()> {
    file.write_all(content.as_bytes())?;
    match look {
        Look::Of(attributes) => attributes.give(&file)?,
        Look::Mode(mode) => file.set_permissions(Permissions::from_mode(*mode))?,
    }
    file.sync_all()
}

/// Removes a file; none is fine.
pub fn remove(host: &Host, path: &Path) -> Result<(), Error> {
    log::debug!("remove {}", path.display());
    unlink(host, Place::of(host, path), true).map_err(Error::file(path, "remove"))
}

fn unlink(host: &Host, place: io::Result<Place>, lasts: bool) -> io::Result<()> {
    let place = match place {
        Err(e) if place::is_nothing(&e) => return Ok(()),
        place => place?,
    };
    let Some(dir) = place.open(host)? else {
        return Ok(());
    };
    match unistd::unlinkat(&dir, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) if lasts => place::sync(&dir),
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(_) if place::is_absent(&dir, &place.name) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Removes what a killed run may have left beside a change's file.
pub fn remove_temporary_of(host: &Host, change: &Change) -> Result<(), Error> {
    let place = match change.kind {
        FileKind::Link => Place::of_link(host, &change.path),
        _ => Place::of(host, &change.path),
    };
    forget(host, place, &change.path)
}

/// The same for a file of ours in the state directory.
pub fn remove_temporary(host: &Host, path: &Path) -> Result<(), Error> {
    forget(host, Place::of(host, path), path)
}

fn forget(host: &Host, place: io::Result<Place>, path: &Path) -> Result<(), Error> {
    let temporary = place.map(|p| Place {
        name: p.temporary(),
        ..p
    });
    unlink(host, temporary, false).map_err(Error::file(path, "remove the temporary of"))
}

/// Directories that a change would make, outermost first.
pub fn missing_dirs(host: &Host, change: &Change) -> Result<Vec<PathBuf>, Error> {
    let place = match change.kind {
        FileKind::Link => Place::of_link(host, &change.path),
        _ => Place::of(host, &change.path),
    };
    let place = place.map_err(Error::file(&change.path, "find"))?;
    let missing = place.missing_dirs(host.root());
    missing.map_err(Error::file(&change.path, "find"))
}

/// Removes directories that were made for our files; one in which somebody has put something
/// stays.
pub fn remove_dirs(host: &Host, dirs: &[PathBuf]) -> Result<(), Error> {
    let outermost = dirs.first().map_or(Path::new("/"), PathBuf::as_path);
    place::remove_dirs(host.root(), dirs).map_err(Error::file(outermost, "remove directory"))
}

#[cfg(test)]
mod tests;
