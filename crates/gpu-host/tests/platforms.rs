//! Discovery on WSL and Tegra, and of AMD's and Intel's GPUs. Needs root to make device nodes.
#![allow(clippy::unwrap_used)]

mod fake;

use std::fs;
use std::path::Path;

use fake::{VERSION, discovered, file, host, options, paths};
use fake_driver::describe::{Description, Other, Platform};
use gpu_host::other_vendors::{self, Vendor};
use gpu_host::{Capabilities, Error, FileKind, Options, Source, discover};

#[test]
fn wsl_has_one_device_and_the_files_of_the_newest_driver_store() {
    let mut description = Description::of("551.76", 0, 0);
    description.platform = Platform::Wsl;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = discovered(&dir);
    assert_eq!(inventory.source, Source::Wsl);
    assert_eq!(paths(inventory.gpus.iter().map(|g| &g.node)), ["/dev/dxg"]);
    assert!(inventory.control_nodes.is_empty());
    let driver = inventory.driver.as_ref().unwrap();
    assert_eq!(driver.version, "551.76");
    let store = "/usr/lib/wsl/drivers/nv_dispi.inf_amd64_0fa4e1c2d3b4a596";
    let names: Vec<&str> = driver
        .files
        .iter()
        .map(|f| f.path.to_str().unwrap())
        .collect();
    let mut expected: Vec<String> = [
        "libcuda.so.1.1",
        "libcuda_loader.so",
        "libnvdxgdmal.so.1",
        "libnvidia-ml.so.1",
        "libnvidia-ml_loader.so",
        "libnvidia-ptxjitcompiler.so.1",
        "nvcubins.bin",
        "nvcuda64.dll",
        "nvidia-smi",
    ]
    .map(|n| format!("{store}/{n}"))
    .into();
    expected.push("/usr/lib/wsl/lib/libdxcore.so".into());
    assert_eq!(names, expected);
    let smi = file(&inventory, &format!("{store}/nvidia-smi")).unwrap();
    assert_eq!(smi.links[0].path, Path::new("/usr/bin/nvidia-smi"));
    // A SONAME link must not take the place of the library of that name.
    let loader = file(&inventory, &format!("{store}/libnvidia-ml_loader.so")).unwrap();
    assert_eq!(loader.soname.as_deref(), Some("libnvidia-ml_loader.so"));
    let cuda = file(&inventory, &format!("{store}/libcuda.so.1.1")).unwrap();
    assert_eq!(cuda.soname.as_deref(), Some("libcuda.so.1"));
    assert!(inventory.is_fresh(&options(&dir).root));
}

#[test]
fn wsl_without_an_nvidia_driver_on_windows_has_no_driver() {
    let mut description = Description::of("551.76", 0, 0);
    description.platform = Platform::Wsl;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    fs::remove_dir_all(dir.path().join("usr/lib/wsl/drivers")).unwrap();
    let inventory = discovered(&dir);
    assert_eq!((inventory.source, inventory.driver), (Source::Wsl, None));
}

#[test]
fn a_tegra_has_the_devices_and_files_of_its_base_lists() {
    let mut description = Description::of(VERSION, 0, 0);
    description.platform = Platform::Tegra;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = discovered(&dir);
    assert_eq!(inventory.source, Source::Tegra);
    let gpu = &inventory.gpus[0];
    assert_eq!(gpu.node.path, Path::new("/dev/nvgpu/igpu0/ctrl"));
    assert_eq!(
        gpu.name.as_deref(),
        Some("NVIDIA Jetson AGX Orin Developer Kit")
    );
    let control = inventory.control_nodes.iter().map(|c| &c.node);
    assert_eq!(
        paths(control),
        ["/dev/nvmap", "/dev/nvhost-as-gpu", "/dev/nvhost-gpu"]
    );
    let lib = "/usr/lib/aarch64-linux-gnu/nvidia";
    let files = &inventory.driver.as_ref().unwrap().files;
    let names: Vec<&str> = files.iter().map(|f| f.path.to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "/etc/nv_tegra_release".to_owned(),
            format!("{lib}/libcuda.so.1.1"),
            format!("{lib}/libnvbuf_a.so.1.0.0"),
            format!("{lib}/libnvbuf_b.so.1.0.0"),
            format!("{lib}/libnvidia-ml.so.1"),
            "/usr/share/nvidia/tegra".to_owned(),
        ]
    );
    assert!(files.iter().all(|f| f.capabilities == Capabilities::ALL));
    let cuda = file(&inventory, &format!("{lib}/libcuda.so.1.1")).unwrap();
    assert_eq!(cuda.kind, FileKind::Library);
    let links: Vec<&str> = cuda
        .links
        .iter()
        .map(|l| l.path.to_str().unwrap())
        .collect();
    assert_eq!(
        links,
        [
            "/usr/lib/aarch64-linux-gnu/libcuda.so".to_owned(),
            format!("{lib}/libcuda.so.1")
        ]
    );
    let more: Vec<&Path> = inventory
        .tegra_more
        .iter()
        .map(|f| f.path.as_path())
        .collect();
    assert_eq!(more, [Path::new(&format!("{lib}/libextra.so.1"))]);
}

