//! Edits files of a container's root file system: links to libraries, the loader's cache, and the
//! driver's application profile.

mod application_profile;
pub(crate) mod cuda_compat;
pub(crate) mod elf;
pub(crate) mod gpu_nodes;
pub mod ld_cache;
pub(crate) mod library_scan;
mod musl_path;
pub(crate) mod read_only_cover;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use gpu_host::Link;

use crate::edits::{CudaCompat, Edits, Library};
use crate::error::Error;
use crate::rootfs::Rootfs;

const CACHE: &str = "/etc/ld.so.cache";
/// Maximum bytes of an image's cache. One of a cluster's image with 60,000 libraries in directories of a hundred
/// characters has 8 MiB. Its processing takes up to 64 MiB of memory (testenv/fuzz/tests/memory.rs).
pub(crate) const CACHE_LIMIT: u64 = 16 << 20;
const CONF_DIR: &str = "/etc/ld.so.conf.d";
const CONF: &str = "/etc/ld.so.conf.d/00-gpu-container.conf";
/// A file by which one of the vendor's hooks tells another the directory of the compatibility
/// libraries to use.
const COMPAT_CONF: &str = "/etc/ld.so.conf.d/00-compat-gpu-container.conf";
/// Maximum names that are read in a directory of nodes.
const MAX_NODES: usize = 4096;
/// Maximum bytes of that file, which has one line with a path.
const COMPAT_CONF_LIMIT: u64 = 8192;

/// Makes the SONAME links of the libraries, the other links, the loader cache and the application
/// profile in the root file system of a container that has not started yet. The mounts and nodes of
/// `edits` are not made here; they may exist already or come later.
pub fn prepare_rootfs(rootfs: &Rootfs, edits: &Edits) -> Result<(), Error> {
    let Edits {
        libraries, links, ..
    } = edits;
    name_libraries(rootfs, libraries)?;
    for link in links {
        rootfs.symlink(&link.path, &link.target)?;
    }
    link_nodes(rootfs, &edits.links_by_nodes)?;
    let compat = edits
        .cuda_compat
        .as_ref()
        .and_then(|c| cuda_compat::libraries(rootfs, c));
    write_cache(rootfs, compat, libraries, &by_links(libraries, links))?;
    write_profile(rootfs, edits.egl_devices, edits.egl_devices_by_nodes)
}

/// Does what `ldconfig` would do for the libraries in these directories of the container's root
/// file system (as `nvidia-cdi-hook update-ldcache`).
pub fn refresh_cache(rootfs: &Rootfs, directories: &[PathBuf]) -> Result<(), Error> {
    let libraries = library_scan::libraries(rootfs, directories)?;
    name_libraries(rootfs, &libraries)?;
    let conf = match rootfs.read(Path::new(COMPAT_CONF), COMPAT_CONF_LIMIT) {
        // None of our hooks has written a file outside the image's own file systems.
        Err(e) if e.elsewhere().is_some() || e.is_loop_of_links() => None,
        read => read?,
    };
    let dir = PathBuf::from(OsStr::from_bytes(
        conf.as_deref().unwrap_or_default().trim_ascii(),
    ));
    let compat = if dir.is_absolute() {
        let libraries = library_scan::libraries(rootfs, std::slice::from_ref(&dir))?;
        Some((dir, libraries))
    } else {
        None
    };
    write_cache(rootfs, compat, &libraries, &[])
}

/// Records the directory of the image's compatibility libraries for a later [`refresh_cache`], if
/// they are to be used with this driver (as `nvidia-cdi-hook enable-cuda-compat`).
pub fn note_cuda_compat(rootfs: &Rootfs, compat: &CudaCompat) -> Result<(), Error> {
    let text = match cuda_compat::libraries(rootfs, compat) {
        Some((dir, _)) => format!("{}\n", dir.display()),
        // Clears the file from an earlier start of the same container with another driver.
        None if rootfs.exists(Path::new(COMPAT_CONF)) => String::new(),
        None => return Ok(()),
    };
    read_only_cover::write(rootfs, Path::new(COMPAT_CONF), text.as_bytes())
}

/// Writes the application profile for the GPUs of these bits, or else for those found in the container.
pub fn write_profile(rootfs: &Rootfs, devices: Option<u64>, by_nodes: bool) -> Result<(), Error> {
    let visible = || {
        by_nodes
            .then(|| application_profile::visible(rootfs))
            .flatten()
    };
    match devices.or_else(visible) {
        Some(devices) => application_profile::write(rootfs, devices),
        None => Ok(()),
    }
}

