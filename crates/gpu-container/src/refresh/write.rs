//! Writes files in the host's /run and links in its /dev atomically. Links in the path are resolved
//! within the host's tree.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process;

use gpu_host::Root;

/// Writes a file if its content differs. True if it was written.
pub(super) fn file(root: &Root, path: &Path, text: &str) -> io::Result<bool> {
    if root.read(path).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(false);
    }
    replace(root, path, |temporary| {
        let mut file = File::create(temporary)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())
    })?;
    Ok(true)
}

/// Makes a link, replacing a dangling one.
pub(super) fn link(root: &Root, path: &Path, target: &str) -> io::Result<()> {
    replace(root, path, |temporary| symlink(target, temporary))
}

fn replace(root: &Root, path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let no_name = || io::Error::from(io::ErrorKind::InvalidInput);
    let dir = directory(root, path.parent().ok_or_else(no_name)?)?;
    let name = path.file_name().ok_or_else(no_name)?;
    // Without the extension by which an engine would read it as a spec.
    let temporary = dir.join(format!(".gpu-container.{}", process::id()));
    let _ = fs::remove_file(&temporary);
    let done = make(&temporary).and_then(|()| fs::rename(&temporary, dir.join(name)));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// The host path of a directory in the tree. The directory is made if missing.
fn directory(root: &Root, dir: &Path) -> io::Result<PathBuf> {
    match root.canonicalize(dir) {
        Ok(real) => Ok(root.host_path(real)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
                return Err(e);
            };
            let path = directory(root, parent)?.join(name);
            match fs::create_dir(&path) {
                Ok(()) => fs::set_permissions(&path, Permissions::from_mode(0o755))?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            Ok(path)
        }
        Err(e) => Err(e),
    }
}
