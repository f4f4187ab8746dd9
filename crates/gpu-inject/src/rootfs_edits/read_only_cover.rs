//! Writes a file, or covers it by a mount if it cannot be written: because the container's root or
//! /etc is read-only or a volume, or the file itself is a volume. The cover is a file in a tmpfs
//! that is not accessible otherwise.

use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;

use crate::error::Error;
use crate::linux::namespace::Apart;
use crate::linux::{is_missing, mount_api};
use crate::rootfs::{Bounded, Content, Elsewhere, Rootfs, Stage, is_unwritable, of_io};

const NAME: &CStr = c"cover";
/// What a tmpfs needs besides the file, in bytes.
const ROOM: u64 = 4096;

/// Writes the file at `path`, with mode 0644. If it exists but cannot be written, a mount covers
/// it. If it does not exist either, a note says so and the container starts without it. A link of
/// the image that leads into a volume is an error.
pub(crate) fn write(rootfs: &Rootfs, path: &Path, content: &[u8]) -> Result<(), Error> {
    write_by(rootfs, path, &|to| to.write_all(content))
}

/// Like [`write`](fn@write), with content that is produced in pieces.
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
    let target = rootfs.cover_point(path).map_err(io::Error::other)?;
    rootfs.ensure_private(&target)?;
    let mut size = Size(0);
    content(&mut size)?;
    let size = size.0 + ROOM;
    let tmpfs = match mount_api::tmpfs(size) {
        Err(e) if is_missing(&e) => {
            let stage = Stage::new(apart, rootfs, size)?;
            let file = File::from(write_in(stage.dir(), content)?);
            let flags = mount_api::RDONLY;
            return stage.mount(file.as_fd(), flags, target.as_fd()).map(drop);
        }
        tmpfs => tmpfs?,
    };
    drop(write_in(tmpfs.as_fd(), content)?);
    let cover = single_file_mount(apart, rootfs, &tmpfs)?;
    // Before Linux 5.12 the mount stays writable, but only for the container's root, who owns the file.
    match mount_api::set_attributes(cover.as_fd(), mount_api::RDONLY) {
        Err(e) if !is_missing(&e) => Err(e),
        _ => mount_api::attach(apart, cover.as_fd(), target.as_fd()),
    }
}

/// Makes the file in one of our own directories.
fn write_in(dir: BorrowedFd<'_>, content: Content<'_>) -> io::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = fcntl::openat(dir, NAME, flags, Mode::from_bits_truncate(0o644))?;
    let file = File::from(file);
    let mut pieces = BufWriter::new(Bounded::new(&file));
    content(&mut pieces)?;
    pieces.flush()?;
    drop(pieces);
    file.set_permissions(Permissions::from_mode(0o644))?;
    Ok(file.into())
}

/// A writer that only counts the bytes.
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

/// A mount of the single file in the tmpfs. Before Linux 6.15 it cannot be made while the tmpfs is
/// detached. The tmpfs is then attached for a moment to the root of the container, which runs
/// nothing yet.
fn single_file_mount(apart: Apart, rootfs: &Rootfs, tmpfs: &OwnedFd) -> io::Result<OwnedFd> {
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
