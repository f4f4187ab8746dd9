//! CUDA forward compatibility: an image may contain a newer `libcuda` that works with the host's
//! older driver and that its programs should use.
//!
//! All that is done is to put its directory first in the loader cache that we write; none of its
//! files is mounted, loaded or run. The image's own statement about its libraries is trusted for
//! this, since the worst it can do is to choose among the image's own files.
//!
//! The rule is that of nvidia-container-toolkit 1.20 (`cmd/nvidia-cdi-hook/cudacompat`).

use std::cmp::Ordering;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::elf::Object;
use crate::edits::{COMPAT_ROOT, CudaCompat, Library};
use crate::plan::requirements::versions;
use crate::rootfs::Rootfs;

/// The section with the note in which a `libcuda` lists the drivers it works with.
const SECTION: &str = ".note.cuda.fwd_compatibility";
const OWNER: &str = "NVIDIA Corporation";
/// Maximum names that are read in the directory; the package has ten.
const MAX_NAMES: usize = 1024;
/// Maximum libraries of the directory that are put into the cache.
const MAX_LIBRARIES: usize = 64;

/// The note, which is JSON.
#[derive(Debug, Default, Deserialize)]
struct Note {
    /// The CUDA version of the library.
    #[serde(default, rename = "CUDA Version", alias = "CUDAVersion")]
    cuda: String,
    /// The driver branches it works with.
    #[serde(default, rename = "Driver", alias = "driver")]
    drivers: Vec<u32>,
}

/// The image's compatibility libraries, if they are to be used with this driver: their directory in
/// the container, and the libraries for the loader cache.
pub(crate) fn libraries(rootfs: &Rootfs, compat: &CudaCompat) -> Option<(PathBuf, Vec<Library>)> {
    let dir = compat.root.as_deref().unwrap_or(Path::new(COMPAT_ROOT));
    let names = rootfs.names(dir, MAX_NAMES);
    let version = usable_version(rootfs, dir, &names, compat)?;
    let mut libraries: Vec<Library> = Vec::new();
    let named = names.iter().filter_map(|n| n.to_str());
    let named = named.filter(|n| n.starts_with("lib") && n.contains(".so"));
    // Limited, because each can be a link that takes long to follow.
    for name in named.take(MAX_LIBRARIES) {
        // Includes links such as libcuda.so.1, since programs load libraries by these names.
        let path = dir.join(name);
        if rootfs.open_file(&path).is_some() {
            libraries.push(Library {
                path,
                soname: name.to_owned(),
                compat32: false,
            });
        }
    }
    // Some images lack the SONAME link, because they let ldconfig make it.
    if libraries.iter().all(|l| l.soname != "libcuda.so.1") {
        libraries.push(Library {
            path: dir.join(format!("libcuda.so.{version}")),
            soname: "libcuda.so.1".into(),
            compat32: false,
        });
    }
    Some((dir.to_owned(), libraries))
}

/// The version of the only `libcuda.so.X.Y` that is a regular file, if it is to be used. `None` if
/// there are several: which of them the links lead to could change after the check.
fn usable_version(
    rootfs: &Rootfs,
    dir: &Path,
    names: &[OsString],
    compat: &CudaCompat,
) -> Option<String> {
    let mut candidates = names.iter().filter_map(|name| {
        let version = name.to_str()?.strip_prefix("libcuda.so.")?;
        let is_one = version.contains('.');
        let file = is_one.then(|| rootfs.open_plain_file(&dir.join(name)).ok()?)??;
        Some((file, version))
    });
    let (file, version) = candidates.next()?;
    if candidates.next().is_some() {
        return None;
    }
    let object = Object::open(&file).ok()??;
    let note = object
        .note(SECTION, OWNER)
        .and_then(|text| serde_json::from_slice(without_nuls(&text)).ok());
    is_usable(version, note.as_ref(), compat).then(|| version.to_owned())
}

