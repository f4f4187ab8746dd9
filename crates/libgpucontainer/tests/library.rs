//! The library on a directory tree: which driver root it searches, and its errors for missing or invalid files.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use gpucontainer::{GpuHost, HostOptions};

const VERSION: &str = "580.65.06";

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A host with one GPU whose driver has its own root, as with a driver container.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let version = format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Sun\n");
    write(root, "proc/driver/nvidia/version", version);
    write(
        root,
        "proc/driver/nvidia/gpus/0000:3b:00.0/information",
        "Model: \t NVIDIA H100\nGPU UUID: \t GPU-1\nDevice Minor: \t 0\n",
    );
    // The test's own program serves as a 64-bit ELF file.
    let library = format!("run/driver/usr/lib64/libcuda.so.{VERSION}");
    write(
        root,
        &library,
        fs::read(std::env::current_exe().unwrap()).unwrap(),
    );
    dir
}

fn load(tree: &tempfile::TempDir, ld_cache: Option<&str>) -> Result<GpuHost, gpucontainer::Error> {
    GpuHost::load(&HostOptions {
        root: tree.path().to_owned(),
        driver_root: Some("/run/driver".into()),
        ld_cache: ld_cache.map(PathBuf::from),
        ..HostOptions::default()
    })
}

#[test]
fn a_driver_root_is_searched() {
    let tree = tree();
    let host = load(&tree, None).unwrap();
    let driver = host.inventory().driver.as_ref().unwrap();
    let library = format!("/usr/lib64/libcuda.so.{VERSION}");
    assert_eq!(driver.files.len(), 1);
    assert_eq!(driver.files[0].path, Path::new(&library));
    assert_eq!(host.inventory().gpus.len(), 1);
    let usual = HostOptions {
        root: tree.path().to_owned(),
        ..HostOptions::default()
    };
    let usual = GpuHost::load(&usual).unwrap();
    assert_eq!(usual.inventory().driver.as_ref().unwrap().files, []);
}

#[test]
fn an_invalid_loader_cache_is_reported() {
    let tree = tree();
    let message = load(&tree, Some("/etc/ld.so.cache"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("/run/driver/etc/ld.so.cache"), "{message}");
    write(tree.path(), "run/driver/etc/ld.so.cache", "odd");
    let message = load(&tree, Some("/etc/ld.so.cache"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("not an ld.so.cache"), "{message}");
}

#[test]
fn a_tree_without_a_driver_is_a_host_without_one() {
    let empty = tempfile::tempdir().unwrap();
    let load = HostOptions {
        root: empty.path().to_owned(),
        ..HostOptions::default()
    };
    let host = GpuHost::load(&load).unwrap();
    assert_eq!(host.inventory().driver, None);
    assert!(
        host.cdi_spec(Path::new("/usr/bin/gpu-container-hook"))
            .is_err()
    );
}
