//! What the hosts and images of several tests are made of.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::process::{Command, Output};

use gpu_host::{DeviceNode, Gpu, PciAddress};
use skips::Need;

pub(crate) const BUSYBOX: &str = "/bin/busybox";
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-container");

/// Whether containers can be started here by these programs, from an image of busybox.
#[track_caller]
pub(crate) fn can_run(programs: &[Need]) -> bool {
    skips::has(&[Need::Root, Need::Busybox, Need::DeviceNodes]) && skips::has(programs)
}

/// A node that the host has where the container gets it.
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

/// A GPU of which no more is known than the start of a container needs.
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

/// Writes a program. By another process: a fork of a test beside this one would keep a descriptor
/// that we write by, and then the program is busy (ETXTBSY).
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
