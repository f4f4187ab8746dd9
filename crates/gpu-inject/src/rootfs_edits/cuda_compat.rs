//! CUDA forward compatibility: an image may bring a newer `libcuda` that works with the
//! host's older driver, and then means it to be used.
//!
//! Its directory comes first in the loader's cache that we write, and that is all: nothing
//! of it is mounted, loaded or run. What the image says about its libraries is believed as
//! far as that goes; the worst it can do is to choose among its own files.
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

/// The note in which a `libcuda` says what it works with.
const SECTION: &str = ".note.cuda.fwd_compatibility";
const OWNER: &str = "NVIDIA Corporation";
/// Names in a directory of libraries; a package has ten.
const MOST_NAMES: usize = 1024;
/// Libraries of it that are looked at and put into the cache.
const MOST_LIBRARIES: usize = 64;

/// What the note says, as JSON.
#[derive(Debug, Default, Deserialize)]
struct Note {
    /// Version of CUDA that the library brings.
    #[serde(default, rename = "CUDA Version", alias = "CUDAVersion")]
    cuda: String,
    /// Driver branches it works with.
    #[serde(default, rename = "Driver", alias = "driver")]
    drivers: Vec<u32>,
}

/// The image's compatibility libraries where they are right for this driver: the directory,
/// as the container names it, and what the loader is to find there.
pub(crate) fn libraries(rootfs: &Rootfs, compat: &CudaCompat) -> Option<(PathBuf, Vec<Library>)> {
    let dir = compat.root.as_deref().unwrap_or(Path::new(COMPAT_ROOT));
    let names = rootfs.names(dir, MOST_NAMES);
    let version = chosen(rootfs, dir, &names, compat)?;
    let mut found: Vec<Library> = Vec::new();
    let named = names.iter().filter_map(|n| n.to_str());
    let named = named.filter(|n| n.starts_with("lib") && n.contains(".so"));
    // Each can be a link that takes long to follow.
    for name in named.take(MOST_LIBRARIES) {
        // Links such as libcuda.so.1, by which programs name what lies beside them.
        let path = dir.join(name);
        if rootfs.open_file(&path).is_some() {
            found.push(Library {
                path,
                soname: name.to_owned(),
                compat32: false,
            });
        }
    }
    // Some images have the file alone, for an ldconfig of theirs to make the link.
    if found.iter().all(|l| l.soname != "libcuda.so.1") {
        found.push(Library {
            path: dir.join(format!("libcuda.so.{version}")),
            soname: "libcuda.so.1".into(),
            compat32: false,
        });
    }
    Some((dir.to_owned(), found))
}

/// The version of the one `libcuda.so.X.Y` that is a file of its own, if it is to be used.
/// Several say nothing: which of them the links mean can change after we looked.
fn chosen(rootfs: &Rootfs, dir: &Path, names: &[OsString], compat: &CudaCompat) -> Option<String> {
    let mut candidates = names.iter().filter_map(|name| {
        let version = name.to_str()?.strip_prefix("libcuda.so.")?;
        let is_one = version.contains('.');
        let file = is_one.then(|| rootfs.open_plain_file(&dir.join(name)))??;
        Some((file, version))
    });
    let (file, version) = candidates.next()?;
    if candidates.next().is_some() {
        return None;
    }
    let object = Object::open(&file)?;
    let note = object
        .note(SECTION, OWNER)
        .and_then(|text| serde_json::from_slice(without_nuls(&text)).ok());
    is_right(version, note.as_ref(), compat).then(|| version.to_owned())
}

fn without_nuls(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

fn is_right(version: &str, note: Option<&Note>, compat: &CudaCompat) -> bool {
    let major = |version: &str| -> Option<u32> { version.split('.').next()?.parse().ok() };
    let driver = major(&compat.driver);
    let Some(note) = note else {
        // Of before the note: a newer branch than the driver's.
        return major(version)
            .zip(driver)
            .is_some_and(|(own, driver)| own > driver);
    };
    match driver {
        Some(driver) => {
            note.drivers.contains(&driver)
                && versions(version, &compat.driver) == Some(Ordering::Greater)
        }
        // A driver whose version says nothing, as a Tegra's: CUDA's does.
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

    struct Image {
        dir: tempfile::TempDir,
        compat: PathBuf,
    }

    impl Image {
        /// With `/usr/local/cuda` as real images have it, a chain of absolute links.
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
        let image = Image::with("575.57.08", Some(NOTE));
        for used in ["535.230.02", "570.10", "550.54.15"] {
            let found = image.for_driver(used).unwrap();
            assert_eq!(
                found,
                ["libcuda.so", "libcuda.so.1", "libcuda.so.575.57.08"]
            );
        }
        for not in ["575.57.08", "580.65.06", "545.29.06", "470.10"] {
            assert_eq!(image.for_driver(not), None, "{not}");
        }
        let older = Image::with("535.10.01", Some(NOTE));
        assert_eq!(older.for_driver("535.230.02"), None);
        assert!(older.for_driver("535.9").is_some());
    }

    #[test]
    fn without_a_note_a_newer_branch_decides() {
        let image = Image::with("470.82.01", None);
        assert!(image.for_driver("460.99").is_some());
        assert_eq!(image.for_driver("470.10"), None);
        assert_eq!(image.for_driver("580.65.06"), None);
        let odd = Image::with("575.57.08", Some("not JSON"));
        assert!(odd.for_driver("535.1").is_some());
        assert_eq!(odd.for_driver("575.1"), None);
    }

    #[test]
    fn where_the_driver_has_no_version_cudas_decides() {
        let image = Image::with("575.57.08", Some(NOTE));
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
    fn the_directory_can_be_another() {
        let image = Image::with("575.57.08", Some(NOTE));
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
        let image = Image::with("575.57.08", Some(NOTE));
        fs::remove_file(image.compat.join("libcuda.so.1")).unwrap();
        fs::remove_file(image.compat.join("libcuda.so")).unwrap();
        let found = image.for_driver("535.1").unwrap();
        assert_eq!(found, ["libcuda.so.575.57.08", "libcuda.so.1"]);
    }

    #[test]
    fn nothing_is_used_of_what_leads_out_or_is_no_library() {
        let outside = tempfile::tempdir().unwrap();
        let library = outside.path().join("libcuda.so.999.1");
        fs::write(&library, object("libcuda.so.1", None)).unwrap();

        let link = Image::new();
        symlink(&library, link.compat.join("libcuda.so.999.1")).unwrap();
        assert_eq!(link.for_driver("535.1"), None);

        let dir = Image::new();
        fs::remove_dir(&dir.compat).unwrap();
        symlink(outside.path(), &dir.compat).unwrap();
        assert_eq!(dir.for_driver("535.1"), None);

        let fifo = Image::new();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&fifo.compat.join("libcuda.so.999.1"), mode).unwrap();
        assert_eq!(fifo.for_driver("535.1"), None);

        let huge = Image::new();
        let file = fs::File::create(huge.compat.join("libcuda.so.999.1")).unwrap();
        file.set_len(1 << 42).unwrap();
        assert_eq!(huge.for_driver("535.1"), None);

        let two = Image::with("575.57.08", Some(NOTE));
        fs::write(
            two.compat.join("libcuda.so.999.1"),
            object("libcuda.so.1", None),
        )
        .unwrap();
        assert_eq!(two.for_driver("535.1"), None);
    }

    #[test]
    fn of_links_beside_it_only_those_that_stay_in_the_image() {
        let image = Image::with("575.57.08", Some(NOTE));
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
