//! The run's own root file system: a throw-away overlay over the host's `/`, in which programs are installed,
//! configurations are edited and daemons keep their data. /proc, /sys and the device numbers are the host's.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chdir, chown, pivot_root};

/// Where the programs and the output directory are visible in the layer.
pub(crate) const BROUGHT: &str = "/tmp/gpu-run";
/// Where the layer is mounted, below the output directory. Everybody outside the run's namespaces sees an empty directory.
pub(crate) const MOUNT_POINT: &str = ".layer";

/// Directories that are empty in the layer.
const EMPTY_DIRECTORIES: [&str; 6] = [
    "run",
    "tmp",
    "var/lib/docker",
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/cni",
];
/// Mount points that the run writes below get a layer each. All other mounts are there read-only.
const LAYERED_MOUNTS: [&str; 6] = ["/etc", "/usr", "/var", "/opt", "/root", "/home"];
/// Directories below /run that the driver's user space talks to.
const RUN_DIRECTORIES: [&str; 4] = [
    "nvidia",
    "nvidia-persistenced",
    "nvidia-fabricmanager",
    "udev",
];
/// Nodes that every program expects in /dev.
const STANDARD_NODES: [(&str, u64, u64); 7] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("kmsg", 1, 11),
    ("tty", 5, 0),
];
/// Prefixes of GPU nodes, and of directories with such nodes.
const GPU_NODES: [&str; 6] = ["nvidia", "dri", "dxg", "kfd", "infiniband", "gdrdrv"];

/// Which GPU nodes the layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GpuNodes {
    OfHost,
    /// None: a fake driver makes its own.
    None,
}

type Result<T> = std::result::Result<T, String>;

fn context<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |e| format!("{what}: {e}")
}

