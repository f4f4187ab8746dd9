//! What the fake driver lays out is found, with nodes and without. Needs root, for the nodes.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use fake_driver::describe::{Description, Other, Platform};
use fake_driver::install::{self, Places};
use gpu_host::other_vendors::{self, Vendor};
use gpu_host::{
    Capabilities, Capability, Feature, FileKind, Inventory, Options, Root, Source, discover,
    mismatch,
};

const VERSION: &str = "580.65.06";

/// A host with that driver; `None` where nobody may make nodes.
fn host(description: &Description, driver_root: &str) -> Option<tempfile::TempDir> {
    if !nix::unistd::geteuid().is_root() {
        println!("skip: not root, no device nodes");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        root: dir.path().to_owned(),
        driver_root: driver_root.into(),
        artifacts: None,
    };
    fs::create_dir_all(dir.path().join(driver_root.trim_start_matches('/'))).unwrap();
    install::install(&places, description, false).unwrap();
    Some(dir)
}

fn options(dir: &tempfile::TempDir) -> Options {
    Options::new(Root::open(dir.path()).unwrap())
}

fn found(dir: &tempfile::TempDir) -> Inventory {
    discover(&options(dir)).unwrap()
}

fn paths<'a>(nodes: impl IntoIterator<Item = &'a gpu_host::DeviceNode>) -> Vec<&'a str> {
    nodes
        .into_iter()
        .map(|n| n.path.to_str().unwrap())
        .collect()
}

fn file<'a>(inventory: &'a Inventory, path: &str) -> Option<&'a gpu_host::DriverFile> {
    let files = &inventory.driver.as_ref().unwrap().files;
    files.iter().find(|f| f.path == Path::new(path))
}

#[test]
fn mig_config_and_monitor_are_found_by_their_capability_files() {
    let Some(dir) = host(&Description::of(VERSION, 1, 2), "/") else {
        return;
    };
    let control = found(&dir).mig_control;
    let (config, monitor) = (control.config.unwrap(), control.monitor.unwrap());
    assert_eq!(config.path, Path::new("/dev/nvidia-caps/nvidia-cap1"));
    assert_eq!((config.minor, config.mode), (1, 0o400));
    assert_eq!(monitor.path, Path::new("/dev/nvidia-caps/nvidia-cap2"));
}

#[test]
fn capability_minors_come_from_the_list_where_the_file_does_not_say_them() {
    let Some(dir) = host(&Description::of(VERSION, 1, 1), "/") else {
        return;
    };
    let whole = found(&dir);
    let caps = dir.path().join("proc/driver/nvidia/capabilities");
    for name in [
        "mig/config",
        "mig/monitor",
        "gpu0/mig/gi7/access",
        "gpu0/mig/gi7/ci0/access",
    ] {
        fs::write(caps.join(name), "").unwrap();
    }
    let by_list = found(&dir);
    assert_eq!(by_list.mig_control, whole.mig_control);
    assert_eq!(by_list.gpus[0].mig[0].nodes, whole.gpus[0].mig[0].nodes);
    assert_eq!(whole.gpus[0].mig[0].nodes.len(), 2);
}

#[test]
fn imex_channels_come_in_order_of_numbers() {
    let mut description = Description::of(VERSION, 1, 0);
    description.imex_channels = vec![0, 2, 10, 2047];
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let channels = found(&dir).imex_channels;
    let ids: Vec<u32> = channels.iter().map(|c| c.id).collect();
    assert_eq!(ids, [0, 2, 10, 2047]);
    assert_eq!(
        channels[2].node.path,
        Path::new("/dev/nvidia-caps-imex-channels/channel10")
    );
}

#[test]
fn features_are_found_with_their_nodes_and_files() {
    let mut description = Description::of(VERSION, 1, 0);
    description.features = ["gds", "mofed", "gdrcopy", "nvswitch"]
        .map(Into::into)
        .into();
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = found(&dir);
    let of = |feature: Feature| {
        inventory
            .features
            .iter()
            .find(|f| f.feature == feature)
            .unwrap()
    };
    assert_eq!(
        paths(&of(Feature::Gds).nodes),
        ["/dev/nvidia-fs0", "/dev/nvidia-fs1"]
    );
    let gds: Vec<&Path> = of(Feature::Gds)
        .files
        .iter()
        .map(|f| f.path.as_path())
        .collect();
    assert_eq!(gds, [Path::new("/etc/cufile.json"), Path::new("/run/udev")]);
    assert_eq!(
        paths(&of(Feature::Mofed).nodes),
        ["/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm"]
    );
    assert_eq!(paths(&of(Feature::Gdrcopy).nodes), ["/dev/gdrdrv"]);
    assert_eq!(
        paths(&of(Feature::Nvswitch).nodes),
        ["/dev/nvidia-nvswitchctl", "/dev/nvidia-nvswitch0"]
    );
}

