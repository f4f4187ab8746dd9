//! A root of the run's own: a throw-away layer over the host's `/`, in which programs are installed, configurations are
//! edited and daemons keep their data. What the kernel shows (/proc, /sys) and the device numbers are the host's.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chdir, chown, pivot_root};

/// Where the layer has what is brought in: the programs, the output.
pub(crate) const BROUGHT: &str = "/tmp/gpu-run";

/// Directories of which the layer has an empty one of its own.
const EMPTY: [&str; 6] = [
    "run",
    "tmp",
    "var/lib/docker",
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/cni",
];
/// Mounts over these are written to in the run, so they get a layer each; other mounts are there read-only.
const LAYERED: [&str; 6] = ["/etc", "/usr", "/var", "/opt", "/root", "/home"];
/// What the driver's user space talks to below /run.
const OF_RUN: [&str; 4] = [
    "nvidia",
    "nvidia-persistenced",
    "nvidia-fabricmanager",
    "udev",
];
/// Of a /dev that every program expects.
const NODES: [(&str, u64, u64); 7] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("kmsg", 1, 11),
    ("tty", 5, 0),
];
/// Nodes and directories of nodes that are GPUs'.
const GPU_NODES: [&str; 6] = ["nvidia", "dri", "dxg", "kfd", "infiniband", "gdrdrv"];

/// Whose GPU nodes the layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    OfHost,
    /// A fake driver makes its own.
    None,
}

type Result<T> = std::result::Result<T, String>;

fn said<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |e| format!("{what}: {e}")
}

fn mounted(
    source: Option<&Path>,
    at: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<()> {
    mount(source, at, kind, flags, options).map_err(said(format!("mount on {}", at.display())))
}

fn tmpfs(at: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(at).map_err(said(at.display()))?;
    mounted(
        Some(Path::new("tmpfs")),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
}

fn bind(from: &Path, to: &Path, flags: MsFlags) -> Result<()> {
    mounted(Some(from), to, None, MsFlags::MS_BIND | flags, None)
}

/// A layer over `lower`, kept below `kept`, mounted on `at`.
fn overlay(lower: &Path, kept: &Path, at: &Path) -> Result<()> {
    for dir in ["upper", "work"] {
        fs::create_dir_all(kept.join(dir)).map_err(said(kept.display()))?;
    }
    let options = format!(
        "lowerdir={},upperdir={1},workdir={2}",
        lower.display(),
        kept.join("upper").display(),
        kept.join("work").display()
    );
    mounted(
        Some(Path::new("overlay")),
        at,
        Some("overlay"),
        MsFlags::empty(),
        Some(&options),
    )
}

/// Makes the layer on `place`, an empty directory, and makes it the root. `brought` come along, below [`BROUGHT`]. For the
/// first process of a pid namespace, in a mount namespace of its own.
pub(crate) fn enter(place: &Path, brought: &[(&str, &Path)], gpus: Nodes) -> Result<()> {
    mounted(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        None,
    )?;
    let mounts = mount_points()?;
    // By descriptors, since the layer can come to lie over them.
    let held: Vec<(&str, fs::File)> = brought
        .iter()
        .map(|(name, path)| Ok((*name, fs::File::open(path).map_err(said(path.display()))?)))
        .collect::<Result<_>>()?;
    tmpfs(place, "mode=700")?;
    let root = place.join("root");
    fs::create_dir(&root).map_err(said(root.display()))?;
    overlay(Path::new("/"), &place.join("layers/0"), &root)
        .map_err(|e| format!("this host's / takes no layer: {e}"))?;
    for (n, point) in mounts.iter().enumerate() {
        bring_mount(point, &place.join(format!("layers/{}", n + 1)), &root);
    }
    for dir in EMPTY {
        tmpfs(&root.join(dir), "mode=755")?;
    }
    let mode = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(root.join("tmp"), mode).map_err(said("/tmp"))?;
    if !root.join("var/run").exists() {
        let _ = symlink("/run", root.join("var/run"));
    }
    for name in OF_RUN {
        let from = Path::new("/run").join(name);
        let to = root.join("run").join(name);
        if from.is_dir() && fs::create_dir(&to).is_ok() {
            let _ = bind(&from, &to, MsFlags::MS_REC);
        }
    }
    mounted(
        Some(Path::new("proc")),
        &root.join("proc"),
        Some("proc"),
        MsFlags::empty(),
        None,
    )?;
    bind(Path::new("/sys"), &root.join("sys"), MsFlags::MS_REC)?;
    devices(&root.join("dev"), gpus)?;
    bring(&root, &held)?;
    pivot(&root)
}

/// Mount points of this namespace that the layer should have too, outermost first.
fn mount_points() -> Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo").map_err(said("/proc/self/mountinfo"))?;
    let mut points: Vec<PathBuf> = text
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(OsStr::from_bytes(&unescaped(field))))
        .filter(|p| is_brought(p))
        .collect();
    points.sort();
    points.dedup();
    Ok(points)
}

