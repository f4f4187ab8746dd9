//! Reads files of users without accessing a file system that may block: a network or FUSE file system, or one that is
//! mounted on first access. Files on such a file system are reported as not examined, never as missing.

use std::io;
use std::path::{Component, Path, PathBuf};

use gpu_host::{Root, glob};

/// File systems that the kernel reads by itself, from a local device or from memory. All others may block: NFS, CIFS,
/// FUSE, autofs, and unknown ones.
pub const LOCAL: &[&str] = &[
    "bcachefs", "btrfs", "ecryptfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2",
    "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs", "squashfs", "tmpfs", "ubifs", "vfat", "xfs",
    "zfs",
];
const MOUNTS: &str = "/proc/self/mountinfo";
/// The kernel's own limit on symbolic links in one path.
const LINK_LIMIT: usize = 40;

/// A part of the host that was not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotSeen {
    /// The file or directory.
    pub path: PathBuf,
    /// The reason: `it is on nfs4 (/net)`.
    pub why: String,
}

impl NotSeen {
    fn unreadable(path: &Path, error: &io::Error) -> Self {
        // The error begins with the path, which is already named.
        let text = error.to_string();
        let why = text.strip_prefix(&format!("{}: ", path.display()));
        Self {
            path: path.to_owned(),
            why: why.unwrap_or(&text).to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
struct MountPoint {
    point: PathBuf,
    file_system: String,
}

/// The files of a host that can be read without waiting for anything but a local disk.
#[derive(Clone, Debug)]
pub struct LocalFiles {
    root: Root,
    mounts: Vec<MountPoint>,
}

impl LocalFiles {
    /// The files below that root. Failed reads are not recorded in it: a file that a user has made unreadable is no
    /// fault of the host.
    pub fn open(root: &Root) -> io::Result<Self> {
        let root = Root::open(root.path())?;
        // A directory tree has no table. A mount point need not be UTF-8, and a user can make one by FUSE.
        let table = match root.read(MOUNTS) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            table => table?,
        };
        let table = String::from_utf8_lossy(&table);
        let mounts = table.lines().filter_map(mount);
        // We were started from the file system of `/`, so it answers, whatever its type.
        let mounts = mounts.filter(|m| m.point != Path::new("/")).collect();
        Ok(Self { root, mounts })
    }

    /// The same files, including those on other file systems: for the system's configuration, which the engines read
    /// as well.
    pub fn wherever(&self) -> Self {
        Self {
            mounts: Vec::new(),
            ..self.clone()
        }
    }

    /// The text of a file; `None` if it does not exist. Bytes that are not UTF-8 are replaced.
    pub fn text(&self, path: &Path) -> Result<Option<String>, NotSeen> {
        let Some(real) = self.resolve(path)? else {
            return Ok(None);
        };
        match self.root.read(&real) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) => absent(path, &e),
        }
    }

    /// Whether this file or directory exists.
    pub fn exists(&self, path: &Path) -> Result<bool, NotSeen> {
        Ok(self.resolve(path)?.is_some())
    }

    /// The files that match a shell pattern, and what could not be examined for it: one directory or link that cannot be
    /// read does not hide the others.
    pub fn matching(&self, pattern: &Path) -> (Vec<PathBuf>, Vec<NotSeen>) {
        let mut not_seen = Vec::new();
        let mut paths = vec![PathBuf::from("/")];
        for part in pattern.components() {
            let Component::Normal(part) = part else {
                continue;
            };
            let text = part.to_string_lossy();
            if !glob::is_pattern(&text) {
                for path in &mut paths {
                    path.push(part);
                }
                continue;
            }
            let mut matched = Vec::new();
            for dir in paths {
                let names = self.names(&dir).unwrap_or_else(|unseen| {
                    not_seen.push(unseen);
                    Vec::new()
                });
                let fitting = names.iter().filter(|name| glob::fits(&text, name));
                matched.extend(fitting.map(|name| dir.join(name)));
            }
            paths = matched;
        }
        let mut present = Vec::new();
        for path in paths {
            match self.exists(&path) {
                Ok(true) => present.push(path),
                Ok(false) => {}
                Err(unseen) => not_seen.push(unseen),
            }
        }
        (present, not_seen)
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>, NotSeen> {
        let Some(real) = self.resolve(dir)? else {
            return Ok(Vec::new());
        };
        match self.root.read_dir(&real) {
            Ok(names) => Ok(names
                .into_iter()
                .filter_map(|name| name.into_string().ok())
                .collect()),
            Err(e) => absent(dir, &e).map(Option::unwrap_or_default),
        }
    }

    /// The path without links; `None` if it does not exist. The mount of each step is checked before the step is
    /// read, because a link in a user's home directory can lead anywhere.
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>, NotSeen> {
        let mut pending: Vec<PathBuf> = parts(path);
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == Path::new("..") {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            if let Some(mount) = self.remote(&next) {
                return Err(NotSeen {
                    path: path.to_owned(),
                    why: format!("it is on {} ({})", mount.file_system, mount.point.display()),
                });
            }
            let metadata = match self.root.symlink_metadata(&next) {
                Ok(metadata) => metadata,
                Err(e) => return absent(path, &e),
            };
            if !metadata.is_symlink() {
                real = next;
                continue;
            }
            links += 1;
            if links > LINK_LIMIT {
                return Ok(None);
            }
            let target = match self.root.read_link(&next) {
                Ok(target) => target,
                Err(e) => return absent(path, &e),
            };
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            pending.extend(parts(&target));
        }
        Ok(Some(real))
    }

    /// The mount that contains a path without links, if its file system may block.
    fn remote(&self, path: &Path) -> Option<&MountPoint> {
        let over = self.mounts.iter().filter(|m| path.starts_with(&m.point));
        // If several mounts are on one directory, only the last one is visible.
        let mount = over.max_by_key(|m| m.point.components().count())?;
        (!LOCAL.contains(&mount.file_system.as_str())).then_some(mount)
    }
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    });
    let mut names: Vec<PathBuf> = names.collect();
    names.reverse();
    names
}

