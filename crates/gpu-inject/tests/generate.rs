//! CDI specs generated for hosts with the fake driver. Needs root to make device nodes.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use cdi::{Device, DeviceNode, Spec};
use fake_driver::describe::{Description, Other, Platform};
use fake_driver::install::{self, Places};
use gpu_host::other_vendors::{self, Vendor};
use gpu_host::{Feature, Inventory, Options, Root, discover};
use gpu_inject::Error;
use gpu_inject::generate::{
    GenerateOptions, NameStrategy, SpecContent, cdi_spec, missing, other_vendor_spec,
};
use skips::Need;

fn host(description: &Description) -> Option<tempfile::TempDir> {
    if !skips::has(&[Need::Root, Need::DeviceNodes]) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        root: dir.path().to_owned(),
        driver_root: "/".into(),
        artifacts: None,
    };
    install::install(&places, description, false).unwrap();
    Some(dir)
}

fn options(dir: &tempfile::TempDir) -> Options {
    Options::new(Root::open(dir.path()).unwrap())
}

fn discovered(dir: &tempfile::TempDir) -> Inventory {
    discover(&options(dir)).unwrap()
}

fn spec_of(dir: &tempfile::TempDir, options: &GenerateOptions) -> Spec {
    let spec = cdi_spec(&discovered(dir), options).unwrap();
    // The spec must survive being written and parsed again, as an engine does.
    let text = spec.to_yaml().unwrap();
    assert_eq!(Spec::parse(text.as_bytes()).unwrap(), spec);
    for device in &spec.devices {
        // Engines refuse a spec with an empty device (container-device-interface, device.go).
        assert!(!device.container_edits.is_empty(), "{}", device.name);
    }
    spec
}

fn mode(mode: SpecContent) -> GenerateOptions {
    GenerateOptions {
        mode,
        ..GenerateOptions::default()
    }
}

fn names(spec: &Spec) -> Vec<&str> {
    spec.devices.iter().map(|d| d.name.as_str()).collect()
}

fn nodes(device: &Device) -> Vec<&str> {
    paths(&device.container_edits.device_nodes)
}

fn paths(nodes: &[DeviceNode]) -> Vec<&str> {
    nodes.iter().map(|n| n.path.to_str().unwrap()).collect()
}

fn strategy(names: &[NameStrategy]) -> GenerateOptions {
    GenerateOptions {
        names: names.to_vec(),
        ..GenerateOptions::default()
    }
}