#[test]
fn a_host_without_features_has_none() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let inventory = found(&dir);
    assert!(inventory.features.is_empty() && inventory.imex_channels.is_empty());
    assert!(inventory.missing_nodes.is_empty());
}

#[test]
fn a_channel_more_makes_a_stored_inventory_stale() {
    let mut description = Description::of(VERSION, 1, 0);
    description.imex_channels = vec![0];
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = found(&dir);
    assert!(inventory.is_fresh(&options(&dir).root));
    fs::write(
        dir.path().join("dev/nvidia-caps-imex-channels/channel1"),
        "",
    )
    .unwrap();
    assert!(!inventory.is_fresh(&options(&dir).root));
}

#[test]
fn nodes_that_the_host_lacks_are_what_the_driver_would_make() {
    let mut description = Description::of(VERSION, 2, 1);
    let Some(with) = host(&description, "/") else {
        return;
    };
    description.no_nodes = true;
    let without = host(&description, "/").unwrap();
    let (with, without) = (found(&with), found(&without));
    assert_eq!(without.control_nodes, with.control_nodes);
    assert_eq!(without.mig_control, with.mig_control);
    for (a, b) in with.gpus.iter().zip(&without.gpus) {
        assert_eq!((&a.node, &a.mig), (&b.node, &b.mig));
    }
    let missing: Vec<&str> = without
        .missing_nodes
        .iter()
        .map(|p| p.to_str().unwrap())
        .collect();
    for node in [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia1",
        "/dev/nvidia-caps/nvidia-cap1",
    ] {
        assert!(missing.contains(&node), "{node}: {missing:?}");
    }
}

#[test]
fn a_module_that_is_not_loaded_gives_no_node() {
    let mut description = Description::of(VERSION, 1, 0);
    description.no_nodes = true;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let devices = dir.path().join("proc/devices");
    fs::remove_file(&devices).unwrap();
    fs::write(
        &devices,
        "Character devices:\n195 nvidia-frontend\n\nBlock devices:\n389 nvidia-uvm\n",
    )
    .unwrap();
    let inventory = found(&dir);
    let control = inventory.control_nodes.iter().map(|c| &c.node);
    assert_eq!(paths(control), ["/dev/nvidiactl"]);
    assert_eq!(inventory.mig_control.config, None);
}

#[test]
fn made_up_nodes_have_the_owner_and_mode_that_the_driver_is_told() {
    let mut description = Description::of(VERSION, 1, 0);
    description.no_nodes = true;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let params = dir.path().join("proc/driver/nvidia/params");
    fs::remove_file(&params).unwrap();
    fs::write(
        &params,
        "DeviceFileUID: 0\nDeviceFileGID: 27\nDeviceFileMode: 432\n",
    )
    .unwrap();
    let node = &found(&dir).gpus[0].node;
    assert_eq!((node.mode, node.gid), (0o660, 27));
}

#[test]
fn nodes_below_a_driver_container_are_taken_from_there() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/run/nvidia/driver") else {
        return;
    };
    fs::rename(
        dir.path().join("dev"),
        dir.path().join("run/nvidia/driver/dev"),
    )
    .unwrap();
    let mut options = options(&dir);
    options.driver_root = "/run/nvidia/driver".into();
    let inventory = discover(&options).unwrap();
    let node = &inventory.gpus[0].node;
    assert_eq!(node.path, Path::new("/dev/nvidia0"));
    assert_eq!(node.host_path, Path::new("/run/nvidia/driver/dev/nvidia0"));
    assert!(inventory.missing_nodes.is_empty());
    options.dev_root = Some("/".into());
    assert!(!discover(&options).unwrap().missing_nodes.is_empty());
}

#[test]
fn the_whole_driver_is_found_below_any_driver_root_with_the_same_container_paths() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let usual = found(&dir).driver.unwrap().files;
    assert!(usual.len() > 50, "{}", usual.len());
    for driver_root in ["/run/nvidia/driver", "/opt/nvidia/current", "/host"] {
        let dir = host(&Description::of(VERSION, 1, 0), driver_root).unwrap();
        let mut options = options(&dir);
        options.driver_root = driver_root.into();
        let files = discover(&options).unwrap().driver.unwrap().files;
        let names =
            |f: &[gpu_host::DriverFile]| f.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&files), names(&usual), "{driver_root}");
        for file in files {
            assert_eq!(
                file.host_path,
                Path::new(driver_root).join(file.path.strip_prefix("/").unwrap())
            );
        }
    }
}

