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

/// A minimal 64-bit shared object with a SONAME and, if given, with the note of a `libcuda` for
/// forward compatibility.
pub(crate) fn shared_object(soname: &str, note: Option<&str>) -> Vec<u8> {
    const SECTION: &str = ".note.cuda.fwd_compatibility";
    let words = |list: &[u64]| -> Vec<u8> { list.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let mut file = vec![0u8; 64];
    let mut put = |bytes: &[u8]| {
        let at = file.len() as u64;
        file.extend_from_slice(bytes);
        file.resize(file.len().next_multiple_of(8), 0);
        at
    };
    let strings = put(format!("\0{soname}\0").as_bytes());
    let dynamic = put(&words(&[5, strings, 14, 1, 0, 0]));
    let names = format!("\0{SECTION}\0");
    let names_at = put(names.as_bytes());
    let note = note.map(|text| {
        let size = u32::try_from(text.len()).unwrap();
        let mut made: Vec<u8> = [19, size, 1]
            .iter()
            .flat_map(|n: &u32| n.to_le_bytes())
            .collect();
        made.extend_from_slice(b"NVIDIA Corporation\0\0");
        made.extend_from_slice(text.as_bytes());
        (put(&made), made.len() as u64)
    });
    let section = |name: u64, kind: u64, at: u64, size: u64| {
        words(&[kind << 32 | name, 0, 0, at, size, 0, 0, 0])
    };
    let mut table = section(0, 3, names_at, names.len() as u64);
    let mut count = 1u16;
    if let Some((at, size)) = note {
        table.extend(section(1, 7, at, size));
        count = 2;
    }
    let table = put(&table);
    let segment = |kind: u64, at: u64, size: u64| words(&[kind, at, at, at, size, size, 0]);
    let segments = put(&[segment(1, 0, table), segment(2, dynamic, 48)].concat());
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[32..40].copy_from_slice(&segments.to_le_bytes());
    file[40..48].copy_from_slice(&table.to_le_bytes());
    for (at, n) in [(54, 56), (56, 2), (58, 64), (60, count), (62, 0)] {
        file[at..at + 2].copy_from_slice(&u16::to_le_bytes(n));
    }
    file
}