#[test]
fn devices_are_named_by_each_strategy() {
    let mut description = Description::of("580.65.06", 2, 0);
    description.gpus[1].mig = Description::of("580.65.06", 1, 2).gpus[0].mig.clone();
    let Some(dir) = host(&description) else {
        return;
    };
    let of = |list: &[NameStrategy]| -> Vec<String> {
        let spec = spec_of(&dir, &strategy(list));
        names(&spec).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(of(&[NameStrategy::Index]), ["0", "1", "1:0", "1:1", "all"]);
    assert_eq!(
        of(&[NameStrategy::TypeIndex]),
        ["gpu0", "gpu1", "mig1:0", "mig1:1", "all"]
    );
    assert_eq!(of(&[NameStrategy::Index, NameStrategy::Index]).len(), 5);
    let uuids = of(&[NameStrategy::Index, NameStrategy::Uuid]);
    assert!(uuids.contains(&description.gpus[0].uuid));
    // procfs has no UUID of a slice: naming by UUID reports that.
    let e = cdi_spec(&discovered(&dir), &strategy(&[NameStrategy::Uuid])).unwrap_err();
    assert!(e.to_string().contains("1:0"), "{e}");
}

#[test]
fn only_requested_devices_are_in_the_spec_and_in_all() {
    let Some(dir) = host(&Description::of("580.65.06", 3, 0)) else {
        return;
    };
    let only = |ids: &[&str]| GenerateOptions {
        devices: Some(ids.iter().map(|i| (*i).to_owned()).collect()),
        ..strategy(&[NameStrategy::Index])
    };
    let spec = spec_of(&dir, &only(&["1"]));
    assert_eq!(names(&spec), ["1", "all"]);
    assert!(nodes(&spec.devices[1]).contains(&"/dev/nvidia1"));
    assert!(!nodes(&spec.devices[1]).contains(&"/dev/nvidia0"));
    let uuid = Description::of("580.65.06", 3, 0).gpus[2]
        .uuid
        .to_uppercase();
    assert_eq!(
        names(&spec_of(&dir, &only(&["0", &uuid]))),
        ["0", "2", "all"]
    );
    assert_eq!(names(&spec_of(&dir, &only(&["all"]))).len(), 4);
    let e = cdi_spec(&discovered(&dir), &only(&["0", "7"])).unwrap_err();
    assert!(matches!(e, Error::NoSuchDevice { asked, .. } if asked == "7"));
}

/// An engine starts one process per hook, for the hooks of the spec and of each device.
#[test]
fn there_is_one_hook_however_many_devices_a_container_has() {
    let Some(dir) = host(&Description::of("580.65.06", 3, 0)) else {
        return;
    };
    let spec = spec_of(&dir, &GenerateOptions::default());
    assert!(spec.devices.len() > 3);
    assert!(
        spec.devices
            .iter()
            .all(|d| d.container_edits.hooks.is_empty())
    );
    let [hook] = spec.container_edits.hooks.as_slice() else {
        panic!("{:?}", spec.container_edits.hooks);
    };
    let links = hook
        .args
        .iter()
        .filter(|a| a.starts_with("/dev/dri/by-path/"));
    assert_eq!(links.count(), 6);
}

/// Every mount source in the spec can be reached by an unprivileged engine; the hook gets the other files as arguments.
#[test]
fn files_that_only_root_can_reach_are_not_mounts_of_the_spec() {
    use std::os::unix::fs::PermissionsExt;

    let Some(dir) = host(&Description::of("580.65.06", 1, 0)) else {
        return;
    };
    for (daemon, mode) in [("persistenced", 0o755), ("fabricmanager", 0o700)] {
        let at = dir.path().join(format!("run/nvidia-{daemon}"));
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("socket"), "").unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
    }
    let edits = spec_of(&dir, &GenerateOptions::default()).container_edits;
    let closed = "/run/nvidia-fabricmanager/socket";
    let sockets: Vec<_> = edits
        .mounts
        .iter()
        .filter(|m| m.host_path.ends_with("socket"))
        .map(|m| m.host_path.to_str().unwrap())
        .collect();
    assert_eq!(sockets, ["/run/nvidia-persistenced/socket"]);
    let args = &edits.hooks[0].args;
    let reached_args = ["--mount-if-reached", "socket", closed, closed];
    assert!(
        args.windows(4).any(|words| words == reached_args),
        "{args:?}"
    );
}

#[test]
fn a_single_slice_can_be_requested() {
    let Some(dir) = host(&Description::of("580.65.06", 1, 3)) else {
        return;
    };
    let options = GenerateOptions {
        devices: Some(vec!["0:1".into()]),
        ..strategy(&[NameStrategy::Index])
    };
    let spec = spec_of(&dir, &options);
    assert_eq!(names(&spec), ["0:1", "all"]);
    assert_eq!(nodes(&spec.devices[1]), nodes(&spec.devices[0]));
}

#[test]
fn all_can_be_left_out_and_vendor_and_class_chosen() {
    let Some(dir) = host(&Description::of("580.65.06", 1, 0)) else {
        return;
    };
    let options = GenerateOptions {
        all: false,
        vendor: Some("example.com".into()),
        class: Some("accelerator".into()),
        ..strategy(&[NameStrategy::Index])
    };
    let spec = spec_of(&dir, &options);
    assert_eq!(
        (spec.kind.as_str(), names(&spec)),
        ("example.com/accelerator", vec!["0"])
    );
    let bad = GenerateOptions {
        vendor: Some("no vendor".into()),
        ..options
    };
    assert!(
        cdi_spec(&discovered(&dir), &bad)
            .unwrap_err()
            .to_string()
            .contains("kind")
    );
}

