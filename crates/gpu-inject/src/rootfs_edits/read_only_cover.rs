//! A file that cannot be written, covered by one of ours: in a container whose root, or whose
//! /etc, is read-only or a volume, or where the file itself is one. The cover is a file of a
//! tmpfs that nothing else can be reached in.

use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;

use crate::error::Error;
use crate::linux::mount_api;
use crate::linux::namespace::Apart;
use crate::rootfs::{Content, Elsewhere, Rootfs, is_unwritable, of_io};

const NAME: &CStr = c"cover";

/// Writes the file at `path`, mode 0644. Where it cannot be written but is there, a mount
/// covers it; where it is not even there, a note says so, and the container starts without. A
/// link of the image that leads into a volume is an error.
pub(crate) fn write(rootfs: &Rootfs, path: &Path, content: &[u8]) -> Result<(), Error> {
    write_by(rootfs, path, &|to| to.write_all(content))
}

/// The same with a content that is written piece by piece.
pub(crate) fn write_by(rootfs: &Rootfs, path: &Path, content: Content<'_>) -> Result<(), Error> {
    let refused = match rootfs.write_by(path, content, 0o644) {
        Err(Error::Rootfs { source, .. }) if is_cover_needed(&source) => source,
        other => return other,
    };
    let covered = cover(rootfs, path, content);
    if let Err(e) = covered {
        rootfs.note(path, &format!("not written: {refused}; not covered: {e}"));
    }
    Ok(())
}

fn is_cover_needed(error: &io::Error) -> bool {
    let is_unwritable = |e| is_unwritable(Errno::from_raw(e));
    of_io(error) == Some(Elsewhere::Volume) || error.raw_os_error().is_some_and(is_unwritable)
}

fn cover(rootfs: &Rootfs, path: &Path, content: Content<'_>) -> io::Result<()> {
    let apart = rootfs.ensure_apart().map_err(io::Error::other)?;
    let target = rootfs.covered(path).map_err(io::Error::other)?;
    rootfs.ensure_private(&target)?;
    let mut size = Size(0);
    content(&mut size)?;
    let tmpfs = mount_api::tmpfs(size.0 + 4096)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = fcntl::openat(&tmpfs, NAME, flags, Mode::from_bits_truncate(0o644))?;
    let file = File::from(file);
    let mut pieces = BufWriter::new(&file);
    content(&mut pieces)?;
    pieces.flush()?;
    drop(pieces);
    file.set_permissions(Permissions::from_mode(0o644))?;
    drop(file);
    let cover = alone(apart, rootfs, &tmpfs)?;
    // Before Linux 5.12 it stays writable: for the container's root, and it alone has it.
    match mount_api::set_attributes(cover.as_fd(), mount_api::RDONLY) {
        Err(e) if e.raw_os_error() != Some(libc::ENOSYS) => Err(e),
        _ => mount_api::attach(apart, cover.as_fd(), target.as_fd()),
    }
}

/// Takes nothing but the length.
struct Size(u64);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A mount of the one file. Before Linux 6.15 there is none of what is not attached, so the
/// tmpfs is attached for a moment, to the root of a container that runs nothing yet.
fn alone(apart: Apart, rootfs: &Rootfs, tmpfs: &OwnedFd) -> io::Result<OwnedFd> {
    if let Ok(cover) = mount_api::open_tree_at(tmpfs.as_fd(), NAME) {
        return Ok(cover);
    }
    let root = rootfs.root()?;
    rootfs.ensure_private(&root)?;
    mount_api::attach(apart, tmpfs.as_fd(), root.as_fd())?;
    let cover = mount_api::open_tree_at(tmpfs.as_fd(), NAME);
    rootfs.detach(tmpfs.as_fd())?;
    cover
}