/// GKE's and COS's layout: bin, lib64, vulkan and firmware directly below the driver root.
#[test]
fn a_driver_root_with_lib64_directly_below_works() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/usr/local/nvidia") else {
        return;
    };
    let root = dir.path().join("usr/local/nvidia");
    for (from, to) in [
        ("usr/lib/x86_64-linux-gnu", "lib64"),
        ("usr/bin", "bin"),
        ("usr/share/vulkan", "vulkan"),
    ] {
        fs::rename(root.join(from), root.join(to)).unwrap();
    }
    fs::remove_dir_all(root.join("usr")).unwrap();
    fs::remove_file(root.join("etc/ld.so.cache")).unwrap();
    let mut options = options(&dir);
    options.driver_root = "/usr/local/nvidia".into();
    let inventory = discover(&options).unwrap();
    let cuda = file(&inventory, "/lib64/libcuda.so.580.65.06").unwrap();
    assert_eq!(
        cuda.host_path,
        Path::new("/usr/local/nvidia/lib64/libcuda.so.580.65.06")
    );
    assert!(file(&inventory, "/bin/nvidia-smi").is_some());
    // No Vulkan loader looks into /vulkan.
    let icd = file(&inventory, "/etc/vulkan/icd.d/nvidia_icd.json").unwrap();
    assert_eq!(
        icd.host_path,
        Path::new("/usr/local/nvidia/vulkan/icd.d/nvidia_icd.json")
    );
    assert!(mismatch(&options, &inventory).is_none());
}

#[test]
fn libraries_of_another_version_than_the_kernel_module_are_named_with_both() {
    let mut description = Description::of(VERSION, 1, 0);
    description.loaded_version = Some("570.10.01".into());
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let said = mismatch(&options(&dir), &found(&dir)).unwrap().to_string();
    assert!(
        said.contains("570.10.01") && said.contains(VERSION),
        "{said}"
    );
}

#[test]
fn libraries_below_another_driver_root_are_pointed_at() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/run/nvidia/driver") else {
        return;
    };
    let options = options(&dir);
    let said = mismatch(&options, &discover(&options).unwrap())
        .unwrap()
        .to_string();
    assert!(said.contains("--driver-root /run/nvidia/driver"), "{said}");
    let right = Options {
        driver_root: "/run/nvidia/driver".into(),
        ..options
    };
    assert_eq!(mismatch(&right, &discover(&right).unwrap()), None);
}

#[test]
fn firmware_is_taken_from_where_the_kernel_takes_it() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/run/nvidia/driver") else {
        return;
    };
    let mut options = options(&dir);
    options.driver_root = "/run/nvidia/driver".into();
    let firmware = |options: &Options| -> Vec<PathBuf> {
        let files = discover(options).unwrap().driver.unwrap().files;
        let files = files.into_iter().filter(|f| f.kind == FileKind::Firmware);
        files.map(|f| f.path).collect()
    };
    assert_eq!(
        firmware(&options)[0],
        Path::new("/lib/firmware/nvidia/580.65.06/gsp_ga10x.bin")
    );
    let root = dir.path().join("run/nvidia/driver");
    let place = |path: &str| {
        let dir = root.join(path).join("nvidia").join(VERSION);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("gsp_x.bin"), "x").unwrap();
    };
    place("lib/firmware/updates");
    assert_eq!(
        firmware(&options),
        [Path::new(
            "/lib/firmware/updates/nvidia/580.65.06/gsp_x.bin"
        )]
    );
    place("var/firmware");
    let parameter = dir.path().join("sys/module/firmware_class/parameters");
    fs::create_dir_all(&parameter).unwrap();
    fs::write(parameter.join("path"), "/run/nvidia/driver/var/firmware\n").unwrap();
    assert_eq!(
        firmware(&options),
        [Path::new("/var/firmware/nvidia/580.65.06/gsp_x.bin")]
    );
}