#[test]
fn a_spec_of_64_gpus_of_7_slices_each_is_valid_and_no_device_sees_another() {
    let Some(dir) = host(&Description::of("580.65.06", 64, 7)) else {
        return;
    };
    let spec = spec_of(&dir, &strategy(&[NameStrategy::Index]));
    assert_eq!(spec.devices.len(), 64 + 64 * 7 + 1);
    let is_slice = |d: &&Device| d.name.contains(':');
    let mut seen = HashSet::new();
    for device in spec.devices.iter().filter(is_slice) {
        let caps: Vec<&str> = nodes(device)
            .into_iter()
            .filter(|n| n.contains("caps"))
            .collect();
        assert_eq!(caps.len(), 2, "{}", device.name);
        for cap in caps {
            assert!(seen.insert(cap.to_owned()), "{cap} is of two slices");
        }
    }
    assert_eq!(seen.len(), 64 * 7 * 2);
    let all = spec.device("all").unwrap();
    assert_eq!(
        nodes(all).iter().filter(|n| n.contains("caps")).count(),
        64 * 7 * 2
    );
}

#[test]
fn a_partitioned_gpu_without_slices_makes_no_empty_device() {
    let Some(dir) = host(&Description::of("580.65.06", 2, 0)) else {
        return;
    };
    let mut inventory = discovered(&dir);
    inventory.gpus[0].mig_enabled = true;
    let spec = cdi_spec(&inventory, &strategy(&[NameStrategy::Index])).unwrap();
    assert_eq!(names(&spec), ["1", "all"]);
    inventory.gpus.clear();
    let spec = cdi_spec(&inventory, &strategy(&[NameStrategy::Index])).unwrap();
    assert_eq!(names(&spec), ["all"]);
    assert!(!spec.devices[0].container_edits.is_empty());
}

#[test]
fn management_has_every_node_of_the_driver() {
    let mut description = Description::of("580.65.06", 2, 1);
    description.features = vec!["nvswitch".into(), "gds".into()];
    description.imex_channels = vec![0];
    let Some(dir) = host(&description) else {
        return;
    };
    let spec = spec_of(&dir, &mode(SpecContent::Management));
    assert_eq!(
        (spec.kind.as_str(), names(&spec)),
        ("management.nvidia.com/gpu", vec!["all"])
    );
    let mut nodes_of_gpu: Vec<&str> = nodes(&spec.devices[0]);
    nodes_of_gpu.extend(paths(&spec.container_edits.device_nodes));
    for node in [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-modeset",
        "/dev/nvidia0",
        "/dev/nvidia1",
        "/dev/nvidia-caps/nvidia-cap1",
        "/dev/nvidia-caps/nvidia-cap2",
        "/dev/nvidia-caps-imex-channels/channel0",
        "/dev/nvidia-nvswitchctl",
        "/dev/nvidia-nvswitch0",
    ] {
        assert!(nodes_of_gpu.contains(&node), "{node}: {nodes_of_gpu:?}");
    }
    // For each GPU: the node of the GPU instance and that of the compute instance.
    assert_eq!(
        nodes_of_gpu
            .iter()
            .filter(|n| n.contains("nvidia-caps/"))
            .count(),
        2 + 4
    );
    assert!(!nodes_of_gpu.iter().any(|n| n.contains("nvidia-fs")));
    let mounts = &spec.container_edits.mounts;
    assert!(
        mounts
            .iter()
            .any(|m| m.container_path.ends_with("nvidia-smi"))
    );
    // A management container may make nodes for slices and channels.
    let args = spec.container_edits.hooks.iter().flat_map(|h| &h.args);
    assert!(!args.into_iter().any(|a| a == "--forbid-device-nodes"));
}

