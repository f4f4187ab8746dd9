//! Mounts that the low-level runtime has made for us, by config.json or a CDI spec: looked at
//! afterwards, since it follows the image's links into whatever is mounted in the container.

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::stat::{FileStat, fstat, stat};

use gpu_host::Need;

use crate::edits::Edits;
use crate::error::Error;
use crate::rootfs::{Elsewhere, Rootfs};

/// That none of them shows up on the host. Those that do are taken off again, there as well:
/// unmounting goes where mounting went.
pub(super) fn ensure_private(rootfs: &Rootfs, edits: &Edits) -> Result<(), Error> {
    if edits.mounts.iter().any(|m| m.need == Need::Required) {
        // Ours to make, not the runtime's. What the runtime could not reach is ours either way, and optional.
        return Ok(());
    }
    if rootfs.arrangement().no_shared_mounts {
        return Ok(());
    }
    let named = edits.mounted.iter().map(|m| (&*m.host_path, &*m.path));
    let libraries = edits.libraries.iter().map(|l| (&*l.path, &*l.path));
    let mut shared = None;
    for (host, path) in named.chain(libraries) {
        if rootfs.is_plain(path) {
            continue;
        }
        let Some(found) = rootfs.is_shared(path)? else {
            continue;
        };
        // Never a mount of the host's own that has come here.
        let is_ours = fstat(&found).is_ok_and(|f| is_same(&f, host));
        if is_ours {
            let _ = rootfs.detach(found.as_fd());
        }
        shared = Some(path.to_owned());
    }
    match shared {
        None => Ok(()),
        Some(path) => Err(Error::Rootfs {
            path,
            what: "mount in the container",
            source: std::io::Error::other(Elsewhere::Shared),
        }),
    }
}

fn is_same(found: &FileStat, host: &Path) -> bool {
    stat(host).is_ok_and(|h| (h.st_dev, h.st_ino) == (found.st_dev, found.st_ino))
}
