//! A Jetson: its GPU is not on PCI, and CSV files list what containers get.

use std::io;
use std::path::Path;

use crate::elf::shared_object;
use crate::install::Made;
use crate::parts::FEATURE_MAJOR;

const CSV: &str = "etc/nvidia-container-runtime/host-files-for-container.d";
const LIB: &str = "usr/lib/aarch64-linux-gnu/nvidia";

pub(crate) fn make(made: &mut Made<'_>) -> io::Result<()> {
    let release =
        b"# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64\n";
    made.file(Path::new("etc/nv_tegra_release"), release, 0o444)?;
    made.file(
        Path::new("proc/device-tree/model"),
        b"NVIDIA Jetson AGX Orin Developer Kit\0",
        0o444,
    )?;
    for (name, minor) in [
        ("nvmap", 20),
        ("nvhost-gpu", 21),
        ("nvhost-as-gpu", 22),
        ("nvgpu/igpu0/ctrl", 23),
    ] {
        made.node(name, FEATURE_MAJOR, minor, 0o660)?;
    }
    let lib = Path::new(LIB);
    for (name, soname) in [
        ("libcuda.so.1.1", "libcuda.so.1"),
        ("libnvidia-ml.so.1", "libnvidia-ml.so.1"),
        ("libnvbuf_a.so.1.0.0", "libnvbuf_a.so.1"),
        ("libnvbuf_b.so.1.0.0", "libnvbuf_b.so.1"),
        ("libextra.so.1", "libextra.so.1"),
    ] {
        made.file(&lib.join(name), &shared_object(soname, false), 0o644)?;
    }
    made.link(&lib.join("libcuda.so.1"), "libcuda.so.1.1")?;
    made.link(
        Path::new("usr/lib/aarch64-linux-gnu/libcuda.so"),
        "nvidia/libcuda.so.1",
    )?;
    made.file(Path::new("usr/share/nvidia/tegra/a.conf"), b"a\n", 0o644)?;
    for (name, text) in [
        (
            "devices.csv",
            "# nodes\ndev, /dev/nvmap\ndev, /dev/nvhost-*\ndev, /dev/nvgpu/igpu0/ctrl\ndev, /dev/not-on-this-board\n".to_owned(),
        ),
        (
            "drivers.csv",
            format!("lib, /{LIB}/libcuda.so.1.1\nsym, /usr/lib/aarch64-linux-gnu/libcuda.so\nlib, /{LIB}/libnvidia-ml.so.1\nlib, /{LIB}/libnvbuf_[ab].so.*\n"),
        ),
        ("l4t.csv", "dir, /usr/share/nvidia/tegra\n\n".to_owned()),
        ("extra.csv", format!("lib, /{LIB}/libextra.so.1\n")),
    ] {
        made.file(&Path::new(CSV).join(name), text.as_bytes(), 0o644)?;
    }
    Ok(())
}