fn name_libraries(rootfs: &Rootfs, libraries: &[Library]) -> Result<(), Error> {
    for library in libraries {
        let name = library.path.file_name().map(Path::new);
        let dir = library.path.parent().unwrap_or(Path::new("/"));
        if let Some(name) = name.filter(|n| *n != Path::new(&library.soname)) {
            // An image that has its own file with this name keeps it; the cache lists ours first.
            rootfs.symlink(&dir.join(&library.soname), name)?;
        }
    }
    Ok(())
}

/// Makes the links whose target is a node in the container. Each directory is read once, because a
/// host with 64 GPUs has a hundred such links.
fn link_nodes(rootfs: &Rootfs, links: &[Link]) -> Result<(), Error> {
    let mut nodes: Vec<(PathBuf, Vec<OsString>)> = Vec::new();
    for link in links {
        let Some(node) = target_path(link) else {
            continue;
        };
        let dir = node.parent().unwrap_or(Path::new("/"));
        let at = nodes.iter().position(|(known, _)| *known == dir);
        let at = at.unwrap_or_else(|| {
            nodes.push((dir.to_owned(), rootfs.nodes(dir, MAX_NODES)));
            nodes.len() - 1
        });
        // Outside of the closure, because it parses the path.
        let name = node.file_name();
        if nodes[at].1.iter().any(|n| Some(n.as_os_str()) == name) {
            rootfs.symlink(&link.path, &link.target)?;
        }
    }
    Ok(())
}

/// The path that a link leads to. Resolved lexically, since the link's directory may not exist yet.
fn target_path(link: &Link) -> Option<PathBuf> {
    let mut path = link.path.parent()?.to_owned();
    for part in link.target.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    Some(path)
}

/// Writes the loader cache: first the image's compatibility libraries, then ours, then the image's others.
fn write_cache(
    rootfs: &Rootfs,
    compat: Option<(PathBuf, Vec<Library>)>,
    libraries: &[Library],
    by_links: &[Library],
) -> Result<(), Error> {
    let (compat_dir, compat) = compat.unzip();
    let compat = compat.unwrap_or_default();
    if compat.is_empty() && libraries.is_empty() {
        return Ok(());
    }
    let image = image_cache(rootfs)?;
    let all = compat.iter().chain(libraries).chain(by_links);
    let cache = ld_cache::MergedCache::new(&image, all).map_err(not_replaced)?;
    read_only_cover::write_by(rootfs, Path::new(CACHE), &|file| cache.write(file))?;
    let ours = directories(libraries);
    // Lists our directories for a later ldconfig in the container. If two directories have a library
    // of the same name, ldconfig takes the first.
    if rootfs.exists(Path::new(CONF_DIR)) {
        let all = compat_dir
            .as_deref()
            .into_iter()
            .chain(ours.iter().copied());
        let text: String = all.map(|d| format!("{}\n", d.display())).collect();
        read_only_cover::write(rootfs, Path::new(CONF), text.as_bytes())?;
    }
    musl_path::add(rootfs, &ours)
}

/// The image's loader cache; empty if it has none that its loader could open.
fn image_cache(rootfs: &Rootfs) -> Result<Vec<u8>, Error> {
    let path = Path::new(CACHE);
    let is_empty = || rootfs.metadata(path).is_some_and(|file| file.len() == 0);
    match rootfs.read(path, CACHE_LIMIT) {
        Ok(bytes) => Ok(bytes.unwrap_or_default()),
        Err(e) if e.is_loop_of_links() => Ok(Vec::new()),
        // The link leads to a file in a volume, which we must not read. Its length is enough.
        Err(e) if e.elsewhere().is_some() && is_empty() => Ok(Vec::new()),
        Err(Error::Rootfs { source, .. }) if source.raw_os_error() == Some(libc::EFBIG) => {
            let limit = CACHE_LIMIT >> 20;
            Err(not_replaced(format_args!("longer than {limit} MiB")))
        }
        Err(e) => Err(e),
    }
}

/// The error for a cache that is kept, because programs of the image would no longer start with a cache from which the
/// image's own libraries are missing.
fn not_replaced(why: impl Display) -> Error {
    Error::Rootfs {
        path: CACHE.into(),
        what: "add the driver's libraries",
        source: io::Error::other(format!(
            "{why}; a cache that cannot be read whole is not replaced. `ldconfig` in the image makes it anew"
        )),
    }
}

