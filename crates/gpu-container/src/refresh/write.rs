//! Files of the host's /run and links of its /dev, there whole or not at all. A tree's links
//! stay in the tree.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process;

use gpu_host::Root;

/// Writes a file where it says something else now; whether it did.
pub(super) fn file(root: &Root, path: &Path, text: &str) -> io::Result<bool> {
    if root.read(path).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(false);
    }
    put(root, path, |temporary| {
        let mut file = File::create(temporary)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())
    })?;
    Ok(true)
}

/// Makes a link, in the place of one that leads nowhere.
pub(super) fn link(root: &Root, path: &Path, target: &str) -> io::Result<()> {
    put(root, path, |temporary| symlink(target, temporary))
}

fn put(root: &Root, path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let no_name = || io::Error::from(io::ErrorKind::InvalidInput);
    let dir = directory(root, path.parent().ok_or_else(no_name)?)?;
    let name = path.file_name().ok_or_else(no_name)?;
    // No ending by which an engine would take it for a spec.
    let temporary = dir.join(format!(".gpu-container.{}", process::id()));
    let _ = fs::remove_file(&temporary);
    let done = make(&temporary).and_then(|()| fs::rename(&temporary, dir.join(name)));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Where a directory of the tree is on this host; made where it is not there.
fn directory(root: &Root, dir: &Path) -> io::Result<PathBuf> {
    match root.canonicalize(dir) {
        Ok(real) => Ok(root.host_path(real)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (Some(above), Some(name)) = (dir.parent(), dir.file_name()) else {
                return Err(e);
            };
            let made = directory(root, above)?.join(name);
            match fs::create_dir(&made) {
                Ok(()) => fs::set_permissions(&made, Permissions::from_mode(0o755))?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            Ok(made)
        }
        Err(e) => Err(e),
    }
}
