//! What a container needs besides mounts and nodes: links and the loader's cache.

use std::path::Path;

use gpu_host::Link;

use crate::edits::Library;
use crate::error::Error;
use crate::ldcache;
use crate::rootfs::Rootfs;

const CACHE: &str = "/etc/ld.so.cache";
/// Ten times the cache of a desktop with everything installed.
const CACHE_LIMIT: u64 = 16 << 20;
const CONF_DIR: &str = "/etc/ld.so.conf.d";
const CONF: &str = "/etc/ld.so.conf.d/00-gpu-container.conf";

/// Makes SONAME links beside the libraries, the other links, and the cache, in the
/// root file system of a container that has not started yet.
pub fn prepare_rootfs(rootfs: &Rootfs, libraries: &[Library], links: &[Link]) -> Result<(), Error> {
    for library in libraries {
        let name = library.path.file_name().map(Path::new);
        let dir = library.path.parent().unwrap_or(Path::new("/"));
        if let Some(name) = name.filter(|n| *n != Path::new(&library.soname)) {
            // An image that ships its own file of that name keeps it; the cache says ours first.
            rootfs.symlink(&dir.join(&library.soname), name)?;
        }
    }
    for link in links {
        rootfs.symlink(&link.path, &link.target)?;
    }
    if libraries.is_empty() {
        return Ok(());
    }
    // A cache we cannot read (too long, a loop of links) is replaced by one that works.
    let image = rootfs
        .read(Path::new(CACHE), CACHE_LIMIT)
        .ok()
        .flatten()
        .unwrap_or_default();
    rootfs.write(
        Path::new(CACHE),
        &ldcache::with_libraries(&image, libraries),
        0o644,
    )?;
    // A later ldconfig in the container finds our directories too.
    if rootfs.exists(Path::new(CONF_DIR)) {
        rootfs.write(Path::new(CONF), directories(libraries).as_bytes(), 0o644)?;
    }
    Ok(())
}

fn directories(libraries: &[Library]) -> String {
    let mut dirs: Vec<_> = libraries
        .iter()
        .filter_map(|l| Some(l.path.parent()?.display().to_string()))
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs.iter().flat_map(|d| [d.as_str(), "\n"]).collect()
}