#[test]
fn an_error_in_a_tegra_list_names_the_file_and_line() {
    let mut description = Description::of(VERSION, 0, 0);
    description.platform = Platform::Tegra;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let list = dir.path().join("bad.csv");
    let mut options = options(&dir);
    options.csv_files = vec!["/bad.csv".into()];
    for line in [
        "lib /usr",
        "lib, usr/lib",
        "blk, /dev/sda",
        "lib, /usr/../etc/shadow",
    ] {
        fs::write(&list, format!("# fine\n{line}\n")).unwrap();
        let message = discover(&options).unwrap_err().to_string();
        assert!(
            message.contains("/bad.csv:2") && message.contains(line),
            "{message}"
        );
    }
    assert!(discover(&Options::new(options.root.clone())).is_ok());
    options.csv_files = vec!["/none.csv".into()];
    let error = discover(&options).unwrap_err();
    assert!(error.to_string().contains("/none.csv"), "{error}");
    assert!(matches!(error, Error::NoCsv(_)));
}

fn host_of_other_vendors() -> Option<tempfile::TempDir> {
    let mut description = Description::of(VERSION, 1, 0);
    let gpu = |driver: &str, pci: &str, card: u32| Other {
        driver: driver.into(),
        pci: pci.into(),
        card,
    };
    description.others = vec![
        gpu("amdgpu", "0000:c3:00.0", 8),
        gpu("amdgpu", "0000:03:00.0", 9),
        gpu("xe", "0000:00:02.0", 10),
    ];
    host(&description, "/")
}

#[test]
fn amd_gpus_come_in_pci_order_with_kfd() {
    let Some(dir) = host_of_other_vendors() else {
        return;
    };
    let amd = other_vendors::find(&options(&dir), Vendor::Amd);
    assert_eq!(paths(&amd.shared), ["/dev/kfd"]);
    let gpus: Vec<_> = amd
        .gpus
        .iter()
        .map(|g| (g.index, paths(&g.nodes)))
        .collect();
    assert_eq!(
        gpus,
        [
            (0, vec!["/dev/dri/card9", "/dev/dri/renderD137"]),
            (1, vec!["/dev/dri/card8", "/dev/dri/renderD136"]),
        ]
    );
    assert_eq!(amd.gpus[0].unique_id.as_deref(), Some("0x00000000fa4e0009"));
}

#[test]
fn intel_gpus_have_drm_nodes_alone() {
    let Some(dir) = host_of_other_vendors() else {
        return;
    };
    let intel = other_vendors::find(&options(&dir), Vendor::Intel);
    assert!(intel.shared.is_empty());
    assert_eq!(
        paths(&intel.gpus[0].nodes),
        ["/dev/dri/card10", "/dev/dri/renderD138"]
    );
    assert_eq!(intel.gpus.len(), 1);
}

#[test]
fn a_gpu_reserved_for_a_virtual_machine_is_not_listed() {
    let Some(dir) = host_of_other_vendors() else {
        return;
    };
    let link = dir.path().join("sys/bus/pci/devices/0000:03:00.0/driver");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("../../../../bus/pci/drivers/vfio-pci", &link).unwrap();
    let amd = other_vendors::find(&options(&dir), Vendor::Amd);
    assert_eq!(amd.gpus.len(), 1);
    assert_eq!(amd.gpus[0].index, 0);
}
