//! Whose a place in a container is: the container's alone, or also somebody else's.
//!
//! The container's are its root mount, and a tmpfs that is mounted nowhere outside of it: the
//! runtime's /dev, and what it makes for `--tmpfs /run` or `/tmp`. All else is a volume, which
//! may be a directory of the host's: nothing is made, replaced or removed there, whatever led
//! there. A mount is known by its number; `st_dev` would not do: an overlay has several on one
//! mount, and one file system can be mounted at many places.

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
use super::table::{self, Table};
use super::walk::{Step, Trouble};
use crate::linux::mount_api;

/// The kernel's own file systems, by the numbers of include/uapi/linux/magic.h.
const KERNELS: [FsType; 14] = [
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
    /// The table of mounts of another namespace, from before the container's was entered: what
    /// is mounted there is not the container's alone.
    pub(crate) fn know_outside(&self, mountinfo: String) {
        // Said once, by whoever enters.
        let _ = self.outside_text.set(mountinfo);
    }

    /// The number of the mount that a descriptor is on.
    pub(super) fn mount_of(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        match mount_api::mount_id(fd) {
            Ok(Some(id)) => Ok(id),
            // Before Linux 5.8. In a user namespace our own fdinfo is not ours to read before 5.14.
            _ => self.mount_by_fdinfo(fd).or_else(|_| self.mount_by_path(fd)),
        }
    }

    pub(super) fn mount_by_fdinfo(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        let text = self.of_own_process(&format!("fdinfo/{}", fd.as_raw_fd()))?;
        String::from_utf8_lossy(&text)
            .lines()
            .find_map(|l| l.strip_prefix("mnt_id:")?.trim().parse().ok())
            .ok_or(Errno::ENOSYS)
    }

    /// By where the kernel says that it is.
    pub(super) fn mount_by_path(&self, fd: BorrowedFd<'_>) -> nix::Result<u64> {
        let own = self.own().ok_or(Errno::ENOENT)?;
        let path = fcntl::readlinkat(own, fd.as_raw_fd().to_string().as_str())?;
        let path = Path::new(&path);
        if !path.is_absolute() || path.as_os_str().as_bytes().ends_with(b" (deleted)") {
            return Err(Errno::ESTALE);
        }
        let text = self.of_own_process("mountinfo")?;
        table::mount_at(&text, path).ok_or(Errno::ESTALE)
    }

    /// A file of our own directory in the host's procfs. Bytes: any user who may mount a FUSE file
    /// system chooses a mount point whose name need not be UTF-8.
    fn of_own_process(&self, name: &str) -> nix::Result<Vec<u8>> {
        let own = self.own().ok_or(Errno::ENOENT)?;
        let name = format!("../{name}");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut file = File::from(fcntl::openat(own, name.as_str(), flags, Mode::empty())?);
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
        let found = self.mount_of(self.fd.as_fd())?;
        Ok(*self.root_mount.get_or_init(|| found))
    }

    /// Read once, and only where something is mounted at a place of ours.
    fn table(&self) -> nix::Result<&Table> {
        if let Some(known) = self.table.get() {
            return Ok(known);
        }
        let text = self.of_own_process("mountinfo")?;
        let table = Table::of(&String::from_utf8_lossy(&text), self.root_mount()?);
        Ok(self.table.get_or_init(|| table))
    }

    /// Whether this is a tmpfs that nobody outside of the container has.
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
        // After `pivot_root` nothing of the host's is to be seen: not to know is not to own.
        Ok(!outside.is_empty() && !outside.contains(&device))
    }

    /// Which of the container's own mounts this directory is on, so that things may be made in it.
    pub(super) fn ensure_own(&self, step: &Step) -> Result<On, Trouble> {
        if KERNELS.contains(&fstatfs(&step.fd)?.filesystem_type()) {
            return Err(Errno::EROFS.into());
        }
        match self.on(step)? {
            On::Other(_) if !self.has_callers_rights => Err(Trouble::Elsewhere(elsewhere(step))),
            own => Ok(own),
        }
    }

    pub(super) fn on(&self, step: &Step) -> nix::Result<On> {
        if step.mount == self.root_mount()? {
            return Ok(On::Root);
        }
        if self.own_dev()? == Some(step.mount) || self.is_own_tmpfs(&step.fd)? {
            return Ok(On::Own);
        }
        Ok(On::Other(step.mount))
    }

    /// The mount at /dev, where config.json says that the runtime has made it for this container.
    fn own_dev(&self) -> nix::Result<Option<u64>> {
        if !self.arrangement().own_dev {
            return Ok(None);
        }
        if let Some(known) = self.own_dev.get() {
            return Ok(*known);
        }
        let mut found = None;
        if let Ok(dev) = open_no_follow(self.fd.as_fd(), OsStr::new("dev"))
            && fstatfs(&dev)?.filesystem_type() == TMPFS_MAGIC
        {
            found = Some(self.mount_of(dev.as_fd())?);
        }
        Ok(*self.own_dev.get_or_init(|| found))
    }

    /// That no link of the image has led to what is not the container's alone.
    pub(super) fn ensure_not_away(&self, step: &Step) -> Result<(), Trouble> {
        let is_away = !self.has_callers_rights
            && step.by_link
            && matches!(self.on(step)?, On::Other(_))
            && !KERNELS.contains(&fstatfs(&step.fd)?.filesystem_type());
        if is_away {
            return Err(Trouble::Elsewhere(Elsewhere::ByLink));
        }
        Ok(())
    }

    /// That what is mounted at this place is to be seen in the container alone. The root mount is
    /// cut off from whoever has the same; volumes keep what their user gave them.
    pub(crate) fn ensure_private(&self, place: &MountPlace) -> io::Result<()> {
        match place.on {
            On::Own => Ok(()),
            On::Root if self.is_cut_off.get() => Ok(()),
            On::Root => {
                // Before Linux 5.12, or where the root is no mount of its own.
                if self.cut_off(self.fd.as_fd()).is_err() {
                    self.ensure_unshared(self.root_mount()?)?;
                }
                self.is_cut_off.set(true);
                Ok(())
            }
            On::Other(mount) => self.ensure_unshared(mount),
        }
    }

    /// From now on nothing that is mounted on this mount shows up anywhere else.
    fn cut_off(&self, mount: BorrowedFd<'_>) -> io::Result<()> {
        match mount_api::set_slave(mount) {
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {
                fchdir(self.own().ok_or(Errno::ENOENT)?)?;
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

    /// A file of the container's procfs, which is the runtime's mount at /proc; `None` where there
    /// is no such file, or where something is mounted over it.
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
            // Without openat2: of what is in procfs there, nothing is a link.
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
        if self.cut_off(proc.as_fd()).is_err() {
            self.ensure_unshared(self.mount_of(proc.as_fd())?)?;
        }
        // Cut off just now.
        Ok(Some(MountPlace { fd, on: On::Own }))
    }

    /// The root directory, to be mounted on.
    pub(crate) fn root(&self) -> io::Result<MountPlace> {
        let fd = self.fd.try_clone()?;
        Ok(MountPlace { fd, on: On::Root })
    }

    /// Whether what this mount is mounted on has shared propagation.
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