fn without_nuls(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

fn is_usable(version: &str, note: Option<&Note>, compat: &CudaCompat) -> bool {
    let major = |version: &str| -> Option<u32> { version.split('.').next()?.parse().ok() };
    let driver = major(&compat.driver);
    let Some(note) = note else {
        // Libraries older than the note are used if their branch is newer than the driver's.
        return major(version)
            .zip(driver)
            .is_some_and(|(library, driver)| library > driver);
    };
    match driver {
        Some(driver) => {
            note.drivers.contains(&driver)
                && versions(version, &compat.driver) == Some(Ordering::Greater)
        }
        // If the driver's version is unknown, as on a Tegra, CUDA versions are compared.
        None => compat.cuda.is_some_and(|(major, minor)| {
            let driver = format!("{major}.{minor}");
            !note.cuda.is_empty() && versions(&note.cuda, &driver) == Some(Ordering::Greater)
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::rootfs_edits::elf::tests::object;

    const NOTE: &str = r#"{"Format":1,"CUDA Version":"12.9","Driver":[535,550,570],"Device":[1]}"#;

    struct CompatImage {
        dir: tempfile::TempDir,
        compat: PathBuf,
    }

    impl CompatImage {
        /// An image in which `/usr/local/cuda` is a chain of absolute links, as in real images.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let compat = dir.path().join("usr/local/cuda-12.9/compat");
            fs::create_dir_all(&compat).unwrap();
            fs::create_dir_all(dir.path().join("etc/alternatives")).unwrap();
            symlink("/etc/alternatives/cuda", dir.path().join("usr/local/cuda")).unwrap();
            symlink(
                "/usr/local/cuda-12.9",
                dir.path().join("etc/alternatives/cuda"),
            )
            .unwrap();
            Self { dir, compat }
        }

        fn with(version: &str, note: Option<&str>) -> Self {
            let image = Self::new();
            let name = format!("libcuda.so.{version}");
            fs::write(image.compat.join(&name), object("libcuda.so.1", note)).unwrap();
            symlink(&name, image.compat.join("libcuda.so.1")).unwrap();
            symlink("libcuda.so.1", image.compat.join("libcuda.so")).unwrap();
            image
        }

        fn for_driver(&self, driver: &str) -> Option<Vec<String>> {
            let rootfs = Rootfs::open(self.dir.path()).unwrap();
            let compat = CudaCompat {
                driver: driver.into(),
                cuda: Some((12, 2)),
                root: None,
            };
            let (dir, libraries) = libraries(&rootfs, &compat)?;
            assert_eq!(dir, Path::new(COMPAT_ROOT));
            Some(libraries.into_iter().map(|l| l.soname).collect())
        }
    }

    #[test]
    fn the_note_decides_by_branch_and_version() {
        let image = CompatImage::with("575.57.08", Some(NOTE));
        for used in ["535.230.02", "570.10", "550.54.15"] {
            let libraries = image.for_driver(used).unwrap();
            assert_eq!(
                libraries,
                ["libcuda.so", "libcuda.so.1", "libcuda.so.575.57.08"]
            );
        }
        for not in ["575.57.08", "580.65.06", "545.29.06", "470.10"] {
            assert_eq!(image.for_driver(not), None, "{not}");
        }
        let older = CompatImage::with("535.10.01", Some(NOTE));
        assert_eq!(older.for_driver("535.230.02"), None);
        assert!(older.for_driver("535.9").is_some());
    }

    #[test]
    fn without_a_note_a_newer_branch_decides() {
        let image = CompatImage::with("470.82.01", None);
        assert!(image.for_driver("460.99").is_some());
        assert_eq!(image.for_driver("470.10"), None);
        assert_eq!(image.for_driver("580.65.06"), None);
        let odd = CompatImage::with("575.57.08", Some("not JSON"));
        assert!(odd.for_driver("535.1").is_some());
        assert_eq!(odd.for_driver("575.1"), None);
    }

    #[test]
    fn without_a_driver_version_the_cuda_version_decides() {
        let image = CompatImage::with("575.57.08", Some(NOTE));
        let rootfs = Rootfs::open(image.dir.path()).unwrap();
        let with = |cuda| CudaCompat {
            driver: String::new(),
            cuda,
            root: None,
        };
        assert!(libraries(&rootfs, &with(Some((12, 8)))).is_some());
        assert!(libraries(&rootfs, &with(Some((12, 9)))).is_none());
        assert!(libraries(&rootfs, &with(Some((13, 0)))).is_none());
        assert!(libraries(&rootfs, &with(None)).is_none());
    }

    #[test]
    fn the_directory_can_be_configured() {
        let image = CompatImage::with("575.57.08", Some(NOTE));
        let to = image.dir.path().join("usr/local/cuda/compat_orin");
        fs::rename(
            &image.compat,
            image.dir.path().join("usr/local/cuda-12.9/compat_orin"),
        )
        .unwrap();
        assert!(!to.exists());
        assert_eq!(image.for_driver("535.1"), None);
        let compat = CudaCompat {
            driver: "535.1".into(),
            cuda: None,
            root: Some("/usr/local/cuda/compat_orin".into()),
        };
        let rootfs = Rootfs::open(image.dir.path()).unwrap();
        let (dir, _) = libraries(&rootfs, &compat).unwrap();
        assert_eq!(dir, Path::new("/usr/local/cuda/compat_orin"));
    }

    #[test]
    fn a_library_without_its_links_is_found_by_its_soname() {
        let image = CompatImage::with("575.57.08", Some(NOTE));
        fs::remove_file(image.compat.join("libcuda.so.1")).unwrap();
        fs::remove_file(image.compat.join("libcuda.so")).unwrap();
        let libraries = image.for_driver("535.1").unwrap();
        assert_eq!(libraries, ["libcuda.so.575.57.08", "libcuda.so.1"]);
    }

    #[test]
    fn a_library_outside_the_image_or_an_invalid_one_is_not_used() {
        let outside = tempfile::tempdir().unwrap();
        let library = outside.path().join("libcuda.so.999.1");
        fs::write(&library, object("libcuda.so.1", None)).unwrap();

        let link = CompatImage::new();
        symlink(&library, link.compat.join("libcuda.so.999.1")).unwrap();
        assert_eq!(link.for_driver("535.1"), None);

        let dir = CompatImage::new();
        fs::remove_dir(&dir.compat).unwrap();
        symlink(outside.path(), &dir.compat).unwrap();
        assert_eq!(dir.for_driver("535.1"), None);

        let fifo = CompatImage::new();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&fifo.compat.join("libcuda.so.999.1"), mode).unwrap();
        assert_eq!(fifo.for_driver("535.1"), None);

        let huge = CompatImage::new();
        let file = fs::File::create(huge.compat.join("libcuda.so.999.1")).unwrap();
        file.set_len(1 << 42).unwrap();
        assert_eq!(huge.for_driver("535.1"), None);

        let two = CompatImage::with("575.57.08", Some(NOTE));
        fs::write(
            two.compat.join("libcuda.so.999.1"),
            object("libcuda.so.1", None),
        )
        .unwrap();
        assert_eq!(two.for_driver("535.1"), None);
    }

    #[test]
    fn links_that_lead_out_of_the_image_are_left_out() {
        let image = CompatImage::with("575.57.08", Some(NOTE));
        symlink("/etc/hostname", image.compat.join("libout.so.1")).unwrap();
        symlink(
            "../../../../../../etc/passwd",
            image.compat.join("libup.so.1"),
        )
        .unwrap();
        fs::write(image.compat.join("README"), "").unwrap();
        assert_eq!(image.for_driver("535.1").unwrap().len(), 3);
    }
}