#[test]
fn only_nvidias_own_egl_platforms_and_both_data_directories() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let share = dir.path().join("usr/share");
    fs::write(share.join("egl/egl_external_platform.d/50_mesa.json"), "{}").unwrap();
    let local = dir.path().join("usr/local/share/vulkan/icd.d");
    fs::create_dir_all(&local).unwrap();
    fs::write(local.join("nvidia_icd.x86_64.json"), "{}").unwrap();
    let inventory = found(&dir);
    assert!(
        file(
            &inventory,
            "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json"
        )
        .is_some()
    );
    assert!(
        file(
            &inventory,
            "/usr/share/egl/egl_external_platform.d/50_mesa.json"
        )
        .is_none()
    );
    assert!(
        file(
            &inventory,
            "/usr/local/share/vulkan/icd.d/nvidia_icd.x86_64.json"
        )
        .is_some()
    );
}

#[test]
fn search_paths_are_looked_at_too() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let move_to = |from: &str, to: &str| {
        let to = dir.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(dir.path().join(from), to).unwrap();
    };
    move_to("usr/lib/x86_64-linux-gnu", "srv/nvidia/libs");
    move_to("usr/share/vulkan", "srv/nvidia/data/vulkan");
    fs::remove_file(dir.path().join("etc/ld.so.cache")).unwrap();
    let mut options = options(&dir);
    assert!(
        file(
            &discover(&options).unwrap(),
            "/srv/nvidia/libs/libcuda.so.580.65.06"
        )
        .is_none()
    );
    options.library_search = vec!["/srv/nvidia/libs".into()];
    options.config_search = vec!["/srv/nvidia/data".into()];
    let inventory = discover(&options).unwrap();
    assert!(file(&inventory, "/srv/nvidia/libs/libcuda.so.580.65.06").is_some());
    assert!(
        file(
            &inventory,
            "/srv/nvidia/libs/vdpau/libvdpau_nvidia.so.580.65.06"
        )
        .is_some()
    );
    assert!(file(&inventory, "/etc/vulkan/icd.d/nvidia_icd.json").is_some());
}

#[test]
fn wsl_has_one_device_and_the_files_of_the_newest_driver_store() {
    let mut description = Description::of("551.76", 0, 0);
    description.platform = Platform::Wsl;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = found(&dir);
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
    let mut wanted: Vec<String> = [
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
    wanted.push("/usr/lib/wsl/lib/libdxcore.so".into());
    assert_eq!(names, wanted);
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
    let inventory = found(&dir);
    assert_eq!((inventory.source, inventory.driver), (Source::Wsl, None));
}

#[test]
fn a_tegra_is_what_its_base_lists_say() {
    let mut description = Description::of(VERSION, 0, 0);
    description.platform = Platform::Tegra;
    let Some(dir) = host(&description, "/") else {
        return;
    };
    let inventory = found(&dir);
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
fn a_tegra_list_with_a_bad_line_is_named_with_its_number() {
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
        let said = discover(&options).unwrap_err().to_string();
        assert!(said.contains("/bad.csv:2") && said.contains(line), "{said}");
    }
    assert!(discover(&Options::new(options.root.clone())).is_ok());
    options.csv_files = vec!["/none.csv".into()];
    assert!(
        discover(&options)
            .unwrap_err()
            .to_string()
            .contains("--csv-file")
    );
}

fn others() -> Option<tempfile::TempDir> {
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
    let Some(dir) = others() else { return };
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
    let Some(dir) = others() else { return };
    let intel = other_vendors::find(&options(&dir), Vendor::Intel);
    assert!(intel.shared.is_empty());
    assert_eq!(
        paths(&intel.gpus[0].nodes),
        ["/dev/dri/card10", "/dev/dri/renderD138"]
    );
    assert_eq!(intel.gpus.len(), 1);
}

#[test]
fn a_gpu_held_for_a_virtual_machine_is_none() {
    let Some(dir) = others() else { return };
    let link = dir.path().join("sys/bus/pci/devices/0000:03:00.0/driver");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("../../../../bus/pci/drivers/vfio-pci", &link).unwrap();
    let amd = other_vendors::find(&options(&dir), Vendor::Amd);
    assert_eq!(amd.gpus.len(), 1);
    assert_eq!(amd.gpus[0].index, 0);
}

#[test]
fn thirty_two_bit_libraries_need_compat32_besides() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let inventory = found(&dir);
    let library = file(&inventory, "/usr/lib/i386-linux-gnu/libcuda.so.580.65.06").unwrap();
    assert_eq!(library.kind, FileKind::Library32);
    assert_eq!(
        library.capabilities,
        Capabilities::of(&[Capability::Compute, Capability::Compat32])
    );
    let files = &inventory.driver.as_ref().unwrap().files;
    assert_eq!(
        files
            .iter()
            .filter(|f| f.kind == FileKind::Library32)
            .count(),
        6
    );
}

