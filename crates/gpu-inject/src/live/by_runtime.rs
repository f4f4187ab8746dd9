//! Checks the mounts that the low-level runtime has made for us from config.json or a CDI spec.
//! The runtime follows the image's links into any file system mounted in the container, so a
//! mount may have landed on a shared one.

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::stat::{FileStat, fstat, stat};

use gpu_host::Need;

use crate::edits::Edits;
use crate::error::Error;
use crate::rootfs::{Elsewhere, Rootfs};

/// Ensures that none of these mounts propagates to the host. A mount that does is unmounted, and the unmount
/// propagates to the host too.
pub(super) fn ensure_private(rootfs: &Rootfs, edits: &Edits) -> Result<(), Error> {
    if edits.mounts.iter().any(|m| m.need == Need::Required) {
        // Our hook makes the mounts, not the runtime. If the runtime makes them, the hook still makes the mounts that
        // the runtime could not reach, but these are all optional.
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
        let Some(mount) = rootfs.shared_mount(path)? else {
            continue;
        };
        // Detaches only our own mount, never a mount of the host that propagated here.
        let is_ours = fstat(&mount).is_ok_and(|f| is_same_file(&f, host));
        if is_ours {
            let _ = rootfs.detach(mount.as_fd());
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

fn is_same_file(mounted: &FileStat, host: &Path) -> bool {
    stat(host).is_ok_and(|h| (h.st_dev, h.st_ino) == (mounted.st_dev, mounted.st_ino))
}
