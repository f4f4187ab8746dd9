//! Adds directories to the search path of musl's loader, which has no cache. The path is in
//! `/etc/ld-musl-ARCH.path`, with a line for each directory (musl `ldso/dynlink.c`).
//!
//! The driver's libraries are built against glibc, so an Alpine image also needs gcompat. Even
//! with gcompat it would not find them without our directories in that file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::read_only_cover;
use crate::error::Error;
use crate::rootfs::Rootfs;

/// The loader's default path, which applies only without the file. A file that we make must begin with it.
const DEFAULT_PATH: &[u8] = b"/lib:/usr/local/lib:/usr/lib";
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
    // If the file cannot be read, it must not be replaced: the image's directories would be lost.
    let image = match rootfs.read(path, LIMIT) {
        Err(e) if e.is_loop_of_links() => None,
        read => read?,
    };
    let known = |text: &[u8], dir: &Path| {
        let mut parts = text.split(|byte| matches!(byte, b':' | b'\n'));
        parts.any(|part| Path::new(OsStr::from_bytes(part)) == dir)
    };
    let text = image.as_deref().unwrap_or(DEFAULT_PATH);
    let mut text = text.trim_ascii_end().to_owned();
    for dir in directories {
        if !known(&text, dir) {
            text.push(b'\n');
            text.extend(dir.as_os_str().as_bytes());
        }
    }
    text.push(b'\n');
    if image.as_deref() == Some(&text) {
        return Ok(());
    }
    read_only_cover::write(rootfs, path, &text)
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

    #[test]
    fn directories_of_the_image_stay_whatever_their_names_are() {
        let dir = tempfile::tempdir().unwrap();
        let arch = std::env::consts::ARCH;
        let path = dir.path().join(format!("etc/ld-musl-{arch}.path"));
        for made in ["etc", "lib"] {
            fs::create_dir(dir.path().join(made)).unwrap();
        }
        fs::write(dir.path().join(format!("lib/ld-musl-{arch}.so.1")), "").unwrap();
        fs::write(&path, b"/o\xffn:/usr/lib").unwrap();
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let ours = ["/usr/lib64", "/usr/lib"].map(Path::new);
        add(&rootfs, &ours).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"/o\xffn:/usr/lib\n/usr/lib64\n");
        let long = vec![b'x'; usize::try_from(LIMIT).unwrap() + 1];
        fs::write(&path, &long).unwrap();
        assert!(add(&rootfs, &ours).is_err());
        assert_eq!(fs::read(&path).unwrap(), long);
    }
}
