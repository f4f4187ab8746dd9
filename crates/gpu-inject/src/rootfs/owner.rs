//! Decides whether a file system belongs to the container alone.
//!
//! Its root mount belongs to it, and so does any tmpfs that is not mounted outside the container: the runtime's /dev,
//! and the tmpfs of `--tmpfs /run` or `/tmp`. Everything else is a volume, which may be a directory of the host.
//! Nothing is made, replaced or removed there. A mount is identified by its ID; `st_dev` would not do, because an
//! overlay has several on one mount and one file system can be mounted many times.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, fstat, major, minor};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};
use nix::unistd::fchdir;

use super::calls::open_no_follow;
use super::elsewhere::Elsewhere;
use super::handle::Rootfs;
use super::place::{MountPlace, On};
use super::table::{self, MountTable};
use super::walk::{Step, Trouble};
use crate::linux::{is_missing, mount_api};

/// The kernel's own file systems, by their magic numbers in include/uapi/linux/magic.h.
const KERNEL_FILE_SYSTEMS: [FsType; 14] = [
    FsType(0x9fa0),      // PROC_SUPER_MAGIC
    FsType(0x6265_6572), // SYSFS_MAGIC
    FsType(0x0027_e0eb), // CGROUP_SUPER_MAGIC
    FsType(0x6367_7270), // CGROUP2_SUPER_MAGIC
    FsType(0x6462_6720), // DEBUGFS_MAGIC
    FsType(0x7472_6163), // TRACEFS_MAGIC
    FsType(0x7363_6673), // SECURITYFS_MAGIC
    FsType(0x6265_6570), // CONFIGFS_MAGIC (fs/configfs)
    FsType(0xcafe_4a11), // BPF_FS_MAGIC
    FsType(0x4249_4e4d), // BINFMTFS_MAGIC
    FsType(0x0765_5821), // RDTGROUP_SUPER_MAGIC
    FsType(0x6165_676c), // PSTOREFS_MAGIC
    FsType(0xde5e_81e4), // EFIVARFS_MAGIC
    FsType(0xf97c_ff8c), // SELINUX_MAGIC
];

impl Rootfs {
    /// Records the mounts of the namespace that we were in before we entered the container's. File
    /// systems that are mounted there do not belong to the container alone.
    pub(crate) fn know_outside(&self, mountinfo: String) {
        // A second call has no effect; there is only one caller.
        let _ = self.outside_text.set(mountinfo);
    }

    /// The ID of the mount that a descriptor is on.
    pub(super) fn mount_of(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        match mount_api::mount_id(fd) {
            Ok(Some(id)) => Ok(id),
            // For Linux before 5.8. Before 5.14 a process in a user namespace may not read its own fdinfo.
            _ => self.mount_by_fdinfo(fd).or_else(|_| self.mount_by_path(fd)),
        }
    }

    pub(super) fn mount_by_fdinfo(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        let text = self.read_own_proc(&format!("fdinfo/{}", fd.as_raw_fd()))?;
        String::from_utf8_lossy(&text)
            .lines()
            .find_map(|l| l.strip_prefix("mnt_id:")?.trim().parse().ok())
            .ok_or(Errno::ENOSYS)
    }

    /// The ID by the path that procfs has for the descriptor.
    pub(super) fn mount_by_path(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        let descriptors = self.descriptors().ok_or(Errno::ENOENT)?;
        let path = fcntl::readlinkat(descriptors, fd.as_raw_fd().to_string().as_str())?;
        let path = Path::new(&path);
        if !path.is_absolute() || path.as_os_str().as_bytes().ends_with(b" (deleted)") {
            return Err(Errno::ESTALE);
        }
        let text = self.read_own_proc("mountinfo")?;
        table::mount_at(&text, path).ok_or(Errno::ESTALE)
    }