/// `None` for a file that does not exist; an error for a file that may exist but could not be read.
fn absent<T>(path: &Path, error: &io::Error) -> Result<Option<T>, NotSeen> {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidInput => Ok(None),
        _ => Err(NotSeen::unreadable(path, error)),
    }
}

/// A line of mountinfo (proc(5)).
fn mount(line: &str) -> Option<MountPoint> {
    let (mount, source) = line.split_once(" - ")?;
    Some(MountPoint {
        point: unescaped(mount.split(' ').nth(4)?).into(),
        file_system: source.split(' ').next()?.to_owned(),
    })
}

/// The kernel writes a blank, a tab, a newline and a backslash as `\040` and the like.
fn unescaped(text: &str) -> String {
    let codes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let mut text = text.to_owned();
    for (code, letter) in codes {
        text = text.replace(code, letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(mounts: &str) -> (tempfile::TempDir, LocalFiles) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/self/mountinfo", mounts),
            ("home/alice/file", "hers"),
            ("net/bob/file", "his"),
            ("net/local/file", "on a disk"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = LocalFiles::open(&Root::open(dir.path()).unwrap()).unwrap();
        (dir, files)
    }

    const MOUNTED: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 22 0:40 / /net rw - nfs4 server:/ rw\n\
        31 30 8:2 / /net/local rw shared:1 - xfs /dev/sdb rw\n";

    #[test]
    fn a_network_file_system_is_not_touched_by_way_of_a_link_either() {
        let (dir, files) = tree(MOUNTED);
        let text = |path: &str| files.text(Path::new(path));
        assert_eq!(text("/home/alice/file").unwrap().as_deref(), Some("hers"));
        assert_eq!(text("/home/alice/none").unwrap(), None);
        let unseen = text("/net/bob/file").unwrap_err();
        assert_eq!(unseen.why, "it is on nfs4 (/net)");
        // A path to a disk mounted below it also leads across it.
        assert!(text("/net/local/file").is_err());
        symlink("/net/bob", dir.path().join("home/alice/away")).unwrap();
        symlink("../../net/bob/file", dir.path().join("home/alice/up")).unwrap();
        for path in ["/home/alice/away/file", "/home/alice/up"] {
            let unseen = text(path).unwrap_err();
            assert_eq!(unseen.path, Path::new(path));
            assert_eq!(unseen.why, "it is on nfs4 (/net)");
        }
        let (paths, not_seen) = files.matching(Path::new("/home/*/away/*"));
        assert_eq!((paths.len(), not_seen.len()), (0, 1));
        // The link that leads away does not hide the file beside it.
        let (paths, not_seen) = files.matching(Path::new("/home/a*/*"));
        assert_eq!(paths, [Path::new("/home/alice/file")]);
        assert_eq!(not_seen.len(), 2);
    }

    #[test]
    fn every_kind_of_automount_and_user_space_file_system_counts_as_one_that_may_not_answer() {
        for kind in [
            "autofs",
            "nfs",
            "cifs",
            "smb3",
            "fuse.sshfs",
            "fuseblk",
            "9p",
            "new",
        ] {
            let line = format!("22 1 0:1 / /net rw - {kind} x rw\n");
            let (_dir, files) = tree(&line);
            assert!(files.text(Path::new("/net/bob/file")).is_err(), "{kind}");
            assert!(files.exists(Path::new("/home/alice")).unwrap(), "{kind}");
        }
    }

    #[test]
    fn the_last_of_several_mounts_on_a_directory_is_the_one_that_is_seen() {
        let line = |kind: &str| format!("22 1 0:1 / /net rw - {kind} x rw\n");
        let (_dir, files) = tree(&format!("{}{}", line("autofs"), line("ext4")));
        assert!(files.exists(Path::new("/net/bob")).unwrap());
        let (_dir, files) = tree("9 1 0:1 / /with\\040blank rw - nfs x rw\n");
        assert!(files.exists(Path::new("/with blank/x")).is_err());
    }

    #[test]
    fn a_mount_point_that_is_not_utf_8_hides_no_other() {
        let (dir, _) = tree("");
        let table = b"9 1 0:1 / /mnt/\xff rw - fuse.x x rw\n10 1 0:2 / /net rw - nfs x rw\n";
        fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
        let files = LocalFiles::open(&Root::open(dir.path()).unwrap()).unwrap();
        assert!(files.exists(Path::new("/net/bob")).is_err());
    }

    #[test]
    fn links_that_lead_in_a_circle_lead_to_nothing() {
        let (dir, files) = tree("");
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(!files.exists(Path::new("/a")).unwrap());
    }
}