/// The links to these libraries in their directories, such as `libcuda.so`, by which programs load them. They need an
/// entry in the cache of their own, because the loader does not search their directories.
fn by_links(libraries: &[Library], links: &[Link]) -> Vec<Library> {
    // Compared as bytes: comparing paths by component is slow, and there are thousands of pairs.
    let dirs: Vec<_> = libraries.iter().map(|l| beside(&l.path)).collect();
    let by_links = links.iter().filter_map(|link| {
        let name = link.path.file_name()?.to_str()?;
        let (dir, target) = (beside(&link.path), link.target.as_os_str());
        let is_target =
            |l: &Library| target == l.soname.as_str() || l.path.file_name() == Some(target);
        let mut pairs = libraries.iter().zip(&dirs);
        let (library, _) = pairs.find(|(l, parent)| **parent == dir && is_target(l))?;
        Some(Library {
            path: link.path.clone(),
            soname: name.to_owned(),
            compat32: library.compat32,
        })
    });
    by_links.collect()
}

fn beside(path: &Path) -> Option<&OsStr> {
    path.parent().map(Path::as_os_str)
}

fn directories(libraries: &[Library]) -> Vec<&Path> {
    let mut dirs: Vec<&Path> = libraries.iter().filter_map(|l| l.path.parent()).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs_edits::elf::tests::object;

    #[test]
    fn the_loader_finds_development_links_too() {
        let library = |path: &str, soname: &str| Library {
            path: path.into(),
            soname: soname.into(),
            compat32: false,
        };
        let link = |path: &str, target: &str| Link {
            path: path.into(),
            target: target.into(),
        };
        let cuda = library("/l/libcuda.so.580", "libcuda.so.1");
        let links = [
            link("/l/libcuda.so", "libcuda.so.1"),
            link("/l/libGLX_indirect.so.0", "libGLX_nvidia.so.0"),
            link("/other/libcuda.so", "libcuda.so.1"),
        ];
        let names = by_links(std::slice::from_ref(&cuda), &links);
        assert_eq!(names, [library("/l/libcuda.so", "libcuda.so")]);
    }

    #[test]
    fn a_link_to_a_node_is_made_only_if_the_node_exists() {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let image = tempfile::tempdir().unwrap();
        let dri = image.path().join("dev/dri");
        std::fs::create_dir_all(&dri).unwrap();
        let mode = Mode::from_bits_truncate(0o666);
        if !skips::has(&[skips::Need::DeviceNodes]) {
            return;
        }
        mknod(&dri.join("card1"), SFlag::S_IFCHR, mode, makedev(226, 1)).unwrap();
        std::fs::write(dri.join("card2"), "no node").unwrap();
        let links = ["card0", "card1", "card2"].map(|name| Link {
            path: format!("/dev/dri/by-path/pci-{name}").into(),
            target: Path::new("..").join(name),
        });
        let edits = Edits {
            links_by_nodes: links.into(),
            ..Edits::default()
        };
        let rootfs = Rootfs::open(image.path()).unwrap();
        prepare_rootfs(&rootfs, &edits).unwrap();
        let made = std::fs::read_dir(dri.join("by-path")).unwrap();
        let made: Vec<_> = made.map(|e| e.unwrap().file_name()).collect();
        assert_eq!(made, ["pci-card1"]);
    }

    const LIB: &str = "usr/lib";

    fn image_with_compat(version: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for made in ["usr/local/cuda/compat", "etc/ld.so.conf.d", LIB] {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let compat = dir.path().join("usr/local/cuda/compat");
        let file = format!("libcuda.so.{version}");
        std::fs::write(compat.join(&file), object("libcuda.so.1", None)).unwrap();
        std::os::unix::fs::symlink(&file, compat.join("libcuda.so.1")).unwrap();
        dir
    }

    fn cuda_of(dir: &tempfile::TempDir) -> PathBuf {
        let cache = std::fs::read(dir.path().join("etc/ld.so.cache")).unwrap();
        let entries = gpu_host::ldcache::parse(&cache).unwrap();
        let entry = entries.into_iter().find(|e| e.soname == "libcuda.so.1");
        entry.unwrap().path
    }

    fn text_of(dir: &tempfile::TempDir, path: &str) -> String {
        std::fs::read_to_string(dir.path().join(path)).unwrap()
    }

    #[test]
    fn compatibility_libraries_come_first_only_if_they_fit_the_driver() {
        let dir = image_with_compat("575.57.08");
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let edits = |driver: &str| Edits {
            libraries: vec![Library {
                path: format!("/usr/lib/libcuda.so.{driver}").into(),
                soname: "libcuda.so.1".into(),
                compat32: false,
            }],
            cuda_compat: Some(CudaCompat {
                driver: driver.into(),
                cuda: None,
                root: None,
            }),
            ..Edits::default()
        };
        prepare_rootfs(&rootfs, &edits("550.1")).unwrap();
        assert_eq!(
            cuda_of(&dir),
            Path::new("/usr/local/cuda/compat/libcuda.so.1")
        );
        let conf = text_of(&dir, "etc/ld.so.conf.d/00-gpu-container.conf");
        assert_eq!(conf, "/usr/local/cuda/compat\n/usr/lib\n");
        // The same container, started again with a newer driver.
        prepare_rootfs(&rootfs, &edits("580.1")).unwrap();
        assert_eq!(cuda_of(&dir), Path::new("/usr/lib/libcuda.so.580.1"));
        let conf = text_of(&dir, "etc/ld.so.conf.d/00-gpu-container.conf");
        assert_eq!(conf, "/usr/lib\n");
    }

    /// A cluster's image can have 60,000 libraries of its own. A cache that is longer than we read stays as it is.
    #[test]
    fn no_library_of_an_images_long_cache_is_lost() {
        let ours = [Library {
            path: "/usr/lib/libcuda.so.550.1".into(),
            soname: "libcuda.so.1".into(),
            compat32: false,
        }];
        let edits = Edits {
            libraries: ours.to_vec(),
            ..Edits::default()
        };
        let place = "long/".repeat(18);
        for (count, is_read) in [(60_000, true), (130_000, false)] {
            let own: Vec<Library> = (0..count)
                .map(|n| Library {
                    path: format!("/{place}libown{n}.so.1").into(),
                    soname: format!("libown{n}.so.1"),
                    compat32: false,
                })
                .collect();
            let image = tempfile::tempdir().unwrap();
            let path = image.path().join("etc/ld.so.cache");
            std::fs::create_dir(image.path().join("etc")).unwrap();
            let before = ld_cache::with_libraries(b"", &own).unwrap();
            assert_eq!(before.len() as u64 <= CACHE_LIMIT, is_read);
            std::fs::write(&path, &before).unwrap();
            let rootfs = Rootfs::open(image.path()).unwrap();
            let done = prepare_rootfs(&rootfs, &edits);
            let after = std::fs::read(&path).unwrap();
            if is_read {
                done.unwrap();
                let entries = gpu_host::ldcache::parse(&after).unwrap();
                assert_eq!(entries.len(), count + 1);
            } else {
                let refused = done.unwrap_err().to_string();
                let wanted = "in the container: /etc/ld.so.cache: add the driver's libraries: longer than 16 MiB";
                assert!(refused.starts_with(wanted), "{refused}");
                assert_eq!(after, before);
            }
        }
    }

    #[test]
    fn the_vendors_two_hooks_together_have_the_same_effect() {
        let dir = image_with_compat("575.57.08");
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let driver = dir.path().join(LIB).join("libcuda.so.550.1");
        std::fs::write(driver, object("libcuda.so.1", None)).unwrap();
        let compat = |driver: &str| CudaCompat {
            driver: driver.into(),
            cuda: None,
            root: None,
        };
        let folders = [PathBuf::from("/usr/lib")];
        note_cuda_compat(&rootfs, &compat("550.1")).unwrap();
        refresh_cache(&rootfs, &folders).unwrap();
        assert!(cuda_of(&dir).starts_with("/usr/local/cuda/compat"));
        let link = std::fs::read_link(dir.path().join("usr/lib/libcuda.so.1")).unwrap();
        assert_eq!(link, Path::new("libcuda.so.550.1"));
        note_cuda_compat(&rootfs, &compat("580.1")).unwrap();
        refresh_cache(&rootfs, &folders).unwrap();
        assert!(cuda_of(&dir).starts_with("/usr/lib"));
        // Repeated runs add no more files.
        let names = std::fs::read_dir(dir.path().join("etc/ld.so.conf.d")).unwrap();
        assert_eq!(names.count(), 2);
    }
}
