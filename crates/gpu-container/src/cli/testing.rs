//! The inventory for this module's tests: one whole GPU, and one with two slices.

use gpu_host::{
    Capabilities, Capability, ControlNode, DeviceNode, Driver, DriverFile, FileKind, Gpu,
    Inventory, MigDevice, PciAddress,
};

pub(super) fn node(path: &str, minor: u32) -> DeviceNode {
    DeviceNode {
        path: path.into(),
        host_path: path.into(),
        major: 195,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

fn gpu(index: u32, bus: u8) -> Gpu {
    Gpu {
        index,
        minor: index,
        uuid: Some(format!("GPU-{index}000aaaa")),
        name: Some("NVIDIA H100".into()),
        brand: None,
        compute_capability: Some((9, 0)),
        pci: PciAddress {
            bus,
            ..PciAddress::default()
        },
        node: node(&format!("/dev/nvidia{index}"), index),
        drm: Vec::new(),
        drm_links: Vec::new(),
        mig_enabled: false,
        mig: Vec::new(),
    }
}

fn slice(index: u32) -> MigDevice {
    let dir = format!("/proc/driver/nvidia/capabilities/gpu1/mig/gi{index}");
    MigDevice {
        index,
        uuid: Some(format!("MIG-1{index}00")),
        gpu_instance: index,
        compute_instance: 0,
        profile: None,
        nodes: vec![
            node(
                &format!("/dev/nvidia-caps/nvidia-cap{}", 10 + index),
                10 + index,
            ),
            node(
                &format!("/dev/nvidia-caps/nvidia-cap{}", 20 + index),
                20 + index,
            ),
        ],
        access_files: vec![
            format!("{dir}/access").into(),
            format!("{dir}/ci0/access").into(),
        ],
    }
}

fn file(kind: FileKind, path: &str, capability: Capability) -> DriverFile {
    DriverFile {
        kind,
        path: path.into(),
        host_path: path.into(),
        capabilities: Capabilities::of(&[capability]),
        soname: None,
        links: Vec::new(),
        need: gpu_host::Need::Required,
    }
}

pub(super) fn host() -> Inventory {
    use Capability::{Compute, Utility};
    let sliced = Gpu {
        mig_enabled: true,
        mig: vec![slice(0), slice(1)],
        ..gpu(1, 0xaf)
    };
    let control = |path: &str, minor| ControlNode {
        node: node(path, minor),
        capabilities: Capabilities::ALL,
    };
    let mut host = Inventory {
        driver: Some(Driver {
            version: "580.65.06".into(),
            cuda: Some((13, 0)),
            files: vec![
                file(FileKind::Library, "/usr/lib/libcuda.so.580.65.06", Compute),
                file(
                    FileKind::Library32,
                    "/usr/lib32/libcuda.so.580.65.06",
                    Compute,
                ),
                file(FileKind::Binary, "/usr/bin/nvidia-smi", Utility),
                file(FileKind::Socket, "/run/nvidia-persistenced/socket", Utility),
                file(
                    FileKind::Socket,
                    "/run/nvidia-fabricmanager/socket",
                    Utility,
                ),
                file(
                    FileKind::Firmware,
                    "/lib/firmware/nvidia/580.65.06/gsp_ga10x.bin",
                    Compute,
                ),
                file(FileKind::Config, "/etc/OpenCL/vendors/nvidia.icd", Compute),
            ],
        }),
        gpus: vec![gpu(0, 0x3b), sliced],
        control_nodes: vec![
            control("/dev/nvidia-modeset", 254),
            control("/dev/nvidia-uvm", 0),
            control("/dev/nvidiactl", 255),
        ],
        ..Inventory::default()
    };
    host.mig_control.config = Some(node("/dev/nvidia-caps/nvidia-cap1", 1));
    host
}
