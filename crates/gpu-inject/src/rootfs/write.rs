//! Links and files, made or replaced by descriptor.

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

/// Written at once.
const PIECE: usize = 64 << 10;
/// What is to be in a file.
pub(crate) type Content<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// What became of a wanted link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It is there now, or was already.
    Yes,
    /// The image has a file or directory of that name, which stays.
    Occupied,
    /// Nothing can be made there; a note says why.
    Unwritable,
}

impl Rootfs {
    /// Makes the link `path -> target`. A link that is there is replaced, and so is an
    /// empty file (what a committed container keeps of a mount point); anything else stays.
    pub fn symlink(&self, path: &Path, target: &Path) -> Result<Linked, Error> {
        let made = self.symlink_within(path, target);
        let why = match made {
            Err(Trouble::System(e)) if is_unwritable(e) => e.desc().to_owned(),
            Err(Trouble::Elsewhere(why)) => match self.is_linked(path, target) {
                Some(linked) => return Ok(linked),
                None if why == Elsewhere::Volume => why.to_string(),
                None => return made.map_err(failed(path, "link")),
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
        if let Ok(found) = open_no_follow(dir.as_fd(), name) {
            let about = fstat(&found)?;
            let is_link = about.st_mode & libc::S_IFMT == libc::S_IFLNK;
            let is_leftover = about.st_mode & libc::S_IFMT == libc::S_IFREG && about.st_size == 0;
            if !(is_link || is_leftover) {
                return Ok(Linked::Occupied);
            }
            if is_link && fcntl::readlinkat(&found, "").is_ok_and(|t| t == target.as_os_str()) {
                return Ok(Linked::Yes);
            }
        }
        let (temporary, ()) = with_temporary(name, |temporary| {
            unistd::symlinkat(target, dir.as_fd(), temporary)
        })?;
        match replace(dir.as_fd(), &temporary, name) {
            // Something is mounted there, hence wanted there.
            Err(Errno::EBUSY) => Ok(Linked::Occupied),
            other => Ok(other.map(|()| Linked::Yes)?),
        }
    }

    /// What is where a link should be and cannot be made.
    fn is_linked(&self, path: &Path, target: &Path) -> Option<Linked> {
        let dir = self.resolve_dir(path.parent()?).ok()?;
        let found = open_no_follow(dir.as_fd(), path.file_name()?).ok()?;
        let is_it = fcntl::readlinkat(&found, "").is_ok_and(|t| t == target.as_os_str());
        Some(if is_it { Linked::Yes } else { Linked::Occupied })
    }

    /// Replaces the file at `path`, or makes it. A link of that name is replaced, not
    /// followed.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
        self.write_by(path, &|to| to.write_all(content), mode)
    }

    /// The same with a content that is written piece by piece.
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
        // By descriptor: the name may lead elsewhere by now. The umask of whoever started us
        // must not make the loader's cache unreadable.
        let mut pieces = BufWriter::with_capacity(PIECE, &file);
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
