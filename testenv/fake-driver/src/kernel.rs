//! The kernel module's part of procfs and sysfs.

use std::path::{Path, PathBuf};

use crate::describe::{Description, Gpu};
use crate::parts::{CAPS_MAJOR, DRM_MAJOR, MAJOR, UVM_MAJOR};

/// The files below /proc, except /proc/devices, which a running host has.
pub fn proc_files(description: &Description) -> Vec<(PathBuf, String)> {
    let version = description
        .loaded_version
        .as_ref()
        .unwrap_or(&description.driver_version);
    let mut files = vec![
        (
            PathBuf::from("driver/nvidia/version"),
            format!(
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (fake-driver)\n\
                 GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
            ),
        ),
        (
            PathBuf::from("driver/nvidia/params"),
            "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n"
                .into(),
        ),
    ];
    let mut minors = String::from("config 1\nmonitor 2\n");
    for (name, minor, mode) in [("config", 1, 0o400), ("monitor", 2, 0o444)] {
        let content =
            format!("DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n");
        files.push((
            format!("driver/nvidia/capabilities/mig/{name}").into(),
            content,
        ));
    }
    for gpu in &description.gpus {
        files.push((
            PathBuf::from(format!("driver/nvidia/gpus/{}/information", gpu.pci)),
            format!(
                "Model: \t\t {}\nIRQ:   \t\t 0\nGPU UUID: \t {}\nVideo BIOS: \t 96.00.74.00.01\nBus Type: \t PCIe\n\
                 DMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t {}\nDevice Minor: \t {}\n\
                 GPU Excluded:\t No\n",
                gpu.name, gpu.uuid, gpu.pci, gpu.minor
            ),
        ));
        for slice in &gpu.mig {
            let gi = format!("gpu{}/gi{}", gpu.minor, slice.gpu_instance);
            let ci = format!("{gi}/ci{}", slice.compute_instance);
            let dir = format!(
                "driver/nvidia/capabilities/gpu{}/mig/gi{}",
                gpu.minor, slice.gpu_instance
            );
            let access = [
                (format!("{dir}/access"), gi),
                (format!("{dir}/ci{}/access", slice.compute_instance), ci),
            ];
            for ((path, name), minor) in access.into_iter().zip(slice.caps(gpu.minor)) {
                let line = format!("{name}/access {minor}\n");
                minors.push_str(&line);
                let content =
                    format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n");
                files.push((path.into(), content));
            }
        }
    }
    if !description.small {
        minors = every_minor(&description.gpus);
    }
    files.push(("driver/nvidia-caps/mig-minors".into(), minors));
    for (name, content) in [
        ("sys-minors", "fabric-imex-mgmt 4323\n"),
        ("nvlink-minors", "fabric-mgmt 0\n"),
    ] {
        files.push((format!("driver/nvidia-caps/{name}").into(), content.into()));
    }
    files.push((
        "driver/nvidia/capabilities/fabric-imex-mgmt".into(),
        "DeviceFileMinor: 4323\nDeviceFileMode: 256\nDeviceFileModify: 1\n".into(),
    ));
    files
}

/// The list as the driver prints it, 109 kB: every possible slice of 32 GPUs, whether they exist or not. GPUs with a
/// higher minor, which no driver has, come after them.
fn every_minor(gpus: &[Gpu]) -> String {
    let mut lines = String::from("config 1\nmonitor 2\n");
    let more = gpus.iter().map(|g| g.minor).filter(|n| *n >= 32);
    for gpu in (0..32).chain(more) {
        let first = 3 + gpu * 15 * 9;
        for instance in 0..15 {
            let minor = first + instance * 9;
            lines += &format!("gpu{gpu}/gi{instance}/access {minor}\n");
            for compute in 0..8 {
                let minor = minor + 1 + compute;
                lines += &format!("gpu{gpu}/gi{instance}/ci{compute}/access {minor}\n");
            }
        }
    }
    lines
}

/// The lines that the driver adds to the character devices in /proc/devices.
pub fn device_lines() -> String {
    format!(
        "{MAJOR} nvidia\n{MAJOR} nvidia-modeset\n{MAJOR} nvidiactl\n{UVM_MAJOR} nvidia-uvm\n{CAPS_MAJOR} nvidia-caps\n"
    )
}

/// The files below /sys/bus/pci/devices.
pub fn pci_files(description: &Description) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for (gpu, n) in description.gpus.iter().zip(0..) {
        let mut add =
            |name: &str, content: String| files.push((Path::new(&gpu.pci).join(name), content));
        add("vendor", "0x10de\n".into());
        add("device", "0x2330\n".into());
        add("class", "0x030200\n".into());
        add(
            &format!("drm/card{}/dev", n + 1),
            format!("{DRM_MAJOR}:{}\n", n + 1),
        );
        add(
            &format!("drm/renderD{}/dev", n + 129),
            format!("{DRM_MAJOR}:{}\n", n + 129),
        );
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_minors_is_that_of_a_recorded_host() {
        let recorded =
            include_str!("../../../crates/gpu-host/tests/h200/proc/driver/nvidia-caps/mig-minors");
        let minors = |description: &Description| {
            let files = proc_files(description);
            let minors = files
                .into_iter()
                .find(|(path, _)| path.ends_with("mig-minors"));
            minors.map(|(_, content)| content)
        };
        let mut description = Description::of("580.65.06", 2, 7);
        assert_eq!(minors(&description).as_deref(), Some(recorded));
        let slices = description
            .gpus
            .iter()
            .flat_map(|g| g.mig.iter().map(|s| (g.minor, s)));
        for (gpu, slice) in slices {
            let [instance, _] = slice.caps(gpu);
            let line = format!("gpu{gpu}/gi{}/access {instance}\n", slice.gpu_instance);
            assert!(recorded.contains(&line), "{line}");
        }
        description.small = true;
        assert!(minors(&description).is_some_and(|list| list.len() < 1000));
    }
}
