//! Places to mount on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl;

use super::resolve::MAX_LINKS;
use super::{Kind, Rootfs, create, failed, is_dir, may_make_in};
use crate::error::Error;

impl Rootfs {
    /// A place to mount on, made where missing. What is there stays as it is.
    pub fn mount_point(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Error> {
        if kind == Kind::Directory {
            return self.make_dir(path);
        }
        // Mostly nothing is there.
        if let Ok(made) = self.new_file(path) {
            return Ok(made);
        }
        self.file_within(path, MAX_LINKS)
            .map_err(failed(path, "make a file to mount on"))
    }

    fn new_file(&self, path: &Path) -> nix::Result<OwnedFd> {
        let (dir, name) = self.place(path)?;
        let made = create(dir.as_fd(), name, 0o644)?;
        self.remember(dir, name, false);
        Ok(made)
    }

    fn file_within(&self, path: &Path, links: u8) -> nix::Result<OwnedFd> {
        match self.resolve(path) {
            Ok(found) if is_dir(&found)? => Err(Errno::EISDIR),
            Err(Errno::ENOENT) => {
                let (dir, name) = self.parent(path, links)?;
                may_make_in(dir.as_fd())?;
                match create(dir.as_fd(), name, 0o644) {
                    Ok(made) => {
                        self.remember(Rc::new(dir), name, false);
                        Ok(made)
                    }
                    // A link that leads nowhere: what it names, in the image, is made.
                    Err(Errno::EEXIST) => {
                        let links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
                        let target = fcntl::readlinkat(dir.as_fd(), name)?;
                        let parent = path.parent().unwrap_or(Path::new("/"));
                        self.file_within(&parent.join(target), links)
                    }
                    Err(e) => Err(e),
                }
            }
            other => other,
        }
    }
}
