//! A container's root file system, which is hostile.
//!
//! Every path of a container is resolved here and nowhere else: by `openat2(2)`
//! with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`, from a descriptor of the
//! root. A link in the image, absolute or with any number of `..`, leads to a
//! place in the image; what is opened is the descriptor, never the path again.
//! openat2 came with Linux 5.6; an older kernel is refused, since a walk in
//! user space could be raced by the image's own processes.

mod look;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};
use nix::unistd::{self, UnlinkatFlags};

use crate::error::Error;

/// Links in one path, as the kernel counts them (`MAXSYMLINKS`).
const MAX_LINKS: u8 = 40;

/// A root file system, entered by descriptor.
#[derive(Debug)]
pub struct Rootfs {
    fd: OwnedFd,
}

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For a file, socket or device node.
    File,
    /// For a directory.
    Directory,
}

/// What became of a wanted link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It is there now, or was already.
    Yes,
    /// The image has a file or directory of that name, which stays.
    Occupied,
}

impl Rootfs {
    /// Opens the directory at `path`, a path of the runtime's, not of the image's.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd =
            fcntl::open(path, flags, Mode::empty()).map_err(|e| Error::host(path)(e.into()))?;
        Ok(Self { fd })
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let inner = path.strip_prefix("/").unwrap_or(path);
        let inner = if inner.as_os_str().is_empty() {
            Path::new(".")
        } else {
            inner
        };
        let mut tries = 0;
        loop {
            match fcntl::openat2(self.fd.as_fd(), inner, how) {
                // A rename elsewhere made the kernel unsure (openat2(2)); an image cannot keep
                // us here for ever by renaming.
                Err(Errno::EAGAIN) if tries < 64 => tries += 1,
                other => return other,
            }
        }
    }

    /// Whether the path leads to anything.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path, OFlag::O_PATH).is_ok()
    }

    /// The directory at `path`, made with its parents where missing. A link of the image
    /// that leads nowhere is followed: what it names, in the image, is made.
    pub fn make_dir(&self, path: &Path) -> Result<OwnedFd, Error> {
        self.make_dir_within(path, MAX_LINKS)
            .map_err(failed(path, "make directory"))
    }

    fn make_dir_within(&self, path: &Path, links: u8) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let mut done = PathBuf::from("/");
        let mut at = self.resolve(&done, flags)?;
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name,
                // Of a link's target. All before it is there by now, so the kernel can say
                // where it leads; above the root there is only the root.
                Component::ParentDir => OsStr::new(".."),
                _ => continue,
            };
            let before = done.clone();
            done.push(name);
            let mut next = self.resolve(&done, flags);
            if next.as_ref().is_err_and(|e| *e == Errno::ENOENT) {
                match mkdirat(at.as_fd(), name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) => next = self.resolve(&done, flags),
                    Err(Errno::EEXIST) => {
                        let links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
                        let target = fcntl::readlinkat(at.as_fd(), name)?;
                        self.make_dir_within(&before.join(target), links)?;
                        next = self.resolve(&done, flags);
                    }
                    Err(e) => return Err(e),
                }
            }
            at = next?;
        }
        Ok(at)
    }

    /// The directory a path's last name is in, made where missing, and that name.
    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Error> {
        let name = path
            .file_name()
            .ok_or(Errno::EINVAL)
            .map_err(failed(path, "name"))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.make_dir(parent)?, name))
    }

    /// A place to mount on, made where missing. What is there stays as it is.
    pub fn mount_point(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Error> {
        if kind == Kind::Directory {
            return self.make_dir(path);
        }
        match self.resolve(path, OFlag::O_PATH) {
            Ok(found) => {
                let found = File::from(found);
                let is_dir = found.metadata().map_err(io_failed(path, "stat"))?.is_dir();
                if is_dir {
                    return Err(failed(path, "mount a file over a directory")(Errno::EISDIR));
                }
                Ok(found.into())
            }
            Err(Errno::ENOENT) => {
                let (dir, name) = self.parent(path)?;
                create(dir.as_fd(), name, 0o644).map_err(failed(path, "create"))?;
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                fcntl::openat(dir.as_fd(), name, flags, Mode::empty()).map_err(failed(path, "open"))
            }
            Err(e) => Err(failed(path, "open")(e)),
        }
    }

    /// Makes the link `path -> target`. A link that is there is replaced, and so is an
    /// empty file (what a committed container keeps of a mount point); anything else stays.
    pub fn symlink(&self, path: &Path, target: &Path) -> Result<Linked, Error> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if let Ok(found) = fcntl::openat(dir.as_fd(), name, flags, Mode::empty()) {
            let found = File::from(found)
                .metadata()
                .map_err(io_failed(path, "stat"))?;
            let device = File::from(dir.try_clone().map_err(io_failed(path, "stat"))?)
                .metadata()
                .map_err(io_failed(path, "stat"))?
                .dev();
            let is_leftover = found.is_file() && found.size() == 0;
            // Of another device: something is mounted there, hence wanted there.
            if found.dev() != device || !(found.is_symlink() || is_leftover) {
                return Ok(Linked::Occupied);
            }
            if found.is_symlink()
                && fcntl::readlinkat(dir.as_fd(), name).is_ok_and(|t| t == target.as_os_str())
            {
                return Ok(Linked::Yes);
            }
        }
        let temporary = temporary(name);
        unistd::symlinkat(target, dir.as_fd(), temporary.as_os_str())
            .map_err(failed(path, "link"))?;
        replace(dir.as_fd(), &temporary, name).map_err(failed(path, "link"))?;
        Ok(Linked::Yes)
    }

    /// Replaces the file at `path`, or makes it. A link of that name is replaced, not followed.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        let temporary = temporary(name);
        let fd = create(dir.as_fd(), &temporary, mode).map_err(failed(path, "create"))?;
        let written = File::from(fd).write_all(content);
        // The umask of whoever started us must not make the loader's cache unreadable.
        let mode = Mode::from_bits_truncate(mode);
        let done = written.map_err(io_failed(path, "write")).and_then(|()| {
            fchmodat(
                dir.as_fd(),
                temporary.as_os_str(),
                mode,
                FchmodatFlags::FollowSymlink,
            )
            .and_then(|()| replace(dir.as_fd(), &temporary, name))
            .map_err(failed(path, "write"))
        });
        if done.is_err() {
            let _ = unistd::unlinkat(
                dir.as_fd(),
                temporary.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
        done
    }

    /// The regular file at `path`, `None` where there is none. At most `max` bytes: an
    /// image cannot make us read for ever, nor wait on a FIFO.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let file = match self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(e) => return Err(failed(path, "open")(e)),
        };
        if !file.metadata().map_err(io_failed(path, "stat"))?.is_file() {
            return Ok(None);
        }
        let mut content = Vec::new();
        file.take(max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(io_failed(path, "read"))?;
        if content.len() as u64 > max {
            return Err(failed(path, "read")(Errno::EFBIG));
        }
        Ok(Some(content))
    }
}

