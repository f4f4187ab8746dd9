//! Functions for the hosts and images of several tests: device nodes, GPUs, programs.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::process::{Command, Output};

use gpu_host::{DeviceNode, Gpu, PciAddress};
use skips::Need;

pub(crate) const BUSYBOX: &str = "/bin/busybox";
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-container");

/// Whether this machine can start containers with these programs, from a busybox image.
#[track_caller]
pub(crate) fn can_run(programs: &[Need]) -> bool {
    skips::has(&[Need::Root, Need::Busybox, Need::DeviceNodes]) && skips::has(programs)
}

/// A node whose path on the host is the same as in the container.
pub(crate) fn node(name: &str, major: u32, minor: u32) -> DeviceNode {
    let path = format!("/dev/{name}");
    DeviceNode {
        path: path.clone().into(),
        host_path: path.into(),
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

/// A GPU with only the fields that the start of a container needs.
pub(crate) fn gpu(index: u32) -> Gpu {
    Gpu {
        index,
        minor: index,
        uuid: Some(format!("GPU-{index}")),
        name: None,
        brand: None,
        compute_capability: None,
        pci: PciAddress::default(),
        node: node(&format!("nvidia{index}"), 195, index),
        drm: Vec::new(),
        drm_links: Vec::new(),
        mig_enabled: false,
        mig: Vec::new(),
    }
}

/// Writes a program, in another process: if a parallel test forked while this one had the file open
/// for writing, starting the program would fail with ETXTBSY.
pub(crate) fn program(path: &Path, text: &str) {
    let made = Command::new("sh")
        .args(["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh"])
        .arg(text)
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

pub(crate) fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}
