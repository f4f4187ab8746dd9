//! Finds the container's root file system in a createContainer hook, which runs in the container's namespaces before
//! `pivot_root`, possibly as an unprivileged user.
//!
//! config.json gives the path, but the hook may not be able to read it: a container's root that is mapped to another
//! user cannot enter a bundle of mode 0700 (Podman's with `--uidmap`, `--userns nomap` or `auto`). The sources are
//! tried in this order: our own arguments, the state, config.json, the mount table.

mod mount_table;

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use gpu_inject::Error;
use gpu_inject::live::OwnMounts;
use gpu_inject::rootfs::Rootfs;

use crate::oci_bundle::HookState;
use crate::user_namespace::is_mapped;
use mount_table::MountRoot;

const MOUNTS: &str = "/proc/self/mountinfo";

/// `rootfs_flag` is the root file system that the hook's arguments name, relative to the bundle.
pub(super) fn open(
    state: &HookState,
    rootfs_flag: Option<&Path>,
    mounts: OwnMounts,
) -> Result<Rootfs, Error> {
    Ok(named_or_found(state, rootfs_flag)?.in_namespace(mounts))
}

fn named_or_found(state: &HookState, rootfs_flag: Option<&Path>) -> Result<Rootfs, Error> {
    let by_config = || state.bundle.rootfs();
    let named = match rootfs_flag {
        Some(path) => Ok(state.bundle.path(path)),
        None => state.root.clone().map_or_else(by_config, Ok),
    };
    let failed = match named.and_then(|path| Rootfs::open(&path)) {
        Ok(rootfs) => return Ok(rootfs),
        // Any other error means that the state is wrong, and then the mount table may describe another container.
        Err(e) if !is_closed(&e) || !is_mapped() => return Err(e),
        Err(e) => e,
    };
    by_mount_table().map_err(|why| {
        let why = format!(
            "{failed}; nor does {MOUNTS} tell where the container's root file system is: {why}"
        );
        Error::State(why.into())
    })
}

fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Host { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

/// The only mount that contains mounts of a container. No image can make such mounts before it is started, and a path
/// in the table, which an image could write, is not trusted: the opened directory must have the mount's ID.
fn by_mount_table() -> Result<Rootfs, String> {
    let text = fs::read(MOUNTS).map_err(|e| e.to_string())?;
    // runc starts these hooks in the root file system (libcontainer/rootfs_linux.go, prepareRootfs), crun in the
    // bundle. The container's root may lack permission for the whole path.
    let here = env::current_dir().ok();
    let root = only(mount_table::roots(&text), here.as_deref())?;
    let rootfs = Rootfs::open(&from(here.as_deref(), &root.path)).map_err(|e| e.to_string())?;
    let opened = mount_of(rootfs.descriptor().as_raw_fd());
    if opened != Some(root.mount) {
        let path = root.path.display();
        return Err(format!("another mount than its own is at {path}"));
    }
    Ok(rootfs)
}

/// A path relative to the working directory, so that it can be followed from there.
fn from(here: Option<&Path>, path: &Path) -> PathBuf {
    let below = here.and_then(|here| path.strip_prefix(here).ok());
    below.map_or_else(|| path.to_owned(), |below| Path::new(".").join(below))
}

/// If the host has several such mounts (a driver container, a chroot with /proc and /dev), the runtime's working
/// directory decides.
fn only(mut roots: Vec<MountRoot>, here: Option<&Path>) -> Result<MountRoot, String> {
    if roots.len() > 1 {
        let at = roots.iter().position(|r| here == Some(r.path.as_path()));
        if let Some(at) = at {
            return Ok(roots.swap_remove(at));
        }
        let paths: Vec<String> = roots.iter().map(|r| r.path.display().to_string()).collect();
        return Err(format!("it could be any of {}", paths.join(", ")));
    }
    roots
        .pop()
        .ok_or_else(|| "no mount in it has /proc and /dev of its own".to_owned())
}

/// The mount on which a descriptor was opened (proc(5), `/proc/pid/fdinfo`).
fn mount_of(descriptor: i32) -> Option<u64> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{descriptor}"));
    let text = fs::read_to_string(path).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(path: &str) -> MountRoot {
        MountRoot {
            mount: 1,
            path: path.into(),
        }
    }

    #[test]
    fn the_working_directory_decides_among_several_roots() {
        let chosen = |paths: &[&str], here: Option<&str>| {
            let roots = paths.iter().map(|p| root(p)).collect();
            only(roots, here.map(Path::new)).map(|root| root.path)
        };
        assert_eq!(chosen(&["/a"], None), Ok("/a".into()));
        assert_eq!(chosen(&["/a"], Some("/bundle")), Ok("/a".into()));
        assert_eq!(chosen(&["/a", "/b"], Some("/b")), Ok("/b".into()));
        let several = chosen(&["/a", "/b"], Some("/bundle"));
        assert_eq!(several.unwrap_err(), "it could be any of /a, /b");
        assert!(chosen(&[], Some("/")).is_err());
    }

    #[test]
    fn a_path_is_followed_from_the_working_directory() {
        let of = |here: Option<&str>| from(here.map(Path::new), Path::new("/b/rootfs"));
        assert_eq!(of(Some("/b/rootfs")), Path::new("./"));
        assert_eq!(of(Some("/b")), Path::new("./rootfs"));
        for elsewhere in [Some("/b/root"), Some("/c"), None] {
            assert_eq!(of(elsewhere), Path::new("/b/rootfs"));
        }
    }

    #[test]
    fn a_descriptor_tells_its_mount() {
        let text = fs::read_to_string(MOUNTS).unwrap();
        let proc = fs::File::open("/proc").unwrap();
        let mount = mount_of(proc.as_raw_fd()).unwrap().to_string();
        let line = text
            .lines()
            .find(|l| l.split(' ').next() == Some(mount.as_str()));
        assert_eq!(line.unwrap().split(' ').nth(4), Some("/proc"));
    }
}
