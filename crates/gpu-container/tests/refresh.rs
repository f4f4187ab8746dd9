//! `gpu-container refresh` on a directory tree: which files it writes, and which it does not touch.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

const SPEC: &str = "run/cdi/nvidia.yaml";
const INVENTORY: &str = "run/gpusetup/inventory.json";
const OTHER_TOOLS_SPEC: &str = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  hooks: [{hookName: createContainer, path: /usr/bin/nvidia-cdi-hook}]\ndevices: []\n";

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn load_driver(root: &Path, version: &str) {
    let text = format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Sun\n");
    write(root, "proc/driver/nvidia/version", text);
}

fn add_gpu(root: &Path, minor: u8) {
    write(
        root,
        &format!("proc/driver/nvidia/gpus/0000:{minor}b:00.0/information"),
        format!("Model: \t NVIDIA H100\nGPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\n"),
    );
}

/// A host whose /var/run is a link, as on every distribution. The link is absolute, so following it
/// by path would leave the tree.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("var")).unwrap();
    fs::create_dir_all(dir.path().join("run")).unwrap();
    std::os::unix::fs::symlink("/run", dir.path().join("var/run")).unwrap();
    dir
}

fn refresh(root: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-container"));
    command.args(["refresh", "--root"]).arg(root);
    command.output().unwrap()
}

fn text(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

#[test]
fn refresh_without_a_driver_writes_nothing() {
    let tree = tree();
    let done = refresh(tree.path());
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read_dir(tree.path().join("run")).unwrap().count(), 0);
}

#[test]
fn spec_and_inventory_are_written_only_if_the_host_changed() {
    let tree = tree();
    let root = tree.path();
    load_driver(root, "580.65.06");
    add_gpu(root, 0);
    assert!(refresh(root).status.success());
    assert!(text(root, SPEC).contains("/dev/nvidia0"));
    assert!(text(root, INVENTORY).contains("GPU-0"));
    let mode = fs::metadata(root.join(SPEC)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o644);

    let inode = || fs::metadata(root.join(SPEC)).unwrap().ino();
    let before = inode();
    let again = refresh(root);
    assert!(again.stdout.is_empty(), "{again:?}");
    assert_eq!(inode(), before);

    add_gpu(root, 1);
    load_driver(root, "590.1.2");
    assert!(refresh(root).status.success());
    assert!(text(root, SPEC).contains("/dev/nvidia1"));
    assert!(text(root, INVENTORY).contains("590.1.2"));
    // No temporary file is left.
    assert_eq!(fs::read_dir(root.join("run/cdi")).unwrap().count(), 1);
}

#[test]
fn kinds_that_another_tool_describes_are_left_to_it() {
    let tree = tree();
    let root = tree.path();
    load_driver(root, "580.65.06");
    add_gpu(root, 0);
    write(root, "etc/cdi/nvidia.yaml", OTHER_TOOLS_SPEC);
    assert!(refresh(root).status.success());
    assert!(!root.join(SPEC).exists());
    // The inventory for the shim is written all the same.
    assert!(root.join(INVENTORY).exists());

    fs::remove_file(root.join("etc/cdi/nvidia.yaml")).unwrap();
    let unit = "usr/lib/systemd/system/nvidia-cdi-refresh.service";
    write(root, unit, "[Service]\n");
    write(root, "usr/lib/udev/rules.d/99-nvidia-cdi-refresh.rules", "");
    assert!(refresh(root).status.success());
    assert!(!root.join(SPEC).exists(), "their unit writes it");

    // Once gpusetup manages the host, the spec is ours.
    let drop_in = "etc/systemd/system/nvidia-cdi-refresh.service.d/50-gpusetup.conf";
    write(root, drop_in, "[Unit]\n");
    assert!(refresh(root).status.success());
    assert!(root.join(SPEC).exists());

    write(root, SPEC, OTHER_TOOLS_SPEC);
    assert!(refresh(root).status.success());
    assert_eq!(text(root, SPEC), OTHER_TOOLS_SPEC);
}

#[test]
fn a_config_that_cannot_be_read_keeps_no_host_from_booting() {
    let tree = tree();
    let root = tree.path();
    load_driver(root, "580.65.06");
    add_gpu(root, 0);
    write(
        root,
        "etc/nvidia-container-runtime/config.toml",
        "not = [toml",
    );
    let done = refresh(root);
    assert!(done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("config.toml"));
    assert!(root.join(SPEC).exists());
}

#[test]
fn a_driver_whose_files_disappeared_is_discovered_again() {
    let tree = tree();
    let root = tree.path();
    load_driver(root, "580.65.06");
    add_gpu(root, 0);
    let library = "usr/lib64/libcuda.so.580.65.06";
    let elf = fs::read(std::env::current_exe().unwrap()).unwrap();
    write(root, library, elf);
    assert!(refresh(root).status.success());
    assert!(text(root, SPEC).contains("libcuda.so"));
    fs::remove_file(root.join(library)).unwrap();
    assert!(refresh(root).status.success());
    assert!(!text(root, SPEC).contains("libcuda.so"));
}

/// If the refresh stopped at a failed write to standard output, it would leave the spec written but
/// the links not made.
#[test]
fn a_closed_standard_output_does_not_stop_the_refresh() {
    let tree = tree();
    load_driver(tree.path(), "580.65.06");
    add_gpu(tree.path(), 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-container"));
    command.args(["refresh", "--root"]).arg(tree.path());
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let done = command.stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert!(tree.path().join(SPEC).exists() && tree.path().join(INVENTORY).exists());
}

/// A policy goes with another tool's package, or by mistake.
#[test]
fn a_policy_that_disappears_is_said_until_somebody_decides() {
    const POLICY: &str = "etc/nvidia-container-runtime/config.toml";
    const COPY: &str = "var/lib/gpu-container/policy.toml";
    let strict = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
    let tree = tree();
    let root = tree.path();
    assert!(refresh(root).status.success());
    assert!(!root.join(COPY).exists());
    write(root, POLICY, strict);
    let said = |out: Output| String::from_utf8(out.stderr).unwrap();
    assert!(!said(refresh(root)).contains("policy"));
    assert_eq!(text(root, COPY), strict);
    fs::remove_file(root.join(POLICY)).unwrap();
    for _ in 0..2 {
        let out = refresh(root);
        assert!(out.status.success());
        let said = said(out);
        assert!(
            said.contains("is gone") && said.contains("install -D"),
            "{said}"
        );
    }
    assert!(!root.join(POLICY).exists());
    write(root, POLICY, "disable-require = false\n");
    assert!(!said(refresh(root)).contains("is gone"));
    assert!(!root.join(COPY).exists());
}
