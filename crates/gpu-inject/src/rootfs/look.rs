//! Reading files, directories and metadata in a container's root file system, and changing modes.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
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

/// Maximum number of names of one directory that are examined, however many are requested.
const MAX_NAMES: usize = 1 << 20;

impl Rootfs {
    /// Reads the regular file at `path`; `None` if there is none. More than `max` bytes are an
    /// error.
    ///
    /// An image cannot make us read endlessly, wait on a FIFO or open a device. A file to which a
    /// link of the image leads in a volume is not read either: the container may lack permission
    /// for it, and we copy the content into the container's files.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let file = match self.resolve_not_away(path) {
            Ok(file) => file,
            Err(Trouble::System(Errno::ENOENT | Errno::ENOTDIR)) => return Ok(None),
            Err(e) => return Err(failed(path, "open")(e)),
        };
        let stat = fstat(&file).map_err(failed(path, "stat"))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Ok(None);
        }
        let file = self
            .reopen(&file, OFlag::O_RDONLY)
            .map_err(failed(path, "open"))?;
        // One byte more than the size, so that the final read, which returns 0, does not grow the buffer.
        let size = u64::try_from(stat.st_size).unwrap_or_default().min(max);
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(io_failed(path, "read"))?;
        if content.len() as u64 > max {
            return Err(failed(path, "read")(Errno::EFBIG));
        }
        Ok(Some(content))
    }

    /// Metadata of what the path leads to; links are followed within the root.
    pub fn metadata(&self, path: &Path) -> Option<Metadata> {
        File::from(self.resolve(path).ok()?).metadata().ok()
    }

    /// The directory that contains the path's last name. The last one is cached, so that its path,
    /// which an image can make long, is resolved only once for many names.
    fn looked_in(&self, path: &Path) -> nix::Result<Rc<OwnedFd>> {
        let parent = path.parent().ok_or(Errno::ENOENT)?;
        let mut known = self.looked_in.borrow_mut();
        match &*known {
            Some((path, dir)) if path.as_os_str() == parent.as_os_str() => Ok(Rc::clone(dir)),
            _ => {
                let dir = Rc::new(self.resolve_dir(parent)?);
                *known = Some((parent.to_owned(), Rc::clone(&dir)));
                Ok(dir)
            }
        }
    }

    /// Opens the regular file at `path`; `None` if there is none, or a link to one, or one that the container's root may
    /// not open.
    pub(crate) fn open_plain_file(&self, path: &Path) -> Result<Option<File>, Error> {
        let look = || {
            let dir = self.looked_in(path)?;
            let name = path.file_name().ok_or(Errno::ENOENT)?;
            let file = open_no_follow(dir.as_fd(), name)?;
            Ok((kind(&file)? == SFlag::S_IFREG).then_some(file))
        };
        let file = match look() {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => None,
            result => result.map_err(failed(path, "open"))?,
        };
        match file.map(|file| self.reopen(&file, OFlag::O_RDONLY)) {
            None | Some(Err(Errno::EACCES)) => Ok(None),
            Some(opened) => opened.map(Some).map_err(failed(path, "open")),
        }
    }

    /// Metadata of `path` itself; a link at its end is not followed.
    pub fn link_metadata(&self, path: &Path) -> Option<Metadata> {
        let dir = self.looked_in(path).ok()?;
        let file = open_no_follow(dir.as_fd(), path.file_name()?).ok()?;
        File::from(file).metadata().ok()
    }

    /// Opens the regular file at `path`, for reading parts of it, since an image's files can have
    /// any length. Neither a FIFO nor a device is opened.
    pub fn open_file(&self, path: &Path) -> Option<File> {
        let file = File::from(self.resolve(path).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        self.reopen(&file.into(), OFlag::O_RDONLY).ok()
    }

    /// The names in the directory at `path`, sorted, without `.` and `..`. Empty if there is no such
    /// directory. At most `most` names are read, so that an image cannot make us read endlessly.
    pub fn names(&self, path: &Path, most: usize) -> Vec<OsString> {
        let dir = self.resolve_dir(path);
        dir.map(|dir| Self::names_in(&dir, most))
            .unwrap_or_default()
    }

    fn names_in(dir: &OwnedFd, most: usize) -> Vec<OsString> {
        let mut names = Vec::new();
        let mut take = |name: &OsStr, _| {
            let has_room = names.len() < most;
            if has_room {
                names.push(name.to_owned());
            }
            has_room
        };
        // If reading fails, the names read so far are returned.
        let _ = entries::each(dir, &mut take);
        names.sort();
        names
    }

    /// The names that `is_wanted` chooses in the directory at `path`, unsorted; none if the directory does not exist.
    /// It is an error if the directory cannot be read completely or has more than `most` names, because a needed name
    /// could be missing.
    pub(crate) fn names_of(
        &self,
        path: &Path,
        most: usize,
        is_wanted: impl Fn(&OsStr) -> bool,
    ) -> Result<Vec<OsString>, Error> {
        let dir = match self.resolve_dir(path) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Vec::new()),
            Err(e) => return Err(failed(path, "open")(e)),
        };
        let (mut names, mut count) = (Vec::new(), 0);
        entries::each(&dir, |name, _| {
            count += 1;
            if is_wanted(name) {
                names.push(name.to_owned());
            }
            names.len() <= most && count <= MAX_NAMES
        })
        .map_err(|e| io_failed(path, "read")(e.into()))?;
        if names.len() > most || count > MAX_NAMES {
            let most = if count > MAX_NAMES { MAX_NAMES } else { most };
            let why = format!("more than {most} names, which are not all looked at");
            return Err(io_failed(path, "read")(io::Error::other(why)));
        }
        Ok(names)
    }

    /// The names of the device nodes in the directory at `path`, at most `most`.
    pub(crate) fn nodes(&self, path: &Path, most: usize) -> Vec<OsString> {
        let Ok(dir) = self.resolve_dir(path) else {
            return Vec::new();
        };
        let mut nodes = Vec::new();
        let _ = entries::each(&dir, |name, kind| {
            let is_node = match kind {
                FileType::CharacterDevice => true,
                // It may be a node mounted on a file, as rootless engines do it.
                FileType::RegularFile | FileType::Unknown => {
                    let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
                    stat.is_ok_and(|f| f.st_mode & libc::S_IFMT == libc::S_IFCHR)
                }
                _ => false,
            };
            if is_node {
                nodes.push(name.to_owned());
            }
            nodes.len() < most
        });
        nodes
    }

    /// The device numbers of the nodes in the directory at `path` whose names match, at most `most`.
    pub(crate) fn numbers_of_nodes(
        &self,
        path: &Path,
        most: usize,
        is_match: impl Fn(&OsStr) -> bool,
    ) -> Vec<libc::dev_t> {
        let Ok(dir) = self.resolve_dir(path) else {
            return Vec::new();
        };
        let mut numbers = Vec::new();
        let _ = entries::each(&dir, |name, _| {
            let stat = || fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok();
            let number = is_match(name).then(stat).flatten();
            numbers.extend(
                number
                    .filter(|f| f.st_mode & libc::S_IFMT == libc::S_IFCHR)
                    .map(|f| f.st_rdev),
            );
            numbers.len() < most
        });
        numbers
    }

    /// Sets the permission bits of a file or directory; links are followed within the root. Never
    /// sets set-user-ID, set-group-ID or sticky, and never changes a device node, which would be the
    /// host's. In a volume the mode is not changed.
    pub fn set_mode(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let change = || -> Result<(), Trouble> {
            let file = self.resolve_own(path)?;
            if !matches!(kind(&file)?, SFlag::S_IFREG | SFlag::S_IFDIR) {
                return Err(Errno::EINVAL.into());
            }
            let fd = self.reopen(&file, OFlag::O_RDONLY)?;
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
    fn reading_never_leaves_the_image() {
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
    fn changing_a_mode_never_leaves_the_image() {
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
