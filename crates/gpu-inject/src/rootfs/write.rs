//! Makes or replaces links and files, by descriptor.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl;
use nix::sys::stat::fstat;
use nix::unistd;

use super::calls::{
    create, failed, io_failed, is_unwritable, open_no_follow, remove, replace, with_temporary,
};
use super::elsewhere::Elsewhere;
use super::handle::Rootfs;
use super::walk::Trouble;
use crate::error::Error;

/// Size of the write buffer, in bytes.
const BUFFER: usize = 64 << 10;
/// Maximum bytes of a file that is written into a container: three times the largest loader cache that is read, since
/// entries of an image's cache can share their texts, and ours do not.
pub(crate) const MAX_FILE: u64 = 48 << 20;
/// Writes a file's content to the given writer.
pub(crate) type Content<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// The result of making a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The link exists now, or existed already.
    Yes,
    /// The image has a file or directory with this name, which is kept.
    Occupied,
    /// The link cannot be made; a note says why.
    Unwritable,
}

/// A writer that fails like one on a full file system after [`MAX_FILE`] bytes.
pub(crate) struct Bounded<W> {
    to: W,
    left: u64,
}

impl<W> Bounded<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, left: MAX_FILE }
    }
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        self.left = self.left.checked_sub(length).ok_or(Errno::EFBIG)?;
        let written = self.to.write(bytes)?;
        self.left += length - written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Rootfs {
    /// Makes the link `path -> target`. An existing link is replaced, and so is an empty file, which
    /// is what a committed container keeps of a mount point. Anything else is kept.
    pub fn symlink(&self, path: &Path, target: &Path) -> Result<Linked, Error> {
        let result = self.symlink_within(path, target);
        let why = match result {
            Err(Trouble::System(e)) if is_unwritable(e) => e.desc().to_owned(),
            Err(Trouble::Elsewhere(why)) => match self.existing_link(path, target) {
                Some(linked) => return Ok(linked),
                None if why == Elsewhere::Volume => why.to_string(),
                None => return result.map_err(failed(path, "link")),
            },
            other => return other.map_err(failed(path, "link")),
        };
        self.note(path, &format!("the link is not made: {why}"));
        Ok(Linked::Unwritable)
    }

    fn symlink_within(&self, path: &Path, target: &Path) -> Result<Linked, Trouble> {
        let (dir, name) = self.place(path)?;
        match unistd::symlinkat(target, dir.as_fd(), name) {
            Err(Errno::EEXIST) => {}
            other => return Ok(other.map(|()| Linked::Yes)?),
        }
        if let Ok(existing) = open_no_follow(dir.as_fd(), name) {
            let stat = fstat(&existing)?;
            let is_link = stat.st_mode & libc::S_IFMT == libc::S_IFLNK;
            let is_leftover = stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_size == 0;
            if !(is_link || is_leftover) {
                return Ok(Linked::Occupied);
            }
            if is_link && fcntl::readlinkat(&existing, "").is_ok_and(|t| t == target.as_os_str()) {
                return Ok(Linked::Yes);
            }
        }
        let (temporary, ()) = with_temporary(name, |temporary| {
            unistd::symlinkat(target, dir.as_fd(), temporary)
        })?;
        match replace(dir.as_fd(), &temporary, name) {
            // The user has mounted something there, which is kept.
            Err(Errno::EBUSY) => Ok(Linked::Occupied),
            other => Ok(other.map(|()| Linked::Yes)?),
        }
    }

    /// Whether the link exists already at a path where we may not make one; `None` if nothing exists.
    fn existing_link(&self, path: &Path, target: &Path) -> Option<Linked> {
        let dir = self.resolve_dir(path.parent()?).ok()?;
        let existing = open_no_follow(dir.as_fd(), path.file_name()?).ok()?;
        let is_same = fcntl::readlinkat(&existing, "").is_ok_and(|t| t == target.as_os_str());
        Some(if is_same {
            Linked::Yes
        } else {
            Linked::Occupied
        })
    }

    /// Makes or replaces the file at `path`. A link with this name is replaced, not followed.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
        self.write_by(path, &|to| to.write_all(content), mode)
    }

    /// Like [`Self::write`], with content that is produced in pieces.
    pub(crate) fn write_by(
        &self,
        path: &Path,
        content: Content<'_>,
        mode: u32,
    ) -> Result<(), Error> {
        let (dir, name) = self.place(path).map_err(failed(path, "create"))?;
        let (temporary, fd) =
            with_temporary(name, |temporary| create(dir.as_fd(), temporary, mode))
                .map_err(failed(path, "create"))?;
        let file = File::from(fd);
        // The mode is set explicitly, so that an inherited umask cannot make the loader's cache
        // unreadable. It is set by descriptor, because the name may lead elsewhere by now.
        let mut pieces = BufWriter::with_capacity(BUFFER, Bounded::new(&file));
        let done = content(&mut pieces)
            .and_then(|()| pieces.flush())
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| {
                Ok(fcntl::renameat(
                    dir.as_fd(),
                    temporary.as_os_str(),
                    dir.as_fd(),
                    name,
                )?)
            })
            .map_err(io_failed(path, "write"));
        if done.is_err() {
            remove(dir.as_fd(), &temporary);
        }
        done
    }
}