#[test]
fn each_feature_has_its_own_kind() {
    let mut description = Description::of("580.65.06", 1, 0);
    description.features = ["gds", "mofed", "gdrcopy", "nvswitch"]
        .map(Into::into)
        .into();
    let Some(dir) = host(&description) else {
        return;
    };
    for (feature, node) in [
        (Feature::Gds, "/dev/nvidia-fs0"),
        (Feature::Mofed, "/dev/infiniband/uverbs0"),
        (Feature::Gdrcopy, "/dev/gdrdrv"),
        (Feature::Nvswitch, "/dev/nvidia-nvswitchctl"),
    ] {
        let spec = spec_of(&dir, &mode(SpecContent::Feature(feature)));
        assert_eq!(spec.kind, format!("nvidia.com/{}", feature.word()));
        assert_eq!(names(&spec), ["all"]);
        assert!(nodes(&spec.devices[0]).contains(&node));
        assert!(spec.container_edits.is_empty());
    }
    let gds = spec_of(&dir, &mode(SpecContent::Feature(Feature::Gds)));
    let mounts = &gds.devices[0].container_edits.mounts;
    let paths: Vec<&Path> = mounts.iter().map(|m| m.container_path.as_path()).collect();
    assert_eq!(
        paths,
        [Path::new("/etc/cufile.json"), Path::new("/run/udev")]
    );
}

#[test]
fn devices_that_the_host_lacks_are_an_error_that_says_so() {
    let Some(dir) = host(&Description::of("580.65.06", 1, 0)) else {
        return;
    };
    for (of, word) in [
        (SpecContent::Feature(Feature::Gds), "gds"),
        (SpecContent::Feature(Feature::Mofed), "mofed"),
        (SpecContent::Imex, "imex"),
    ] {
        let e = cdi_spec(&discovered(&dir), &mode(of)).unwrap_err();
        assert!(e.to_string().contains(&format!("mode {word}")), "{e}");
    }
}

#[test]
fn imex_channels_are_devices_by_number() {
    let mut description = Description::of("580.65.06", 1, 0);
    description.imex_channels = vec![0, 3];
    let Some(dir) = host(&description) else {
        return;
    };
    let spec = spec_of(&dir, &mode(SpecContent::Imex));
    assert_eq!(spec.kind, "nvidia.com/imex-channel");
    assert_eq!(names(&spec), ["0", "3", "all"]);
    assert_eq!(
        nodes(&spec.devices[1]),
        ["/dev/nvidia-caps-imex-channels/channel3"]
    );
    let options = GenerateOptions {
        devices: Some(vec!["channel3".into()]),
        ..mode(SpecContent::Imex)
    };
    assert_eq!(names(&spec_of(&dir, &options)), ["3", "all"]);
}

