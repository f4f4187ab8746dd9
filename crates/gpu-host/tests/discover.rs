//! Discovery on a directory tree, without NVML.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gpu_host::{Capabilities, Capability, Error, FileKind, Options, Root, discover, freshness};

const VERSION: &str = "580.65.06";

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The test's own program, which serves as a 64-bit ELF file.
fn elf() -> Vec<u8> {
    fs::read(std::env::current_exe().unwrap()).unwrap()
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(
        root,
        "proc/driver/nvidia/version",
        format!(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {VERSION}  Release Build\nGCC version: gcc 12.2.0\n"
        ),
    );
    write(root, "proc/sys/kernel/random/boot_id", "b0\n");
    for (pci, minor, excluded) in [
        ("0000:af:00.0", 1, "No"),
        ("0000:3b:00.0", 3, "No"),
        ("0000:01:00.0", 0, "Yes"),
    ] {
        write(
            root,
            &format!("proc/driver/nvidia/gpus/{pci}/information"),
            format!(
                "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\nGPU Excluded:\t {excluded}\n"
            ),
        );
    }
    for (gi, ci, minor) in [(1, 0, 12), (2, 0, 21)] {
        let gi_dir = format!("proc/driver/nvidia/capabilities/gpu1/mig/gi{gi}");
        write(
            root,
            &format!("{gi_dir}/access"),
            format!("DeviceFileMinor: {minor}\n"),
        );
        write(
            root,
            &format!("{gi_dir}/ci{ci}/access"),
            format!("DeviceFileMinor: {}\n", minor + 1),
        );
    }
    write(
        root,
        &format!("usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}"),
        elf(),
    );
    write(root, "usr/lib/x86_64-linux-gnu/libcuda.so.570.1.1", elf());
    write(
        root,
        &format!("usr/lib/x86_64-linux-gnu/libnvidia-new-thing.so.{VERSION}"),
        elf(),
    );
    write(
        root,
        &format!("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{VERSION}"),
        "no ELF",
    );
    write(
        root,
        &format!("usr/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"),
        "f",
    );
    symlink("usr/lib", root.join("lib")).unwrap();
    let smi = fake_driver::elf::shared_object("nvidia-smi", false);
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/nvidia-smi"), smi).unwrap();
    dir
}

fn options(dir: &tempfile::TempDir) -> Options {
    Options::new(Root::open(dir.path()).unwrap())
}

#[test]
fn gpus_come_in_pci_order_and_excluded_ones_do_not_count() {
    let dir = tree();
    let inventory = discover(&options(&dir)).unwrap();
    let gpus: Vec<_> = inventory
        .gpus
        .iter()
        .map(|g| (g.index, g.minor, g.uuid.as_deref()))
        .collect();
    assert_eq!(gpus, [(0, 3, Some("GPU-3")), (1, 1, Some("GPU-1"))]);
    assert!(!inventory.gpus[0].mig_enabled);
    let slices: Vec<_> = inventory.gpus[1]
        .mig
        .iter()
        .map(|m| (m.index, m.gpu_instance))
        .collect();
    assert_eq!(slices, [(0, 1), (1, 2)]);
}

#[test]
fn only_files_of_the_loaded_version_are_taken() {
    let dir = tree();
    let driver = discover(&options(&dir)).unwrap().driver.unwrap();
    assert_eq!(driver.version, VERSION);
    let names: Vec<_> = driver
        .files
        .iter()
        .map(|f| f.path.to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "/lib/firmware/nvidia/580.65.06/gsp_ga10x.bin",
            "/usr/bin/nvidia-smi",
            "/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06",
            "/usr/lib/x86_64-linux-gnu/libnvidia-new-thing.so.580.65.06",
        ]
    );
    let cuda = &driver.files[2];
    assert_eq!(cuda.kind, FileKind::Library);
    assert_eq!(cuda.capabilities, Capabilities::of(&[Capability::Compute]));
    assert_eq!(
        cuda.links[0].path,
        Path::new("/usr/lib/x86_64-linux-gnu/libcuda.so")
    );
}

#[test]
fn container_paths_omit_the_driver_root() {
    let dir = tree();
    let moved = tempfile::tempdir().unwrap();
    fs::create_dir_all(moved.path().join("run/driver")).unwrap();
    fs::rename(dir.path().join("proc"), moved.path().join("proc")).unwrap();
    fs::rename(dir.path().join("usr"), moved.path().join("run/driver/usr")).unwrap();
    let mut options = options(&moved);
    options.driver_root = "/run/driver".into();
    let files = discover(&options).unwrap().driver.unwrap().files;
    let smi = files.iter().find(|f| f.kind == FileKind::Binary).unwrap();
    assert_eq!(smi.path, Path::new("/usr/bin/nvidia-smi"));
    assert_eq!(smi.host_path, Path::new("/run/driver/usr/bin/nvidia-smi"));
    options.driver_root = "/nowhere".into();
    let error = discover(&options).unwrap_err();
    assert!(
        error.to_string().contains("driver root /nowhere"),
        "{error}"
    );
    assert!(matches!(error, Error::DriverRoot { path, .. } if path == Path::new("/nowhere")));
}

#[test]
fn a_host_without_a_driver_is_not_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = discover(&options(&dir)).unwrap();
    assert_eq!((inventory.driver, inventory.gpus.len()), (None, 0));
}

#[test]
fn an_inventory_goes_stale_with_the_host_and_survives_json() {
    let dir = tree();
    let options = options(&dir);
    let stored = serde_json::to_vec(&discover(&options).unwrap()).unwrap();
    let inventory: gpu_host::Inventory = serde_json::from_slice(&stored).unwrap();
    assert_eq!(inventory, discover(&options).unwrap());
    assert!(inventory.is_fresh(&options.root));
    fs::create_dir_all(
        dir.path()
            .join("proc/driver/nvidia/capabilities/gpu1/mig/gi3/ci0"),
    )
    .unwrap();
    assert!(!inventory.is_fresh(&options.root));
    assert_eq!(freshness(&options.root, Path::new("/")).boot_id, "b0");
}