    /// Reads a file of our own directory in the host's procfs. As bytes, because a user who may mount
    /// FUSE file systems can choose a mount point whose name is not UTF-8.
    fn read_own_proc(&self, name: &str) -> nix::Result<Vec<u8>> {
        let descriptors = self.descriptors().ok_or(Errno::ENOENT)?;
        let name = format!("../{name}");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut file = File::from(fcntl::openat(
            descriptors,
            name.as_str(),
            flags,
            Mode::empty(),
        )?);
        let mut text = Vec::with_capacity(16 << 10);
        match file.read_to_end(&mut text) {
            Ok(_) => Ok(text),
            Err(e) => Err(e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        }
    }

    pub(super) fn root_mount(&self) -> nix::Result<u64> {
        if let Some(known) = self.root_mount.get() {
            return Ok(*known);
        }
        let mount = self.mount_of(self.fd.as_fd())?;
        Ok(*self.root_mount.get_or_init(|| mount))
    }

    /// The container's mounts. Read once, and only if a path of ours leads to another mount.
    fn table(&self) -> nix::Result<&MountTable> {
        if let Some(known) = self.table.get() {
            return Ok(known);
        }
        let text = self.read_own_proc("mountinfo")?;
        let table = MountTable::of(&String::from_utf8_lossy(&text), self.root_mount()?);
        Ok(self.table.get_or_init(|| table))
    }

    /// Whether this is a tmpfs that is not mounted outside of the container.
    fn is_own_tmpfs(&self, fd: &OwnedFd) -> nix::Result<bool> {
        if fstatfs(fd)?.filesystem_type() != TMPFS_MAGIC {
            return Ok(false);
        }
        let device = fstat(fd)?.st_dev;
        let device = (major(device), minor(device));
        if let Some(text) = self.outside_text.get() {
            let outside = self.outside.get_or_init(|| table::devices(text));
            return Ok(!outside.is_empty() && !outside.contains(&device));
        }
        let outside = &self.table()?.outside;
        // After `pivot_root` the host's mounts are not visible. Without knowing them no tmpfs counts as the container's own.
        Ok(!outside.is_empty() && !outside.contains(&device))
    }

    /// Ensures that entries may be made in this directory. Returns the mount that it is on.
    pub(super) fn ensure_own(&self, step: &Step) -> Result<On, Trouble> {
        if KERNEL_FILE_SYSTEMS.contains(&fstatfs(&step.fd)?.filesystem_type()) {
            return Err(Errno::EROFS.into());
        }
        match self.on(step)? {
            On::Other(_) if !self.has_callers_rights => Err(Trouble::Elsewhere(elsewhere(step))),
            on => Ok(on),
        }
    }

    /// The kind of mount that this step is on.
    pub(super) fn on(&self, step: &Step) -> nix::Result<On> {
        if step.mount == self.root_mount()? {
            return Ok(On::Root);
        }
        if self.own_dev()? == Some(step.mount) || self.is_own_tmpfs(&step.fd)? {
            return Ok(On::Own);
        }
        Ok(On::Other(step.mount))
    }

    /// The mount at /dev, if config.json says that the runtime has made it for this container.
    fn own_dev(&self) -> nix::Result<Option<u64>> {
        if !self.arrangement().own_dev {
            return Ok(None);
        }
        if let Some(known) = self.own_dev.get() {
            return Ok(*known);
        }
        let mut mount = None;
        if let Ok(dev) = open_no_follow(self.fd.as_fd(), OsStr::new("dev"))
            && fstatfs(&dev)?.filesystem_type() == TMPFS_MAGIC
        {
            mount = Some(self.mount_of(dev.as_fd())?);
        }
        Ok(*self.own_dev.get_or_init(|| mount))
    }

    /// Ensures that no link of the image has led to a file system that is not the container's alone.
    pub(super) fn ensure_not_away(&self, step: &Step) -> Result<(), Trouble> {
        let is_away = !self.has_callers_rights
            && step.by_link
            && matches!(self.on(step)?, On::Other(_))
            && !KERNEL_FILE_SYSTEMS.contains(&fstatfs(&step.fd)?.filesystem_type());
        if is_away {
            return Err(Trouble::Elsewhere(Elsewhere::ByLink));
        }
        Ok(())
    }

    /// Ensures that a mount made at this mount point does not propagate out of the container. The
    /// root mount becomes slave if it is shared. Volumes keep the propagation that the user chose.
    pub(crate) fn ensure_private(&self, place: &MountPlace) -> io::Result<()> {
        match place.on {
            On::Own => Ok(()),
            On::Root if self.is_cut_off.get() => Ok(()),
            On::Root => {
                // Fails if the root directory is not a mount point.
                if self.make_slave(self.fd.as_fd()).is_err() {
                    self.ensure_unshared(self.root_mount()?)?;
                }
                self.is_cut_off.set(true);
                Ok(())
            }
            On::Other(mount) => self.ensure_unshared(mount),
        }
    }

    /// Makes the mount slave, so that later mounts on it do not propagate anywhere else.
    fn make_slave(&self, mount: BorrowedFd<'_>) -> io::Result<()> {
        match mount_api::set_slave(mount) {
            Err(e) if is_missing(&e) => {
                fchdir(self.descriptors().ok_or(Errno::ENOENT)?)?;
                let (none, name) = (None::<&str>, mount.as_raw_fd().to_string());
                Ok(nix::mount::mount(
                    none,
                    name.as_str(),
                    none,
                    MsFlags::MS_SLAVE,
                    none,
                )?)
            }
            other => other,
        }
    }

    /// A file of the container's procfs, which the runtime has mounted at /proc. `None` if there is
    /// no such file, or if something is mounted over it.
    pub(crate) fn proc_file(&self, path: &Path) -> io::Result<Option<MountPlace>> {
        let none = |e| match e {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV => Ok(None),
            e => Err(e.into()),
        };
        let Ok(within) = path.strip_prefix("/proc") else {
            return Ok(None);
        };
        let proc = match open_no_follow(self.fd.as_fd(), OsStr::new("proc")) {
            Ok(proc) => proc,
            Err(e) => return none(e),
        };
        if fstatfs(&proc)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Ok(None);
        }
        let fd = match self.resolver.on_mount(proc.as_fd(), within, OFlag::empty()) {
            Ok(fd) => fd,
            // Without openat2. The path below /proc contains no links.
            Err(Errno::ENOSYS) => {
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                match fcntl::openat(&proc, within, flags, Mode::empty()) {
                    Ok(fd) if self.mount_of(fd.as_fd())? == self.mount_of(proc.as_fd())? => fd,
                    Ok(_) => return Ok(None),
                    Err(e) => return none(e),
                }
            }
            Err(e) => return none(e),
        };
        if self.make_slave(proc.as_fd()).is_err() {
            self.ensure_unshared(self.mount_of(proc.as_fd())?)?;
        }
        // It was made slave, or ensured to be unshared, just now.
        Ok(Some(MountPlace { fd, on: On::Own }))
    }

    /// The root directory as a mount point.
    pub(crate) fn root(&self) -> io::Result<MountPlace> {
        let fd = self.fd.try_clone()?;
        Ok(MountPlace { fd, on: On::Root })
    }

    /// Whether the parent of this mount has shared propagation.
    pub(super) fn is_on_shared(&self, mount: u64) -> nix::Result<bool> {
        let table = self.table()?;
        let parent = table.parents.get(&mount);
        Ok(parent.is_some_and(|parent| table.shared.contains(parent)))
    }

    fn ensure_unshared(&self, mount: u64) -> io::Result<()> {
        if self.table()?.shared.contains(&mount) {
            return Err(io::Error::other(Elsewhere::Shared));
        }
        Ok(())
    }
}

fn elsewhere(step: &Step) -> Elsewhere {
    if step.by_link {
        Elsewhere::ByLink
    } else {
        Elsewhere::Volume
    }
}