#[test]
fn nodes_that_the_host_lacks_are_given_by_number_and_do_not_make_the_spec_stale() {
    let mut description = Description::of("580.65.06", 1, 1);
    let Some(with) = host(&description) else {
        return;
    };
    description.no_nodes = true;
    let without = host(&description).unwrap();
    let with = spec_of(&with, &GenerateOptions::default());
    let spec = spec_of(&without, &GenerateOptions::default());
    let all = |spec: &Spec| -> Vec<DeviceNode> {
        let edits = spec.devices.iter().map(|d| &d.container_edits);
        edits
            .chain([&spec.container_edits])
            .flat_map(|e| e.device_nodes.clone())
            .filter(|n| !n.path.starts_with("/dev/dri"))
            .collect()
    };
    assert!(!all(&with).is_empty());
    assert!(all(&with).iter().all(|n| n.major.is_none()));
    assert!(!all(&spec).is_empty());
    for node in all(&spec) {
        assert!(
            node.major.is_some() && node.kind.as_deref() == Some("c"),
            "{node:?}"
        );
    }
    let gone = missing(&spec, &|path| !path.starts_with("/dev"));
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn wsl_has_only_the_device_all() {
    let mut description = Description::of("551.76", 0, 0);
    description.platform = Platform::Wsl;
    let Some(dir) = host(&description) else {
        return;
    };
    let spec = spec_of(&dir, &GenerateOptions::default());
    assert_eq!(names(&spec), ["all"]);
    assert_eq!(nodes(&spec.devices[0]), ["/dev/dxg"]);
    let mounts = &spec.container_edits.mounts;
    assert!(!mounts.is_empty());
    assert!(
        mounts
            .iter()
            .all(|m| m.container_path.starts_with("/usr/lib/wsl"))
    );
    let args: Vec<&String> = spec
        .container_edits
        .hooks
        .iter()
        .flat_map(|h| &h.args)
        .collect();
    assert!(
        args.iter().any(|a| a.starts_with("/usr/bin/nvidia-smi=")),
        "{args:?}"
    );
}

#[test]
fn a_tegra_is_device_0_with_the_files_of_its_lists() {
    let mut description = Description::of("540.4.0", 0, 0);
    description.platform = Platform::Tegra;
    let Some(dir) = host(&description) else {
        return;
    };
    let spec = spec_of(&dir, &GenerateOptions::default());
    assert_eq!(names(&spec), ["0", "all"]);
    let mounts = &spec.container_edits.mounts;
    assert!(
        mounts
            .iter()
            .any(|m| m.container_path.ends_with("libcuda.so.1.1"))
    );
    assert!(
        !mounts
            .iter()
            .any(|m| m.container_path.ends_with("libextra.so.1"))
    );
}

fn host_of_other_vendors() -> Option<tempfile::TempDir> {
    let mut description = Description::of("580.65.06", 0, 0);
    let gpu = |driver: &str, pci: &str, card: u32| Other {
        driver: driver.into(),
        pci: pci.into(),
        card,
    };
    description.others = vec![
        gpu("amdgpu", "0000:03:00.0", 8),
        gpu("amdgpu", "0000:c3:00.0", 9),
        gpu("i915", "0000:00:02.0", 10),
    ];
    let dir = host(&description)?;
    for (node, gid) in [("kfd", 105), ("dri/card8", 44), ("dri/renderD136", 105)] {
        std::os::unix::fs::chown(dir.path().join("dev").join(node), None, Some(gid)).unwrap();
    }
    Some(dir)
}

#[test]
fn amd_gpus_are_amd_com_gpu_with_kfd_and_the_groups_of_their_nodes() {
    let Some(dir) = host_of_other_vendors() else {
        return;
    };
    let options = options(&dir);
    let gpus = other_vendors::find(&options, Vendor::Amd);
    let spec = other_vendor_spec(&gpus, Vendor::Amd, &GenerateOptions::default()).unwrap();
    assert_eq!(spec.kind, "amd.com/gpu");
    assert_eq!(
        names(&spec),
        ["0", "0x00000000fa4e0008", "1", "0x00000000fa4e0009", "all"]
    );
    assert_eq!(
        nodes(&spec.devices[0]),
        ["/dev/kfd", "/dev/dri/card8", "/dev/dri/renderD136"]
    );
    assert_eq!(spec.devices[0].container_edits.additional_gids, [44, 105]);
    assert_eq!(nodes(&spec.devices[4]).len(), 5);
    assert_eq!(
        Spec::parse(spec.to_yaml().unwrap().as_bytes()).unwrap(),
        spec
    );
}

#[test]
fn intel_gpus_are_intel_com_gpu() {
    let Some(dir) = host_of_other_vendors() else {
        return;
    };
    let gpus = other_vendors::find(&options(&dir), Vendor::Intel);
    let spec = other_vendor_spec(&gpus, Vendor::Intel, &GenerateOptions::default()).unwrap();
    assert_eq!(
        (spec.kind.as_str(), names(&spec)),
        ("intel.com/gpu", vec!["0", "all"])
    );
    assert_eq!(
        nodes(&spec.devices[0]),
        ["/dev/dri/card10", "/dev/dri/renderD138"]
    );
    fs::remove_dir_all(dir.path().join("sys")).unwrap();
    let none = other_vendors::find(&options(&dir), Vendor::Intel);
    let e = other_vendor_spec(&none, Vendor::Intel, &GenerateOptions::default()).unwrap_err();
    assert!(e.to_string().contains("mode intel"), "{e}");
}
