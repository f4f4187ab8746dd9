//! Installs the fake driver into a tree, uses it through the real NVML client, and removes it again. Needs root, for the
//! nodes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fake_driver::describe::Description;
use fake_driver::install::{self, Places};
use nvml_wrapper::Nvml;

/// The directory of this test's own binary, which has the libraries once they are built. Running a test alone does not
/// build another package's libraries, so they are built here.
fn artifacts() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let own = std::env::current_exe().unwrap();
    let dir = own.parent().unwrap().parent().unwrap().to_owned();
    BUILT.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "-q",
                "-p",
                "fake-nvml",
                "-p",
                "fake-cuda",
                "--target-dir",
            ])
            .arg(dir.parent().unwrap())
            .status()
            .unwrap();
        assert!(status.success());
    });
    dir
}

fn places(root: &Path) -> Places {
    Places {
        root: root.to_owned(),
        driver_root: "/".into(),
        artifacts: Some(artifacts()),
    }
}

fn is_root() -> bool {
    skips::has(&[skips::Need::Root, skips::Need::DeviceNodes])
}

fn tree(dir: &Path, sizes: &mut BTreeMap<PathBuf, u64>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let metadata = entry.path().symlink_metadata().unwrap();
        sizes.insert(entry.path(), metadata.len());
        if metadata.is_dir() {
            tree(&entry.path(), sizes);
        }
    }
}

#[test]
fn everything_is_removed_again() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
    fs::write(dir.path().join("usr/lib/mine"), "stays").unwrap();
    let before = fs::read_dir(dir.path()).unwrap().count();
    install::install(
        &places(dir.path()),
        &Description::of("580.65.06", 2, 0),
        false,
    )
    .unwrap();
    assert!(
        install::install(
            &places(dir.path()),
            &Description::of("580.65.06", 2, 0),
            false
        )
        .is_err()
    );
    install::remove(dir.path()).unwrap();
    let mut left = BTreeMap::new();
    tree(dir.path(), &mut left);
    let names: Vec<_> = left
        .keys()
        .map(|p| p.strip_prefix(dir.path()).unwrap().to_owned())
        .collect();
    assert_eq!(before, 1);
    assert_eq!(names, ["usr", "usr/lib", "usr/lib/mine"].map(PathBuf::from));
}

#[test]
fn an_existing_cache_is_kept_without_the_driver() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("etc/ld.so.cache");
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(&cache, "").unwrap();
    let has_cuda = || {
        let bytes = fs::read(&cache).unwrap();
        bytes.windows(10).any(|w| w == b"libcuda.so")
    };
    let description = Description::of("580.65.06", 1, 0);
    install::install(&places(dir.path()), &description, false).unwrap();
    assert!(has_cuda());
    install::remove(dir.path()).unwrap();
    assert!(!has_cuda());
}

#[test]
fn a_link_out_of_the_tree_is_refused() {
    if !is_root() {
        return;
    }
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path(), dir.path().join("usr")).unwrap();
    let refused = install::install(
        &places(dir.path()),
        &Description::of("580.65.06", 1, 0),
        false,
    );
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("leads out"), "{why}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn nodes_come_back_after_a_reboot() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let description = Description::of("580.65.06", 2, 1);
    install::install(&places(dir.path()), &description, false).unwrap();
    let dev = dir.path().join("dev");
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    tree(&dev, &mut before);
    fs::remove_file(dev.join("nvidia1")).unwrap();
    fs::remove_dir_all(dev.join("nvidia-caps")).unwrap();
    assert_eq!(install::load_nodes(dir.path()).unwrap(), description);
    tree(&dev, &mut after);
    assert_eq!(before, after);
}

#[test]
fn every_library_says_its_soname() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let description = Description::of("580.65.06", 1, 0);
    install::install(&places(dir.path()), &description, false).unwrap();
    // ldconfig has read each of them, and made the links that were missing.
    let listed = Command::new("/sbin/ldconfig")
        .args(["-p", "-C"])
        .arg(dir.path().join("etc/ld.so.cache"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in [
        "libcuda.so.1",
        "libnvidia-ml.so.1",
        "libnvidia-ptxjitcompiler.so.1",
    ] {
        assert!(
            listed.contains(&format!("\t{name} (libc6,x86-64)")),
            "{name} in {listed}"
        );
    }
}

#[test]
fn a_real_nvml_client_sees_the_gpus_of_its_nodes() {
    if !is_root() {
        return;
    }
    for (gpus, slices) in [(1, 0), (64, 7)] {
        let dir = tempfile::tempdir().unwrap();
        let description = Description::of("570.1.2", gpus, slices);
        install::install(&places(dir.path()), &description, false).unwrap();
        let library = dir
            .path()
            .join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
        // In another process, since an environment variable tells where the nodes are.
        let out = Command::new(artifacts().join("fake-nvidia-smi"))
            .arg("-L")
            .env("LD_LIBRARY_PATH", library.parent().unwrap())
            .env("FAKE_DRIVER_DEV", dir.path().join("dev"))
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let lines = usize::try_from(gpus * (1 + slices)).unwrap();
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(text.contains(&description.gpus[0].uuid));
        // This process finds no nodes in /dev, so there is no driver for it.
        assert!(
            Nvml::builder()
                .lib_path(library.as_os_str())
                .init()
                .is_err()
        );
    }
}

#[test]
fn a_description_survives_its_file() {
    let description = Description::of("1.2", 3, 2);
    let text = toml::to_string(&description).unwrap();
    assert_eq!(Description::from_toml(&text).unwrap(), description);
    assert!(Description::from_toml("gpus = 3").is_err());
    let twice = text.replace("minor = 1", "minor = 0");
    assert!(Description::from_toml(&twice).is_err());
}