fn mount_on(
    source: Option<&Path>,
    at: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<()> {
    mount(source, at, kind, flags, options).map_err(context(format!("mount on {}", at.display())))
}

fn tmpfs(at: &Path, options: &str) -> Result<()> {
    fs::create_dir_all(at).map_err(context(at.display()))?;
    mount_on(
        Some(Path::new("tmpfs")),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
}

fn bind(from: &Path, to: &Path, flags: MsFlags) -> Result<()> {
    mount_on(Some(from), to, None, MsFlags::MS_BIND | flags, None)
}

/// Mounts on `at` an overlay over `lower` whose upper and work directories are in `store`.
fn overlay(lower: &Path, store: &Path, at: &Path) -> Result<()> {
    for dir in ["upper", "work"] {
        fs::create_dir_all(store.join(dir)).map_err(context(store.display()))?;
    }
    let options = format!(
        "lowerdir={},upperdir={1},workdir={2}",
        lower.display(),
        store.join("upper").display(),
        store.join("work").display()
    );
    mount_on(
        Some(Path::new("overlay")),
        at,
        Some("overlay"),
        MsFlags::empty(),
        Some(&options),
    )
}

/// Makes the layer on `place`, an empty directory, and makes it the root. The `brought` directories are visible in it
/// below [`BROUGHT`]. To be called by the first process of a pid namespace, in a mount namespace of its own.
pub(crate) fn enter(place: &Path, brought: &[(&str, &Path)], gpus: GpuNodes) -> Result<()> {
    mount_on(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        None,
    )?;
    let mounts = mount_points()?;
    // Open them now: a mount of the layer can hide their paths later.
    let open_dirs: Vec<(&str, fs::File)> = brought
        .iter()
        .map(|(name, path)| {
            Ok((
                *name,
                fs::File::open(path).map_err(context(path.display()))?,
            ))
        })
        .collect::<Result<_>>()?;
    tmpfs(place, "mode=700")?;
    let root = place.join("root");
    fs::create_dir(&root).map_err(context(root.display()))?;
    overlay(Path::new("/"), &place.join("layers/0"), &root)
        .map_err(|e| format!("this host's / takes no layer: {e}"))?;
    for (n, point) in mounts.iter().enumerate() {
        bring_mount(point, &place.join(format!("layers/{}", n + 1)), &root);
    }
    for dir in EMPTY_DIRECTORIES {
        tmpfs(&root.join(dir), "mode=755")?;
    }
    let mode = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(root.join("tmp"), mode).map_err(context("/tmp"))?;
    if !root.join("var/run").exists() {
        let _ = symlink("/run", root.join("var/run"));
    }
    for name in RUN_DIRECTORIES {
        let from = Path::new("/run").join(name);
        let to = root.join("run").join(name);
        if from.is_dir() && fs::create_dir(&to).is_ok() {
            let _ = bind(&from, &to, MsFlags::MS_REC);
        }
    }
    mount_on(
        Some(Path::new("proc")),
        &root.join("proc"),
        Some("proc"),
        MsFlags::empty(),
        None,
    )?;
    bind(Path::new("/sys"), &root.join("sys"), MsFlags::MS_REC)?;
    devices(&root.join("dev"), gpus)?;
    bring(&root, &open_dirs)?;
    pivot(&root)
}

/// Mount points of this namespace that the layer should also have, outermost first.
fn mount_points() -> Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo").map_err(context("/proc/self/mountinfo"))?;
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
    let stores = EMPTY_DIRECTORIES
        .iter()
        .filter(|e| e.starts_with("var/"))
        .map(|e| Path::new("/").join(e));
    point != Path::new("/")
        && !left_out.iter().any(|l| point.starts_with(l))
        && !stores.into_iter().any(|s| point.starts_with(s))
}

/// Decodes mountinfo's octal escapes (`\\040` is a blank).
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

/// Brings one of the host's mounts into the layer. If that fails, the layer has an empty place there; a message says
/// so and the run goes on.
fn bring_mount(point: &Path, store: &Path, root: &Path) {
    let Ok(relative) = point.strip_prefix("/") else {
        return;
    };
    let at = root.join(relative);
    if point.is_dir()
        && LAYERED_MOUNTS.iter().any(|l| Path::new(l) == point)
        && overlay(point, store, &at).is_ok()
    {
        return;
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    if let Err(e) = bind(point, &at, MsFlags::empty()).and_then(|()| bind(&at, &at, read_only)) {
        eprintln!("# {} is not there in the run: {e}", point.display());
    }
}

/// Makes a /dev for the run that has copies of the host's GPU nodes: nodes that are created there do not reach the
/// host.
fn devices(dev: &Path, gpus: GpuNodes) -> Result<()> {
    tmpfs(dev, "mode=755")?;
    for (name, major, minor) in STANDARD_NODES {
        node(&dev.join(name), 0o666, makedev(major, minor))?;
    }
    for dir in ["pts", "shm"] {
        fs::create_dir(dev.join(dir)).map_err(context(dir))?;
    }
    tmpfs(&dev.join("shm"), "mode=1777")?;
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    mount_on(
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
        symlink(target, dev.join(name)).map_err(context(name))?;
    }
    if gpus == GpuNodes::None {
        return Ok(());
    }
    for entry in fs::read_dir("/dev").map_err(context("/dev"))?.flatten() {
        let name = entry.file_name();
        if GPU_NODES
            .iter()
            .any(|n| name.as_bytes().starts_with(n.as_bytes()))
        {
            copy_nodes(&entry.path(), &dev.join(&name)).map_err(context(entry.path().display()))?;
        }
    }
    Ok(())
}

fn node(path: &Path, mode: u32, number: u64) -> Result<()> {
    let permissions = Mode::from_bits_truncate(mode);
    mknod(path, SFlag::S_IFCHR, permissions, number).map_err(context(path.display()))?;
    // Set the mode again, since mknod applies the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(context(path.display()))
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

fn bring(root: &Path, open_dirs: &[(&str, fs::File)]) -> Result<()> {
    use std::os::fd::AsRawFd;
    for (name, file) in open_dirs {
        let to = root.join(BROUGHT.trim_start_matches('/')).join(name);
        fs::create_dir_all(&to).map_err(context(to.display()))?;
        let from = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        bind(&from, &to, MsFlags::empty()).map_err(context(format!("{name} for the run")))?;
    }
    Ok(())
}

fn pivot(root: &Path) -> Result<()> {
    chdir(root).map_err(context(root.display()))?;
    fs::create_dir("tmp/outside").map_err(context("/tmp/outside"))?;
    pivot_root(".", "tmp/outside").map_err(context("pivot_root"))?;
    umount2("/tmp/outside", MntFlags::MNT_DETACH).map_err(context("/tmp/outside"))?;
    chdir("/").map_err(context("/"))
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
    fn mounts_of_the_kernel_and_of_engines_stay_out() {
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
