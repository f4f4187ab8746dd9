//! Files written so that a crash, a full disk or a signal leaves the old or the new one,
//! never a half: a temporary beside the real file, with its owner, mode and extended
//! attributes, synced, renamed over it, the directory synced.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::host::Host;

/// Where a path really is: links followed within the root, also where the file, or
/// directories to it, are still missing.
fn real(host: &Host, path: &Path) -> PathBuf {
    let root = host.root();
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        if let Ok(found) = root.canonicalize(at) {
            let found = missing.iter().rev().fold(found, |p, name| p.join(name));
            return root.host_path(found);
        }
        match (at.parent(), at.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name);
                at = parent;
            }
            _ => return root.host_path(path),
        }
    }
}

/// Replaces or creates a file; tells the directories made for it, outermost first, as
/// paths within the root.
pub fn write(host: &Host, path: &Path, content: &str, mode: u32) -> Result<Vec<PathBuf>, Error> {
    let file = real(host, path);
    let failed = |what| Error::file(path, what);
    let dir = file.parent().unwrap_or(Path::new("/")).to_owned();
    let made = make_dirs(&dir).map_err(failed("make directory"))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.gpusetup-{}", std::process::id()));
    let done = fill(&temporary, &file, content, mode).and_then(|()| {
        fs::rename(&temporary, &file)?;
        sync_dir(&dir)
    });
    if let Err(e) = done {
        let _ = fs::remove_file(&temporary);
        for dir in made.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
        return Err(failed("write")(e));
    }
    Ok(made.iter().map(|d| within(host, d)).collect())
}

fn within(host: &Host, path: &Path) -> PathBuf {
    Path::new("/").join(path.strip_prefix(host.root().path()).unwrap_or(path))
}

fn fill(temporary: &Path, old: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(content.as_bytes())?;
    match fs::metadata(old) {
        Ok(was) => {
            fchown(&file, Some(was.uid()), Some(was.gid()))?;
            file.set_permissions(Permissions::from_mode(was.mode() & 0o7777))?;
            copy_attributes(old, temporary)?;
        }
        Err(_) => file.set_permissions(Permissions::from_mode(mode))?,
    }
    file.sync_all()
}

/// ACLs and security labels are extended attributes.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let names = match xattr::list(from) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names {
        if let Some(value) = xattr::get(from, &name)? {
            xattr::set(to, &name, &value)?;
        }
    }
    Ok(())
}

fn make_dirs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|d| !d.exists())
        .map(Path::to_path_buf)
        .collect();
    missing.reverse();
    for (n, dir) in missing.iter().enumerate() {
        if let Err(e) = fs::create_dir(dir) {
            for made in missing[..n].iter().rev() {
                let _ = fs::remove_dir(made);
            }
            return Err(e);
        }
    }
    Ok(missing)
}

/// Removes a file; none is fine.
pub fn remove(host: &Host, path: &Path) -> Result<(), Error> {
    let file = real(host, path);
    match fs::remove_file(&file) {
        Ok(()) => {
            sync_dir(file.parent().unwrap_or(Path::new("/"))).map_err(Error::file(path, "remove"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::file(path, "remove")(e)),
    }
}

/// Removes directories that were made for our files, innermost first; one in which
/// somebody has put something stays.
pub fn remove_dirs(host: &Host, dirs: &[PathBuf]) {
    for dir in dirs.iter().rev() {
        let _ = fs::remove_dir(host.root().host_path(dir));
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some file systems cannot sync a directory (fsync(2), EINVAL).
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}
