//! Looking into a container's root file system, and the modes of what is there.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat};
use rustix::fs::FileType;

use super::calls::{failed, io_failed, kind, open_no_follow};
use super::elsewhere::Elsewhere;
use super::entries;
use super::handle::Rootfs;
use super::walk::Trouble;
use crate::error::Error;

impl Rootfs {
    /// The regular file at `path`, `None` where there is none. At most `max` bytes: an
    /// image cannot make us read for ever, nor wait on a FIFO, nor open a device. Nor is it read
    /// where a link of the image leads into a volume: the container may not be allowed to, and
    /// what we read we write down for it.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let found = match self.resolve_not_away(path) {
            Ok(found) => found,
            Err(Trouble::System(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(None),
            Err(e) => return Err(failed(path, "open")(e)),
        };
        let about = fstat(&found).map_err(failed(path, "stat"))?;
        if SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Ok(None);
        }
        let file = self
            .reopen(&found, OFlag::O_RDONLY)
            .map_err(failed(path, "open"))?;
        // One byte more than there is: the read that finds it full is the last.
        let size = u64::try_from(about.st_size).unwrap_or_default().min(max);
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(io_failed(path, "read"))?;
        if content.len() as u64 > max {
            return Err(failed(path, "read")(Errno::EFBIG));
        }
        Ok(Some(content))
    }

    /// What the path leads to, links followed within the root.
    pub fn metadata(&self, path: &Path) -> Option<Metadata> {
        File::from(self.resolve(path).ok()?).metadata().ok()
    }

    /// The directory that a path's last name is in. Of many names in one directory the way to it
    /// is gone once: an image can make it long.
    fn looked_in(&self, path: &Path) -> Option<Rc<OwnedFd>> {
        let parent = path.parent()?;
        let mut known = self.looked_in.borrow_mut();
        match &*known {
            Some((path, dir)) if path.as_os_str() == parent.as_os_str() => Some(Rc::clone(dir)),
            _ => {
                let dir = Rc::new(self.resolve_dir(parent).ok()?);
                *known = Some((parent.to_owned(), Rc::clone(&dir)));
                Some(dir)
            }
        }
    }

    /// The regular file at `path` itself, where it is no link to one.
    pub(crate) fn open_plain_file(&self, path: &Path) -> Option<File> {
        let dir = self.looked_in(path)?;
        let found = open_no_follow(dir.as_fd(), path.file_name()?).ok()?;
        let is_file = kind(&found).ok()? == SFlag::S_IFREG;
        is_file.then(|| self.reopen(&found, OFlag::O_RDONLY).ok())?
    }

    /// What is at `path` itself, be it a link.
    pub fn link_metadata(&self, path: &Path) -> Option<Metadata> {
        let dir = self.looked_in(path)?;
        let found = open_no_follow(dir.as_fd(), path.file_name()?).ok()?;
        File::from(found).metadata().ok()
    }

    /// The regular file at `path`, for reading parts of it: an image's files can be of any
    /// length. Neither a FIFO nor a device is opened.
    pub fn open_file(&self, path: &Path) -> Option<File> {
        let found = File::from(self.resolve(path).ok()?);
        if !found.metadata().ok()?.is_file() {
            return None;
        }
        self.reopen(&found.into(), OFlag::O_RDONLY).ok()
    }

    /// Names in the directory at `path`, sorted, without `.` and `..`; none where there is
    /// no such directory. Of more than `most` names, that many: an image cannot make us
    /// read for ever.
    pub fn names(&self, path: &Path, most: usize) -> Vec<OsString> {
        let dir = self.resolve_dir(path);
        dir.map(|dir| Self::names_in(&dir, most))
            .unwrap_or_default()
    }

    fn names_in(dir: &OwnedFd, most: usize) -> Vec<OsString> {
        let mut names = Vec::new();
        entries::each(dir, most, |name, _| names.push(name.to_owned()));
        names.sort();
        names
    }

    /// Names of the device nodes in the directory at `path`, of at most `most` names there.
    pub(crate) fn nodes(&self, path: &Path, most: usize) -> Vec<OsString> {
        let Ok(dir) = self.resolve_dir(path) else {
            return Vec::new();
        };
        let mut nodes = Vec::new();
        entries::each(&dir, most, |name, kind| {
            let is_node = match kind {
                FileType::CharacterDevice => true,
                // A node that is mounted upon a file, as rootless engines give them.
                FileType::RegularFile | FileType::Unknown => {
                    let found = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
                    found.is_ok_and(|f| f.st_mode & libc::S_IFMT == libc::S_IFCHR)
                }
                _ => false,
            };
            if is_node {
                nodes.push(name.to_owned());
            }
        });
        nodes
    }

    /// Numbers of the device nodes with such names in the directory at `path`, of at most `most`
    /// names there.
    pub(crate) fn numbers_of_nodes(
        &self,
        path: &Path,
        most: usize,
        is_it: impl Fn(&OsStr) -> bool,
    ) -> Vec<libc::dev_t> {
        let Ok(dir) = self.resolve_dir(path) else {
            return Vec::new();
        };
        let number = |name: OsString| {
            let found = fstatat(&dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
            (found.st_mode & libc::S_IFMT == libc::S_IFCHR).then_some(found.st_rdev)
        };
        let names = Self::names_in(&dir, most).into_iter();
        names.filter(|n| is_it(n)).filter_map(number).collect()
    }

    /// Sets the permission bits of a file or directory, links followed within the root. Never
    /// set-user-id and its like, and never those of a node: that would be the host's device. What
    /// is in a volume keeps its own.
    pub fn set_mode(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let change = || -> Result<(), Trouble> {
            let found = self.resolve_own(path)?;
            if !matches!(kind(&found)?, SFlag::S_IFREG | SFlag::S_IFDIR) {
                return Err(Errno::EINVAL.into());
            }
            let fd = self.reopen(&found, OFlag::O_RDONLY)?;
            Ok(fchmod(&fd, Mode::from_bits_truncate(mode & 0o777))?)
        };
        match change() {
            Err(Trouble::Elsewhere(why @ Elsewhere::Volume)) => {
                self.note(path, &format!("the mode stays as it is: {why}"));
                Ok(())
            }
            other => other.map_err(failed(path, "change the mode")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_looked_at_is_in_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let outside = dir.path().join("outside");
        for made in [&image, &outside] {
            fs::create_dir(made).unwrap();
        }
        fs::write(outside.join("secret"), "x").unwrap();
        symlink(&outside, image.join("out")).unwrap();
        symlink("../../outside", image.join("up")).unwrap();
        nix::unistd::mkfifo(&image.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        for n in 0..9 {
            fs::write(image.join(format!("f{n}")), "x").unwrap();
        }
        let rootfs = Rootfs::open(&image).unwrap();
        for path in ["/out/secret", "/up/secret", "/none"] {
            assert!(rootfs.metadata(Path::new(path)).is_none(), "{path}");
            assert!(rootfs.open_file(Path::new(path)).is_none(), "{path}");
        }
        assert!(rootfs.names(Path::new("/out"), 9).is_empty());
        assert!(rootfs.open_file(Path::new("/fifo")).is_none());
        assert!(
            rootfs
                .link_metadata(Path::new("/out"))
                .unwrap()
                .is_symlink()
        );
        assert_eq!(rootfs.names(Path::new("/"), 4).len(), 4);
        assert!(rootfs.open_file(Path::new("/f0")).is_some());
    }

    #[test]
    fn a_mode_is_changed_in_the_image_alone() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("dir")).unwrap();
        let secret = dir.path().join("secret");
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, image.join("out")).unwrap();
        symlink("../secret", image.join("up")).unwrap();
        symlink("dir", image.join("in")).unwrap();
        let rootfs = Rootfs::open(&image).unwrap();
        for path in ["/out", "/up", "/../secret", "/none"] {
            assert!(rootfs.set_mode(Path::new(path), 0o777).is_err(), "{path}");
        }
        rootfs.set_mode(Path::new("/in"), 0o4711).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&image.join("dir")), mode(&secret)), (0o711, 0o600));
    }
}
