//! The search path of musl's loader, which knows no cache: a line for each directory in
//! `/etc/ld-musl-ARCH.path` (musl `ldso/dynlink.c`).
//!
//! The driver's libraries are built against glibc, so an Alpine image needs gcompat besides;
//! with it, and without our directories in that file, it still would not find them.

use std::path::Path;

use super::read_only_cover;
use crate::error::Error;
use crate::rootfs::Rootfs;

/// What the loader looks through where there is no file: it must be in one that we make.
const USUAL: &str = "/lib:/usr/local/lib:/usr/lib";
/// A directory a line.
const LIMIT: u64 = 1 << 16;

/// Puts the directories at the end of the path of an image whose loader is musl's. Those
/// that are in it stay where they are, so however often a container starts, it is once.
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
    let mut made = text.unwrap_or(USUAL).trim_end().to_owned();
    for dir in directories {
        if !known(&made, dir) {
            made += &format!("\n{}", dir.display());
        }
    }
    made.push('\n');
    if text == Some(made.as_str()) {
        return Ok(());
    }
    read_only_cover::write(rootfs, path, made.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_alpine_image_gets_the_directories_once_behind_its_own() {
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