fn create(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> nix::Result<OwnedFd> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    fcntl::openat(dir, name, flags, Mode::from_bits_truncate(mode))
}

fn replace(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> nix::Result<()> {
    fcntl::renameat(dir, from, dir, to).inspect_err(|_| {
        let _ = unistd::unlinkat(dir, from, UnlinkatFlags::NoRemoveDir);
    })
}

fn temporary(name: &OsStr) -> OsString {
    let mut made = OsString::from(".");
    made.push(name);
    made.push(format!(".{}", std::process::id()));
    made
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Rootfs {
        path,
        what,
        source: errno.into(),
    }
}

fn io_failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Rootfs { path, what, source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// An image, and beside it what must never be touched.
    fn image() -> (tempfile::TempDir, Rootfs, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::create_dir_all(image.join("usr/lib")).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "sings").unwrap();
        let rootfs = Rootfs::open(&image).unwrap();
        (dir, rootfs, image)
    }

    fn outside_is_untouched(dir: &tempfile::TempDir) {
        let outside = dir.path().join("outside");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "sings");
    }

    #[test]
    fn links_that_lead_out_stay_in() {
        let (dir, rootfs, image) = image();
        let outside = dir.path().join("outside");
        symlink(&outside, image.join("etc")).unwrap();
        symlink("../../../../../..", image.join("usr/up")).unwrap();
        symlink(outside.join("canary"), image.join("usr/lib/canary")).unwrap();
        rootfs
            .write(Path::new("/etc/ld.so.cache"), b"x", 0o644)
            .unwrap();
        let inner = outside.strip_prefix("/").unwrap();
        assert!(image.join(inner).join("ld.so.cache").is_file());
        rootfs
            .write(Path::new("/usr/up/made"), b"x", 0o644)
            .unwrap();
        assert!(image.join("made").exists());
        rootfs
            .write(Path::new("/usr/lib/canary"), b"x", 0o644)
            .unwrap();
        assert!(
            fs::symlink_metadata(image.join("usr/lib/canary"))
                .unwrap()
                .is_file()
        );
        rootfs
            .mount_point(Path::new("/etc/canary"), Kind::File)
            .unwrap();
        rootfs.symlink(Path::new("/etc/x"), Path::new("y")).unwrap();
        outside_is_untouched(&dir);
    }

    #[test]
    fn a_link_of_the_image_is_followed_within_it() {
        let (dir, rootfs, image) = image();
        symlink("/usr/lib", image.join("lib64")).unwrap();
        rootfs
            .mount_point(Path::new("/lib64/libcuda.so.1"), Kind::File)
            .unwrap();
        assert!(image.join("usr/lib/libcuda.so.1").is_file());
        outside_is_untouched(&dir);
    }

    #[test]
    fn a_directory_link_that_leads_nowhere_is_followed_in_the_image() {
        let (dir, rootfs, image) = image();
        symlink("/not/yet/made", image.join("lib64")).unwrap();
        symlink("../../../over/there", image.join("usr/share")).unwrap();
        symlink(dir.path().join("outside/new"), image.join("opt")).unwrap();
        for path in ["/lib64/x", "/usr/share/y", "/opt/z"] {
            rootfs.mount_point(Path::new(path), Kind::File).unwrap();
        }
        assert!(image.join("not/yet/made/x").is_file());
        assert!(image.join("over/there/y").is_file());
        outside_is_untouched(&dir);
        symlink("b", image.join("a")).unwrap();
        symlink("a", image.join("b")).unwrap();
        assert!(rootfs.make_dir(Path::new("/a/dir")).is_err());
    }

    #[test]
    fn links_replace_links_and_leftovers_only() {
        let (_dir, rootfs, image) = image();
        fs::write(image.join("usr/lib/empty"), "").unwrap();
        fs::write(image.join("usr/lib/full"), "full").unwrap();
        symlink("old", image.join("usr/lib/link")).unwrap();
        let link = |name: &str| {
            rootfs
                .symlink(&Path::new("/usr/lib").join(name), Path::new("new"))
                .unwrap()
        };
        assert_eq!(
            (link("empty"), link("link"), link("fresh")),
            (Linked::Yes, Linked::Yes, Linked::Yes)
        );
        assert_eq!(link("full"), Linked::Occupied);
        assert_eq!(
            fs::read_link(image.join("usr/lib/empty")).unwrap(),
            Path::new("new")
        );
        assert_eq!(fs::read(image.join("usr/lib/full")).unwrap(), b"full");
    }

    #[test]
    fn reading_is_bounded_and_never_waits() {
        let (_dir, rootfs, image) = image();
        nix::unistd::mkfifo(&image.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        fs::write(image.join("long"), vec![0; 100]).unwrap();
        symlink("loop", image.join("loop")).unwrap();
        assert_eq!(rootfs.read(Path::new("/fifo"), 10).unwrap(), None);
        assert_eq!(rootfs.read(Path::new("/none"), 10).unwrap(), None);
        assert!(rootfs.read(Path::new("/long"), 10).is_err());
        assert!(rootfs.read(Path::new("/loop"), 10).is_err());
        assert_eq!(
            rootfs.read(Path::new("/long"), 100).unwrap().unwrap().len(),
            100
        );
    }
}
