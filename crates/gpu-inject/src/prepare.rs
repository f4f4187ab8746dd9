//! What a container needs besides mounts and nodes: links and the loader's cache.

use std::path::Path;

use gpu_host::Link;

use crate::edits::Library;
use crate::error::Error;
use crate::ldcache;
use crate::live::cover;
use crate::rootfs::Rootfs;

const CACHE: &str = "/etc/ld.so.cache";
/// Five times the cache of a desktop with everything installed. What is made of one takes up
/// to 64 MiB (testenv/fuzz/tests/memory.rs).
pub(crate) const CACHE_LIMIT: u64 = 2 << 20;
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
    let cache = ldcache::with_libraries(&image, &named(libraries, links));
    cover::write(rootfs, Path::new(CACHE), &cache)?;
    // A later ldconfig in the container finds our directories too.
    if rootfs.exists(Path::new(CONF_DIR)) {
        cover::write(rootfs, Path::new(CONF), directories(libraries).as_bytes())?;
    }
    Ok(())
}

/// The libraries, and the links beside them that programs load them by (`libcuda.so`):
/// the loader looks for either in its cache only, unless it knows the directory.
fn named(libraries: &[Library], links: &[Link]) -> Vec<Library> {
    let by_links = links.iter().filter_map(|link| {
        let name = link.path.file_name()?.to_str()?;
        let is_beside = |l: &&Library| {
            l.path.parent() == link.path.parent()
                && (link.target == Path::new(&l.soname)
                    || l.path.file_name() == Some(link.target.as_os_str()))
        };
        let library = libraries.iter().find(is_beside)?;
        Some(Library {
            path: link.path.clone(),
            soname: name.to_owned(),
            compat32: library.compat32,
        })
    });
    libraries.iter().cloned().chain(by_links).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = named(std::slice::from_ref(&cuda), &links);
        assert_eq!(found, [cuda, library("/l/libcuda.so", "libcuda.so")]);
    }
}
