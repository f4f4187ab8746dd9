//! A WSL 2 distribution on a Windows host with an NVIDIA driver: the driver store has an old folder and the one in
//! use.

use std::io;
use std::path::Path;

use crate::describe::Description;
use crate::elf::shared_object;
use crate::install::Made;
use crate::parts::FEATURE_MAJOR;

/// The folder in use: its INF has the driver's version, the other folder's an older one.
pub(crate) const STORE: &str = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_0fa4e1c2d3b4a596";
const OLD_STORE: &str = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_ffa4e1c2d3b4a596";

pub(crate) fn make(made: &mut Made<'_>, description: &Description) -> io::Result<()> {
    made.node("dxg", FEATURE_MAJOR, 10, 0o666)?;
    let lib = Path::new("usr/lib/wsl/lib");
    for name in ["libdxcore.so", "libd3d12.so"] {
        made.file(&lib.join(name), &shared_object(name, false), 0o755)?;
    }
    // 551.76 is 31.0.15.5176.
    let digits: String = description
        .driver_version
        .chars()
        .filter(char::is_ascii_digit)
        .take(5)
        .collect();
    let (third, fourth) = digits.split_at(digits.len().min(1));
    for (store, number) in [
        (OLD_STORE, "31.0.15.2849".to_owned()),
        (STORE, format!("31.0.1{third}.{fourth}")),
    ] {
        let store = Path::new(store);
        for (name, soname) in [
            ("libcuda.so.1.1", "libcuda.so.1"),
            ("libcuda_loader.so", "libcuda_loader.so"),
            (
                "libnvidia-ptxjitcompiler.so.1",
                "libnvidia-ptxjitcompiler.so.1",
            ),
            ("libnvidia-ml.so.1", "libnvidia-ml.so.1"),
            ("libnvidia-ml_loader.so", "libnvidia-ml.so.1"),
            ("libnvdxgdmal.so.1", "libnvdxgdmal.so.1"),
        ] {
            made.file(&store.join(name), &shared_object(soname, false), 0o555)?;
        }
        for name in ["nvcubins.bin", "nvidia-smi", "nvcuda64.dll", "nv_dispi.cat"] {
            made.file(&store.join(name), b"x", 0o555)?;
        }
        let inf = format!("[Version]\r\nDriverVer = 03/14/2024, {number}\r\n");
        let wide: Vec<u8> = "\u{feff}"
            .chars()
            .chain(inf.chars())
            .flat_map(|c| (c as u16).to_le_bytes())
            .collect();
        made.file(&store.join("nv_dispi.inf"), &wide, 0o444)?;
    }
    Ok(())
}
