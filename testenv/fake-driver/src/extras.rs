//! What only some hosts have: features, IMEX channels, GPUs of other vendors.

use std::io;
use std::path::Path;

use crate::describe::{Description, Other};
use crate::install::Made;
use crate::parts::{DRM_MAJOR, FEATURE_MAJOR, IMEX_MAJOR};

pub(crate) fn make(made: &mut Made<'_>, description: &Description) -> io::Result<()> {
    for feature in &description.features {
        let nodes: &[(&str, u64)] = match feature.as_str() {
            "gds" => &[("nvidia-fs0", 0), ("nvidia-fs1", 1)],
            "mofed" => &[("infiniband/uverbs0", 2), ("infiniband/rdma_cm", 3)],
            "gdrcopy" => &[("gdrdrv", 4)],
            "nvswitch" => &[("nvidia-nvswitchctl", 255), ("nvidia-nvswitch0", 5)],
            other => {
                let why = format!("no feature {other:?}: gds, mofed, gdrcopy, nvswitch");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        };
        for (name, minor) in nodes {
            made.node(name, FEATURE_MAJOR, *minor, 0o666)?;
        }
        if feature == "gds" {
            made.file(Path::new("etc/cufile.json"), b"{}\n", 0o644)?;
            made.file(Path::new("run/udev/data/+x"), b"", 0o644)?;
        }
    }
    for channel in &description.imex_channels {
        let name = format!("nvidia-caps-imex-channels/channel{channel}");
        made.node(&name, IMEX_MAJOR, (*channel).into(), 0o666)?;
    }
    for other in &description.others {
        gpu(made, other)?;
    }
    Ok(())
}

/// The sysfs files and nodes that amdgpu, i915 or xe make.
fn gpu(made: &mut Made<'_>, other: &Other) -> io::Result<()> {
    let vendor = if other.driver == "amdgpu" {
        "0x1002"
    } else {
        "0x8086"
    };
    let device = Path::new("sys/bus/pci/devices").join(&other.pci);
    let render = other.card + 128;
    for (name, content) in [
        ("vendor", format!("{vendor}\n")),
        ("device", "0x74a1\n".into()),
        ("class", "0x030000\n".into()),
        (
            &format!("drm/card{}/dev", other.card),
            format!("{DRM_MAJOR}:{}\n", other.card),
        ),
        (
            &format!("drm/renderD{render}/dev"),
            format!("{DRM_MAJOR}:{render}\n"),
        ),
    ] {
        made.file(&device.join(name), content.as_bytes(), 0o444)?;
    }
    let driver = format!("../../../../bus/pci/drivers/{}", other.driver);
    made.link(&device.join("driver"), &driver)?;
    made.node(
        &format!("dri/card{}", other.card),
        DRM_MAJOR,
        other.card.into(),
        0o660,
    )?;
    made.node(
        &format!("dri/renderD{render}"),
        DRM_MAJOR,
        render.into(),
        0o660,
    )?;
    if other.driver != "amdgpu" {
        return Ok(());
    }
    let id = format!("{:016x}\n", 0xfa4e_0000_u32 + other.card);
    made.file(&device.join("unique_id"), id.as_bytes(), 0o444)?;
    if !made.root.join("dev/kfd").exists() {
        made.node("kfd", FEATURE_MAJOR, 9, 0o660)?;
    }
    Ok(())
}
