//! Preflight checks: finds what would make a change fail, before anything is touched.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{self, AccessFlags};
use rustix::fs::{StatxAttributes, StatxFlags, statx};

use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::files::resolved_path::ResolvedPath;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::transaction::change_io;

/// Refuses a change to a file that was changed since the plan was made.
pub fn ensure_as_planned(host: &Host, change: &Change) -> Result<(), Error> {
    if change_io::current(host, change)? == change.before {
        return Ok(());
    }
    Err(Error::config(&change.path, ConfigFault::Meanwhile))
}

/// Refuses a change that could not be made, before anything is touched. `is_back`: we removed the
/// file, and this change restores it.
pub fn ensure_writable(host: &Host, change: &Change, is_back: bool) -> Result<(), Error> {
    let path = &change.path;
    let refused = |fault| Error::config(path, fault);
    let failed = |e| Error::file(path, "find")(e);
    let place = match change.kind {
        MergeKind::Link => ResolvedPath::of_link(host, path),
        _ => ResolvedPath::of(host, path),
    }
    .map_err(failed)?;
    let real = place.dir.join(&place.name);
    let root = host.root();
    // The target of a dangling link may be on a file system that is not mounted yet.
    let nothing = path.ancestors().take_while(|p| !root.exists(p));
    let link = nothing.filter(|p| root.read_link(p).is_ok()).last();
    if let Some(link) = link.filter(|_| change.kind != MergeKind::Link && !is_back) {
        let link = link.to_owned();
        return Err(refused(ConfigFault::DanglingLink { link }));
    }
    let missing = place.missing_dirs(root).map_err(failed)?;
    let dir = missing
        .first()
        .and_then(|d| d.parent())
        .unwrap_or(&place.dir);
    let opened: File = root.open_dir(dir).map_err(failed)?.into();
    let may = |name: &OsStr, flags| {
        unistd::faccessat(&opened, name, flags, AtFlags::AT_EACCESS).map_err(|e| match e {
            Errno::EROFS => Some(refused(ConfigFault::ReadOnly {
                dir: dir.to_owned(),
            })),
            Errno::EPERM => {
                let what = if name == "." { dir } else { &real };
                let what = what.to_owned();
                Some(refused(ConfigFault::Immutable { what }))
            }
            Errno::ENOENT => None,
            e => Some(Error::file(path, "write")(e.into())),
        })
    };
    if let Err(Some(e)) = may(OsStr::new("."), AccessFlags::W_OK | AccessFlags::X_OK) {
        return Err(e);
    }
    if !missing.is_empty() || change.kind == MergeKind::Link {
        return Ok(());
    }
    // A file without write permission can still be replaced: the directory's permissions decide
    // that.
    if let Err(Some(e @ Error::Config { .. })) = may(&place.name, AccessFlags::W_OK) {
        return Err(e);
    }
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let about = statx(&opened, &place.name, flags, StatxFlags::BASIC_STATS);
    if about.is_ok_and(|s| s.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)) {
        return Err(refused(ConfigFault::MountPoint { at: real }));
    }
    Ok(())
}

/// A warning for the user about a file that will be replaced.
pub fn remark(host: &Host, change: &Change) -> Option<String> {
    if change.before.is_none() || change.kind == MergeKind::Link {
        return None;
    }
    let names = host.root().metadata(&change.path).ok()?.nlink();
    (names > 1).then(|| {
        format!(
            "{} has {} more name(s), hard links; those keep the old text",
            change.path.display(),
            names - 1
        )
    })
}
