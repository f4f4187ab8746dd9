//! Drivers in a directory of their own, as on Container-Optimized OS, GKE and others. Needs root to make device nodes.
#![allow(clippy::unwrap_used)]

mod fake;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use fake::{VERSION, file, host, options};
use fake_driver::describe::Description;
use gpu_host::{FileKind, Inventory, Mismatch, discover, mismatch};

/// Driver roots other than `/` that are in use.
const PLACES: [&str; 5] = [
    "/usr/local/nvidia",
    "/opt/nvidia",
    "/opt/nvidia/current",
    "/home/kubernetes/bin/nvidia",
    "/var/lib/nvidia",
];

/// A host whose driver is below `place`, with `bin`, `lib64` and `vulkan` directly in it and no loader cache.
fn flat(place: &str) -> Option<tempfile::TempDir> {
    let dir = host(&Description::of(VERSION, 1, 2), place)?;
    let root = dir.path().join(&place[1..]);
    for (from, to) in [
        ("usr/lib/x86_64-linux-gnu", "lib64"),
        ("usr/bin", "bin"),
        ("usr/share/vulkan", "vulkan"),
    ] {
        fs::rename(root.join(from), root.join(to)).unwrap();
    }
    fs::remove_dir_all(root.join("usr")).unwrap();
    fs::remove_file(root.join("etc/ld.so.cache")).unwrap();
    fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
    fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
    Some(dir)
}

/// Adds a wrapper script, as found on a recorded host: it sets `LD_LIBRARY_PATH` and starts the driver's program.
fn wrap(dir: &tempfile::TempDir, place: &str, name: &str) {
    let script =
        format!("#!/bin/sh\nLD_LIBRARY_PATH={place}/lib64 exec {place}/bin/{name} \"$@\"\n");
    fs::write(dir.path().join("usr/bin").join(name), script).unwrap();
}

fn of_kind(inventory: &Inventory, kind: FileKind) -> Vec<String> {
    let files = &inventory.driver.as_ref().unwrap().files;
    files
        .iter()
        .filter(|f| f.kind == kind)
        .map(|f| f.host_path.display().to_string())
        .collect()
}

/// Asserts that the whole driver was found below `place`, and nothing elsewhere.
fn assert_whole_driver(inventory: &Inventory, place: &str) {
    let libraries = of_kind(inventory, FileKind::Library);
    assert!(libraries.len() > 35, "{place}: {}", libraries.len());
    let programs = of_kind(inventory, FileKind::Binary);
    assert!(programs.len() > 7, "{place}: {programs:?}");
    for path in libraries.iter().chain(&programs) {
        assert!(path.starts_with(place), "{place}: {path}");
    }
    assert_eq!(inventory.gpus[0].mig.len(), 2, "{place}");
}

#[test]
fn a_given_driver_root_is_sufficient() {
    for place in PLACES {
        let Some(dir) = flat(place) else {
            return;
        };
        wrap(&dir, place, "nvidia-smi");
        let mut options = options(&dir);
        options.driver_root = place.into();
        let inventory = discover(&options).unwrap();
        assert_whole_driver(&inventory, place);
        assert_eq!(mismatch(&options, &inventory), None, "{place}");
    }
}

#[test]
fn without_links_the_mismatch_names_the_driver_root() {
    for place in PLACES {
        let Some(dir) = flat(place) else {
            return;
        };
        let options = options(&dir);
        let inventory = discover(&options).unwrap();
        if place == "/usr/local/nvidia" {
            // Images for GKE have these directories on their search paths, so they are searched without being named.
            assert_whole_driver(&inventory, place);
            continue;
        }
        let Some(Mismatch::NoLibraries { elsewhere, .. }) = mismatch(&options, &inventory) else {
            panic!("{place} is not missed");
        };
        assert_eq!(elsewhere.as_deref(), Some(Path::new(place)));
    }
}

#[test]
fn the_driver_is_found_by_links_in_usr_lib_and_not_by_wrapper_scripts() {
    for place in PLACES {
        let Some(dir) = flat(place) else {
            return;
        };
        wrap(&dir, place, "nvidia-smi");
        wrap(&dir, place, "nvidia-persistenced");
        for name in ["libcuda.so.1", "libnvidia-ml.so.1"] {
            let target = format!("{place}/lib64/{name}");
            symlink(target, dir.path().join("usr/lib").join(name)).unwrap();
        }
        let inventory = discover(&options(&dir)).unwrap();
        assert_whole_driver(&inventory, place);
        let smi = file(&inventory, &format!("{place}/bin/nvidia-smi")).unwrap();
        let link = smi
            .links
            .iter()
            .find(|l| l.path == Path::new("/usr/bin/nvidia-smi"));
        assert_eq!(link.map(|l| &l.target), Some(&smi.path), "{place}");
    }
}

/// The driver may be mounted later; until then the links dangle.
#[test]
fn dangling_links_are_not_a_driver() {
    let Some(dir) = flat("/opt/nvidia") else {
        return;
    };
    let link = dir.path().join("usr/lib/libcuda.so.1");
    symlink("/opt/nvidia/lib64/libcuda.so.1", link).unwrap();
    fs::rename(dir.path().join("opt"), dir.path().join("not-mounted")).unwrap();
    let inventory = discover(&options(&dir)).unwrap();
    assert_eq!(inventory.driver.unwrap().files.len(), 0);
}

#[test]
fn the_driver_is_found_by_the_loaders_configuration() {
    for place in PLACES {
        let Some(dir) = flat(place) else {
            return;
        };
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        let directory = format!("{place}/lib64\n");
        fs::write(dir.path().join("etc/ld.so.conf"), directory).unwrap();
        let mut ldconfig = Command::new("/sbin/ldconfig");
        assert!(
            ldconfig
                .arg("-r")
                .arg(dir.path())
                .status()
                .unwrap()
                .success()
        );
        assert_whole_driver(&discover(&options(&dir)).unwrap(), place);
    }
}