fn is_brought(point: &Path) -> bool {
    let left_out = [
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/tmp",
        "/var/run",
        "/var/lib/kubelet",
        "/snap",
        "/var/lib/lxcfs",
    ];
    let stores = EMPTY
        .iter()
        .filter(|e| e.starts_with("var/"))
        .map(|e| Path::new("/").join(e));
    point != Path::new("/")
        && !left_out.iter().any(|l| point.starts_with(l))
        && !stores.into_iter().any(|s| point.starts_with(s))
}

/// mountinfo writes blanks and the like as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// One mount of the host. Where it cannot be had, the layer has an empty place there: said, and no reason to stop.
fn bring_mount(point: &Path, kept: &Path, root: &Path) {
    let Ok(relative) = point.strip_prefix("/") else {
        return;
    };
    let at = root.join(relative);
    if point.is_dir()
        && LAYERED.iter().any(|l| Path::new(l) == point)
        && overlay(point, kept, &at).is_ok()
    {
        return;
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    if let Err(e) = bind(point, &at, MsFlags::empty()).and_then(|()| bind(&at, &at, read_only)) {
        eprintln!("# {} is not there in the run: {e}", point.display());
    }
}

/// A /dev of the run's own with the host's GPU nodes by their numbers: what is made there does not reach the host.
fn devices(dev: &Path, gpus: Nodes) -> Result<()> {
    tmpfs(dev, "mode=755")?;
    for (name, major, minor) in NODES {
        node(&dev.join(name), 0o666, makedev(major, minor))?;
    }
    for dir in ["pts", "shm"] {
        fs::create_dir(dev.join(dir)).map_err(said(dir))?;
    }
    tmpfs(&dev.join("shm"), "mode=1777")?;
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    mounted(
        Some(Path::new("devpts")),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::empty(),
        options,
    )?;
    for (target, name) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, dev.join(name)).map_err(said(name))?;
    }
    if gpus == Nodes::None {
        return Ok(());
    }
    for entry in fs::read_dir("/dev").map_err(said("/dev"))?.flatten() {
        let name = entry.file_name();
        if GPU_NODES
            .iter()
            .any(|n| name.as_bytes().starts_with(n.as_bytes()))
        {
            copy_nodes(&entry.path(), &dev.join(&name)).map_err(said(entry.path().display()))?;
        }
    }
    Ok(())
}

fn node(path: &Path, mode: u32, number: u64) -> Result<()> {
    let permissions = Mode::from_bits_truncate(mode);
    mknod(path, SFlag::S_IFCHR, permissions, number).map_err(said(path.display()))?;
    // As it was asked for, whatever the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(said(path.display()))
}

fn copy_nodes(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = from.symlink_metadata()?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)?.flatten() {
            copy_nodes(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_char_device() {
        node(to, metadata.mode() & 0o7777, metadata.rdev()).map_err(io::Error::other)?;
        chown(
            to,
            Some(Uid::from_raw(metadata.uid())),
            Some(Gid::from_raw(metadata.gid())),
        )?;
    }
    Ok(())
}

fn bring(root: &Path, held: &[(&str, fs::File)]) -> Result<()> {
    use std::os::fd::AsRawFd;
    for (name, file) in held {
        let to = root.join(BROUGHT.trim_start_matches('/')).join(name);
        fs::create_dir_all(&to).map_err(said(to.display()))?;
        let from = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        bind(&from, &to, MsFlags::empty()).map_err(said(format!("{name} for the run")))?;
    }
    Ok(())
}

fn pivot(root: &Path) -> Result<()> {
    chdir(root).map_err(said(root.display()))?;
    fs::create_dir("tmp/outside").map_err(said("/tmp/outside"))?;
    pivot_root(".", "tmp/outside").map_err(said("pivot_root"))?;
    umount2("/tmp/outside", MntFlags::MNT_DETACH).map_err(said("/tmp/outside"))?;
    chdir("/").map_err(said("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        assert_eq!(unescaped(br"/mnt/a\040b\134c"), br"/mnt/a b\c");
        assert_eq!(unescaped(br"/mnt/end\04"), br"/mnt/end\04");
    }

    #[test]
    fn what_is_the_kernels_and_the_engines_stays_out() {
        for out in [
            "/",
            "/proc/driver",
            "/sys",
            "/run/user/0",
            "/var/lib/docker/overlay2/a/merged",
            "/tmp/x",
        ] {
            assert!(!is_brought(Path::new(out)), "{out}");
        }
        for brought in ["/usr", "/usr/local/nvidia", "/var", "/home", "/runner"] {
            assert!(is_brought(Path::new(brought)), "{brought}");
        }
    }
}
