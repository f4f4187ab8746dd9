//! Collects the host's files that the driver's own programs need in the built-in image: they are linked to the C
//! library, and the host's driver works with the host's C library.

use std::path::{Path, PathBuf};

use gpu_host::ldcache;

use crate::engines::probe_image::ImageFile;
use crate::host::Host;

/// The program that initializes CUDA, here and in the image.
pub const CUDA_INIT: &str = "/usr/lib/gpu-container/cuda-init";
const IN_IMAGE: &str = "cuda-init";
/// The loader of this machine's programs (the psABI of each fixes its path).
const LOADER: &str = if cfg!(target_arch = "aarch64") {
    "/lib/ld-linux-aarch64.so.1"
} else {
    "/lib64/ld-linux-x86-64.so.2"
};
/// The libraries that a driver's programs and libraries are linked to. Before glibc 2.34 it was split into several.
const LIBRARIES: [&str; 6] = [
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libgcc_s.so.1",
];
/// Class 64, in the header of an ELF file.
const CLASS_64: u8 = 2;

/// The files to put into the image. Files that this host lacks are left out: the driver's programs then do not run in
/// the image, and the report says so.
pub fn of(host: &Host) -> Vec<ImageFile> {
    let root = host.root();
    let cache = root.read("/etc/ld.so.cache").unwrap_or_default();
    let mut files: Vec<ImageFile> = Vec::new();
    let mut add = |name: PathBuf, from: &Path| {
        let Ok(content) = root.read(from) else { return };
        let is_ours = content.starts_with(b"\x7fELF") && content.get(4) == Some(&CLASS_64);
        if is_ours && files.iter().all(|f| f.path != name) {
            files.push(ImageFile {
                path: name,
                content,
            });
        }
    };
    add(relative(Path::new(LOADER)), Path::new(LOADER));
    for entry in ldcache::parse(&cache).unwrap_or_default() {
        if LIBRARIES.contains(&entry.soname.as_str()) {
            add(relative(&entry.path), &entry.path);
        }
    }
    add(IN_IMAGE.into(), Path::new(CUDA_INIT));
    files
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_s_c_library_and_loader_are_found() {
        let host = Host::open(Path::new("/"), Path::new("/")).unwrap();
        let files = of(&host);
        let has = |end: &str| files.iter().filter(|f| f.path.ends_with(end)).count();
        assert_eq!((has("libc.so.6"), has("libm.so.6")), (1, 1));
        assert!(
            files
                .iter()
                .any(|f| Path::new("/").join(&f.path) == Path::new(LOADER))
        );
        assert!(files.iter().all(|f| f.path.is_relative()));
    }

    #[test]
    fn a_host_without_them_has_none() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::open(tree.path(), Path::new("/")).unwrap();
        assert!(of(&host).is_empty());
    }
}
