//! Adds directories to the search path of musl's loader, which has no cache. The path is in
//! `/etc/ld-musl-ARCH.path`, with a line for each directory (musl `ldso/dynlink.c`).
//!
//! The driver's libraries are built against glibc, so an Alpine image also needs gcompat. Even
//! with gcompat it would not find them without our directories in that file.

use std::path::Path;

use super::read_only_cover;
use crate::error::Error;
use crate::rootfs::Rootfs;

/// The loader's default path, which applies only without the file. A file that we make must begin with it.
const DEFAULT_PATH: &str = "/lib:/usr/local/lib:/usr/lib";
/// Maximum bytes of the file.
const LIMIT: u64 = 1 << 16;

/// Appends the directories to the path, if the image's loader is musl's. A directory that is in it
/// already stays where it is, so repeated starts of a container add nothing.
pub(crate) fn add(rootfs: &Rootfs, directories: &[&Path]) -> Result<(), Error> {
    let arch = std::env::consts::ARCH;
    if !rootfs.exists(Path::new(&format!("/lib/ld-musl-{arch}.so.1"))) {
        return Ok(());
    }
    let path = format!("/etc/ld-musl-{arch}.path");
    let path = Path::new(&path);
    let image = rootfs.read(path, LIMIT).ok().flatten();
    let text = image.as_deref().and_then(|t| std::str::from_utf8(t).ok());
    let known = |text: &str, dir: &Path| {
        let mut parts = text.split([':', '\n']);
        parts.any(|part| Path::new(part) == dir)
    };
    let mut path_text = text.unwrap_or(DEFAULT_PATH).trim_end().to_owned();
    for dir in directories {
        if !known(&path_text, dir) {
            path_text += &format!("\n{}", dir.display());
        }
    }
    path_text.push('\n');
    if text == Some(path_text.as_str()) {
        return Ok(());
    }
    read_only_cover::write(rootfs, path, path_text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_alpine_image_gets_the_directories_once_after_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let arch = std::env::consts::ARCH;
        let path = dir.path().join(format!("etc/ld-musl-{arch}.path"));
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::create_dir(dir.path().join("lib")).unwrap();
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let ours = ["/usr/lib64", "/usr/lib"].map(Path::new);
        add(&rootfs, &ours).unwrap();
        assert!(!path.exists(), "an image of glibc's");
        fs::write(dir.path().join(format!("lib/ld-musl-{arch}.so.1")), "").unwrap();
        for _ in 0..2 {
            add(&rootfs, &ours).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text, "/lib:/usr/local/lib:/usr/lib\n/usr/lib64\n");
        }
        fs::write(&path, "/own\n/usr/lib64").unwrap();
        add(&rootfs, &ours).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "/own\n/usr/lib64\n/usr/lib\n");
    }
}
