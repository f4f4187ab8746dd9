//! Discovery on the host recorded in `h200/`: /proc and /sys as recorded, the driver's files with their real sizes.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fake_driver::elf::SharedObject;
use gpu_host::{DriverFile, FileKind, Inventory, NvmlUse, Options, Root, discover};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/h200");
const DRIVER: &str = "usr/local/nvidia";
const WRAPPED: [&str; 5] = [
    "nvidia-smi",
    "nvidia-persistenced",
    "nvidia-debugdump",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Makes a file of that size, with an ELF header if the recorded file has one.
fn lay_out(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let file = File::create(path).unwrap();
    let is_program = path.parent().unwrap().ends_with("bin");
    if let Some((stem, _)) = name.split_once(".so.") {
        let link = fs::read_to_string(Path::new(RECORDED).join("files.txt")).unwrap();
        // The SONAME is the name of a numbered link to the file, if there is one.
        let number = link
            .lines()
            .filter_map(|l| l.split_once(" -> "))
            .find(|(from, to)| *to == name && from.contains(&format!("/{stem}.so.")))
            .and_then(|(from, _)| Path::new(from).file_name()?.to_str().map(str::to_owned));
        let soname = number.unwrap_or_else(|| name.to_owned());
        SharedObject::new(&soname, false, size)
            .write(&file)
            .unwrap();
    } else if is_program {
        SharedObject::new(name, false, size).write(&file).unwrap();
    }
    file.set_len(size).unwrap();
    let mode = if is_program { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn recorded() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for part in ["proc", "sys"] {
        copy(&Path::new(RECORDED).join(part), &root.join(part));
    }
    let list = fs::read_to_string(Path::new(RECORDED).join("files.txt")).unwrap();
    for line in list.lines().filter(|l| l.starts_with('/')) {
        if let Some((path, target)) = line.split_once(" -> ") {
            let path = root.join(&path[1..]);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        } else if let Some((path, size)) = line.split_once("  ") {
            lay_out(&root.join(&path[1..]), size.trim().parse().unwrap());
        }
    }
    symlink("lib64", root.join(DRIVER).join("lib")).unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    for name in WRAPPED {
        let script = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH=/{DRIVER}/lib64 exec /{DRIVER}/bin/{name} \"$@\"\n"
        );
        fs::write(root.join("usr/bin").join(name), script).unwrap();
    }
    for (name, major, minor, mode) in [
        ("nvidia0", 195, 0, 0o666),
        ("nvidiactl", 195, 255, 0o666),
        ("nvidia-uvm", 238, 0, 0o666),
        ("nvidia-uvm-tools", 238, 1, 0o666),
        ("nvidia-caps/nvidia-cap1", 241, 1, 0o400),
        ("nvidia-caps/nvidia-cap2", 241, 2, 0o444),
    ] {
        let path = root.join("dev").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = Mode::from_bits_truncate(mode);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor)).unwrap();
    }
    dir
}

fn inventory_of(dir: &tempfile::TempDir) -> Inventory {
    let mut options = Options::new(Root::open(dir.path()).unwrap());
    options.nvml = NvmlUse::No;
    discover(&options).unwrap()
}

fn programs(inventory: &Inventory) -> Vec<&DriverFile> {
    let files = &inventory.driver.as_ref().unwrap().files;
    files
        .iter()
        .filter(|f| f.kind == FileKind::Binary)
        .collect()
}

#[test]
fn the_recorded_gpu_and_driver_are_found() {
    let dir = recorded();
    let inventory = inventory_of(&dir);
    let driver = inventory.driver.as_ref().unwrap();
    assert_eq!(driver.version, "580.159.04");
    let [gpu] = inventory.gpus.as_slice() else {
        panic!("{:?}", inventory.gpus);
    };
    assert_eq!(
        gpu.uuid.as_deref(),
        Some("GPU-00000000-1111-2222-3333-444444444444")
    );
    assert_eq!(gpu.pci.to_string(), "0000:00:06.0");
    assert_eq!(gpu.minor, 0);
    let list = fs::read_to_string(Path::new(RECORDED).join("files.txt")).unwrap();
    let libraries: Vec<_> = list
        .lines()
        .filter_map(|l| Some(l.split_once("  ")?.0))
        .filter(|p| p.contains("/lib64/"))
        .collect();
    assert!(libraries.len() > 25, "{}", libraries.len());
    for path in libraries {
        let file = driver.files.iter().find(|f| f.path == Path::new(path));
        let file = file.unwrap_or_else(|| panic!("{path} is not found"));
        assert!(file.soname.is_some(), "{path} has no SONAME");
    }
}

/// The host lists capabilities for fabric-imex-mgmt and for every slice that 32 GPUs could have; none of these exists as a slice.
#[test]
fn listed_capabilities_without_a_slice_give_no_slice() {
    let dir = recorded();
    let size = |name: &str| {
        let list = dir.path().join("proc/driver/nvidia-caps").join(name);
        list.metadata().unwrap().len()
    };
    assert!(size("mig-minors") > 100_000);
    assert!(size("sys-minors") > 0 && size("nvlink-minors") > 0);
    let inventory = inventory_of(&dir);
    assert_eq!(inventory.gpus[0].mig, []);
    assert!(!inventory.gpus[0].mig_enabled);
    let control = &inventory.mig_control;
    let nodes = [&control.config, &control.monitor].map(|n| {
        let node = n.as_ref().unwrap();
        (node.path.display().to_string(), node.mode)
    });
    let wanted = [("nvidia-cap1", 0o400), ("nvidia-cap2", 0o444)];
    let wanted = wanted.map(|(name, mode)| (format!("/dev/nvidia-caps/{name}"), mode));
    assert_eq!(nodes, wanted);
    assert!(inventory.imex_channels.is_empty() && inventory.features.is_empty());
}

#[test]
fn wrapper_scripts_are_not_taken_for_the_drivers_programs() {
    let dir = recorded();
    let inventory = inventory_of(&dir);
    let mut paths: Vec<_> = programs(&inventory)
        .iter()
        .map(|f| f.host_path.display().to_string())
        .collect();
    paths.sort();
    let mut wanted = WRAPPED.map(|name| format!("/{DRIVER}/bin/{name}")).to_vec();
    wanted.sort();
    assert_eq!(paths, wanted);
    for program in programs(&inventory) {
        let name = program.path.file_name().unwrap();
        // A link in /usr/bin puts the program on the container's PATH, which lacks the driver's directory.
        let link = program
            .links
            .iter()
            .find(|l| l.path == Path::new("/usr/bin").join(name));
        assert_eq!(
            link.map(|l| l.target.as_path()),
            Some(program.path.as_path())
        );
    }
}

#[test]
fn a_wrapper_without_its_program_is_left_out() {
    let dir = recorded();
    fs::remove_file(dir.path().join(DRIVER).join("bin/nvidia-smi")).unwrap();
    let inventory = inventory_of(&dir);
    assert_eq!(programs(&inventory).len(), WRAPPED.len() - 1);
}
