//! Writes files atomically: after a crash, a full disk or a signal there is either the old file or
//! the new one, never a part.
//!
//! The text is written to a temporary file beside the real one, which gets the owner, mode and
//! extended attributes of the real one, is synced and renamed over it. Then the directory is
//! synced.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{self, UnlinkatFlags};

use crate::error::Error;
use crate::files::attributes::Attributes;
use crate::files::resolved_path::{self, ResolvedPath};
use crate::host::Host;

/// Creates or replaces a link. It is not synced, since every boot makes links again.
pub fn link(host: &Host, path: &Path, target: &str) -> io::Result<()> {
    let place = ResolvedPath::of_link(host, path)?;
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

pub fn write_as(
    host: &Host,
    path: &Path,
    content: &str,
    mode: u32,
    attributes: Option<&Attributes>,
) -> Result<(), Error> {
    log::debug!("write {}", path.display());
    ResolvedPath::of(host, path)
        .and_then(|place| {
            landed(host, &place, |dir, temporary| {
                let file = create(dir, temporary)?;
                fill(file, content, &look(dir, &place.name, mode, attributes)?)?;
                fcntl::renameat(dir, temporary, dir, place.name.as_os_str())?;
                resolved_path::sync(dir)
            })
        })
        .map_err(Error::file(path, "write"))
}

/// Runs `work` on a temporary beside a file. If it fails, the temporary and new directories are
/// removed.
fn landed(
    host: &Host,
    place: &ResolvedPath,
    work: impl FnOnce(&File, &OsStr) -> io::Result<()>,
) -> io::Result<()> {
    let (dir, made) = place.make(host)?;
    let temporary = place.temporary();
    // A temporary of a run that was killed. We hold the lock, so no other run is using it.
    let _ = unistd::unlinkat(&dir, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
    let done = work(&dir, &temporary);
    if done.is_err() {
        let _ = unistd::unlinkat(&dir, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir);
        let _ = resolved_path::remove_dirs(host.root(), &made);
    }
    done
}

fn create(dir: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o600);
    Ok(fcntl::openat(dir, name, flags, mode)?.into())
}

/// The attributes that a new file gets.
enum NewAttributes {
    Of(Attributes),
    Mode(u32),
}

fn look(
    dir: &File,
    name: &OsStr,
    mode: u32,
    attributes: Option<&Attributes>,
) -> io::Result<NewAttributes> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match fcntl::openat(dir, name, flags, Mode::empty()) {
        Ok(old) => Attributes::of(&old.into()).map(NewAttributes::Of),
        Err(Errno::ENOENT) => Ok(attributes
            .cloned()
            .map_or(NewAttributes::Mode(mode), NewAttributes::Of)),
        Err(e) => Err(e.into()),
    }
}

fn fill(mut file: File, content: &str, look: &NewAttributes) -> io::Result<()> {
    file.write_all(content.as_bytes())?;
    match look {
        NewAttributes::Of(attributes) => attributes.give(&file)?,
        NewAttributes::Mode(mode) => file.set_permissions(Permissions::from_mode(*mode))?,
    }
    file.sync_all()
}

/// Renames a file, or a link, within its directory. A file that has the new name already is
/// replaced.
pub fn rename(host: &Host, path: &Path, to: &Path) -> Result<(), Error> {
    log::debug!("rename {} to {}", path.display(), to.display());
    let renamed = || {
        let place = ResolvedPath::of_link(host, path)?;
        let name = ResolvedPath::of_link(host, to)?.name;
        let dir = place.open(host)?.ok_or(ErrorKind::NotFound)?;
        fcntl::renameat(&dir, place.name.as_os_str(), &dir, name.as_os_str())?;
        resolved_path::sync(&dir)
    };
    renamed().map_err(Error::file(path, "rename"))
}

/// Removes a file; it is no error if there is none.
pub fn remove(host: &Host, path: &Path) -> Result<(), Error> {
    log::debug!("remove {}", path.display());
    unlink(host, ResolvedPath::of(host, path), true).map_err(Error::file(path, "remove"))
}

pub fn unlink(host: &Host, place: io::Result<ResolvedPath>, lasts: bool) -> io::Result<()> {
    let place = match place {
        Err(e) if resolved_path::is_nothing(&e) => return Ok(()),
        place => place?,
    };
    let Some(dir) = place.open(host)? else {
        return Ok(());
    };
    match unistd::unlinkat(&dir, place.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) if lasts => resolved_path::sync(&dir),
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(_) if resolved_path::is_absent(&dir, &place.name) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Removes the temporary of a file in the state directory.
pub fn remove_temporary(host: &Host, path: &Path) -> Result<(), Error> {
    forget(host, ResolvedPath::of(host, path), path)
}

pub fn forget(host: &Host, place: io::Result<ResolvedPath>, path: &Path) -> Result<(), Error> {
    let temporary = place.map(|p| ResolvedPath {
        name: p.temporary(),
        ..p
    });
    unlink(host, temporary, false).map_err(Error::file(path, "remove the temporary of"))
}

/// Removes directories that were created for our files, except those that are not empty.
pub fn remove_dirs(host: &Host, dirs: &[PathBuf]) -> Result<(), Error> {
    let outermost = dirs.first().map_or(Path::new("/"), PathBuf::as_path);
    resolved_path::remove_dirs(host.root(), dirs)
        .map_err(Error::file(outermost, "remove directory"))
}