#[test]
fn opengl_of_drivers_before_glvnd_is_told_from_mesas_by_its_version() {
    let Some(dir) = host(&Description::of("340.108", 1, 0), "/") else {
        return;
    };
    let lib = dir.path().join("usr/lib/x86_64-linux-gnu");
    for name in [
        "libGL.so.340.108",
        "libEGL.so.340.108",
        "libGL.so.1.7.0",
        "libEGL.so.1.1.0",
    ] {
        fs::write(lib.join(name), fake_driver::elf::shared_object(name, false)).unwrap();
    }
    let inventory = found(&dir);
    let has = |name: &str| file(&inventory, &format!("/usr/lib/x86_64-linux-gnu/{name}")).is_some();
    assert!(has("libGL.so.340.108") && has("libEGL.so.340.108"));
    assert!(!has("libGL.so.1.7.0") && !has("libEGL.so.1.1.0"));
}

#[test]
fn programs_come_with_what_they_are_for() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let inventory = found(&dir);
    let of = |name: &str| {
        file(&inventory, &format!("/usr/bin/{name}"))
            .unwrap()
            .capabilities
    };
    assert!(
        of("nvidia-smi").has(Capability::Utility) && !of("nvidia-smi").has(Capability::Compute)
    );
    assert!(
        of("nvidia-imex").has(Capability::Compute)
            && of("nvidia-imex-ctl").has(Capability::Utility)
    );
    assert!(of("nvidia-cuda-mps-server").has(Capability::Compute));
    assert!(
        of("nvidia-xconfig").has(Capability::Display)
            && !of("nvidia-xconfig").has(Capability::Utility)
    );
    // It makes device nodes as root.
    fs::write(dir.path().join("usr/bin/nvidia-modprobe"), "").unwrap();
    assert!(file(&found(&dir), "/usr/bin/nvidia-modprobe").is_none());
}

#[test]
fn x_modules_are_found_where_distributions_put_them() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    for place in [
        "usr/lib64/xorg/modules/updates/drivers",
        "usr/lib/nvidia/xorg",
        "usr/X11R6/lib64/modules/drivers",
    ] {
        let place = dir.path().join(place);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("nvidia_drv.so"), "x").unwrap();
    }
    let inventory = found(&dir);
    let modules = inventory.driver.iter().flat_map(|d| &d.files);
    let modules: Vec<&str> = modules
        .filter(|f| f.kind == FileKind::XModule)
        .map(|f| f.path.to_str().unwrap())
        .collect();
    assert_eq!(
        modules,
        [
            "/usr/X11R6/lib64/modules/drivers/nvidia_drv.so",
            "/usr/lib/nvidia/xorg/nvidia_drv.so",
            "/usr/lib/xorg/modules/drivers/nvidia_drv.so",
            "/usr/lib/xorg/modules/extensions/libglxserver_nvidia.so.580.65.06",
            "/usr/lib64/xorg/modules/updates/drivers/nvidia_drv.so",
        ]
    );
}

#[test]
fn a_library_that_a_new_driver_brings_is_taken_by_its_version() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    let name = format!("libnvidia-not-yet-known.so.{VERSION}");
    let path = dir.path().join("usr/lib/x86_64-linux-gnu").join(&name);
    fs::write(path, fake_driver::elf::shared_object(&name, false)).unwrap();
    let found = found(&dir);
    let library = file(&found, &format!("/usr/lib/x86_64-linux-gnu/{name}")).unwrap();
    assert!(library.capabilities.has(Capability::Compute));
}

#[test]
fn sockets_and_the_mps_directory_are_given_where_they_are() {
    let Some(dir) = host(&Description::of(VERSION, 1, 0), "/") else {
        return;
    };
    for socket in ["run/nvidia-persistenced", "run/nvidia-fabricmanager"] {
        fs::create_dir_all(dir.path().join(socket)).unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join(socket).join("socket")).unwrap();
    }
    fs::create_dir_all(dir.path().join("tmp/nvidia-mps")).unwrap();
    let inventory = found(&dir);
    for path in [
        "/run/nvidia-persistenced/socket",
        "/run/nvidia-fabricmanager/socket",
        "/tmp/nvidia-mps",
    ] {
        assert_eq!(
            file(&inventory, path).unwrap().kind,
            FileKind::Socket,
            "{path}"
        );
    }
}
