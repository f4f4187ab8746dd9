//! Tests what a container gets of an inventory for each kind of request.

use gpu_host::{ControlNode, Driver, Feature, FeatureFiles, ImexChannel, MigControl, MigDevice};
use proptest::prelude::*;

use super::*;
use crate::edits::BindMount;
use crate::request::{AllowedName, Imex, Visible};

fn node(name: &str, minor: u32) -> DeviceNode {
    DeviceNode {
        path: format!("/dev/{name}").into(),
        host_path: format!("/dev/{name}").into(),
        major: 195,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

fn gpu(index: u32, slices: u32) -> Gpu {
    Gpu {
        index,
        minor: index,
        uuid: Some(format!("GPU-{index}abc")),
        name: None,
        brand: None,
        compute_capability: None,
        pci: format!("0000:3{index}:00.0").parse().unwrap_or_default(),
        node: node(&format!("nvidia{index}"), index),
        drm: vec![node(&format!("dri/card{index}"), index)],
        drm_links: Vec::new(),
        mig_enabled: slices > 0,
        mig: (0..slices)
            .map(|n| MigDevice {
                index: n,
                uuid: Some(format!("MIG-{index}{n}")),
                gpu_instance: n + 1,
                compute_instance: 0,
                profile: None,
                nodes: vec![node(&format!("nvidia-caps/nvidia-cap{index}{n}"), n)],
                access_files: Vec::new(),
            })
            .collect(),
    }
}

fn host() -> Inventory {
    Inventory {
        driver: Some(Driver::default()),
        gpus: vec![gpu(0, 0), gpu(1, 2), gpu(2, 0)],
        ..Inventory::default()
    }
}

fn nodes(asked: &str) -> Result<Vec<String>, Error> {
    let request = Request {
        visible: Visible::Listed(asked.split(',').map(AllowedName::by_caller).collect()),
        capabilities: Capabilities::of(&[Capability::Compute]),
        ..Request::default()
    };
    let edits = plan(&host(), &request, &Policy::default())?;
    Ok(edits
        .devices
        .iter()
        .map(|d| d.path.display().to_string())
        .collect())
}

#[test]
fn exactly_the_requested_devices_are_given() {
    assert_eq!(nodes("0").unwrap(), ["/dev/nvidia0"]);
    assert_eq!(
        nodes("2,GPU-0abc,0").unwrap(),
        ["/dev/nvidia2", "/dev/nvidia0"]
    );
    assert_eq!(
        nodes("1:1").unwrap(),
        ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap11"]
    );
    assert_eq!(
        nodes("MIG-10").unwrap(),
        ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap10"]
    );
    assert_eq!(nodes("1").unwrap().len(), 3);
    assert_eq!(nodes("nvidia.com/gpu=2").unwrap(), ["/dev/nvidia2"]);
    assert_eq!(nodes("all").unwrap().len(), 5);
}

#[test]
fn a_device_that_does_not_exist_is_refused_by_name() {
    for asked in ["3", "0:0", "1:2", "GPU-", "GPU-9", "gpu0", "-1", "0x0"] {
        assert!(
            matches!(nodes(asked), Err(Error::NoSuchDevice { .. })),
            "{asked}"
        );
    }
    assert!(matches!(nodes("MIG-1"), Err(Error::Ambiguous { .. })));
    assert!(nodes("7").unwrap_err().to_string().contains("0 (GPU-0abc)"));
}

#[test]
fn display_nodes_come_with_graphics_only() {
    let mut request = Request {
        visible: Visible::All,
        capabilities: Capabilities::of(&[Capability::Graphics]),
        ..Request::default()
    };
    let count = |r: &Request| plan(&host(), r, &Policy::default()).unwrap().devices.len();
    assert_eq!(count(&request), 8);
    request.capabilities = Capabilities::of(&[Capability::Utility]);
    assert_eq!(count(&request), 5);
}

#[test]
fn a_pci_address_in_either_form_and_a_uuid_in_any_case() {
    assert_eq!(nodes("0000:32:00.0").unwrap(), ["/dev/nvidia2"]);
    assert_eq!(nodes("00000000:30:00.0").unwrap(), ["/dev/nvidia0"]);
    assert_eq!(nodes("gpu-2ABC").unwrap(), ["/dev/nvidia2"]);
    assert_eq!(nodes("mig-11").unwrap().len(), 2);
    for asked in [
        "0000:39:00.0",
        "0000:30:00.1",
        "30:00.0",
        "+1",
        "0x1:30:00.0",
    ] {
        assert!(nodes(asked).is_err(), "{asked}");
    }
}

#[test]
fn one_device_by_two_names_is_given_once() {
    assert_eq!(
        nodes("0,GPU-0abc,0000:30:00.0,nvidia.com/gpu=0").unwrap(),
        ["/dev/nvidia0"]
    );
    assert_eq!(nodes("1,1:0,1:1").unwrap().len(), 3);
    assert_eq!(nodes("runtime.nvidia.com/gpu=all").unwrap().len(), 5);
}

#[test]
fn a_cdi_name_of_another_kind_is_refused() {
    for asked in ["vendor.com/gpu=0", "nvidia.com/nic=all", "nvidia.com/gds=0"] {
        assert!(
            matches!(nodes(asked), Err(Error::NoSuchDevice { .. })),
            "{asked}"
        );
    }
}

/// The host with everything besides GPUs.
fn rich() -> Inventory {
    let file = |kind, name: &str, capability| DriverFile {
        kind,
        path: format!("/usr/lib/{name}").into(),
        host_path: format!("/host/{name}").into(),
        capabilities: Capabilities::of(&[capability]),
        soname: None,
        links: Vec::new(),
        need: gpu_host::Need::Required,
    };
    let channel = |id| ImexChannel {
        id,
        node: node(&format!("nvidia-caps-imex-channels/channel{id}"), id),
    };
    Inventory {
        driver: Some(Driver {
            version: "580.65.06".into(),
            cuda: Some((13, 0)),
            files: vec![
                file(FileKind::Library, "libcuda.so.1", Capability::Compute),
                file(FileKind::Binary, "mps", Capability::Compute),
                file(FileKind::Library, "libnvcuvid.so.1", Capability::Video),
                file(
                    FileKind::Library,
                    "libGLX_nvidia.so.0",
                    Capability::Graphics,
                ),
                file(FileKind::Config, "nvidia_icd.json", Capability::Graphics),
                file(FileKind::XModule, "nvidia_drv.so", Capability::Display),
                file(FileKind::Library32, "libcuda32.so.1", Capability::Compute),
            ],
        }),
        control_nodes: vec![ControlNode {
            node: node("nvidia-modeset", 254),
            capabilities: Capabilities::of(&[Capability::Display, Capability::Graphics]),
        }],
        mig_control: MigControl {
            config: Some(node("nvidia-caps/nvidia-cap1", 1)),
            monitor: Some(node("nvidia-caps/nvidia-cap2", 2)),
        },
        features: vec![FeatureFiles {
            feature: Feature::Gds,
            nodes: vec![node("nvidia-fs0", 0)],
            files: vec![file(FileKind::Config, "cufile.json", Capability::Compute)],
        }],
        imex_channels: vec![channel(0), channel(3)],
        ..host()
    }
}

fn request_for(visible: &str) -> Request {
    Request {
        visible: Visible::Listed(visible.split(',').map(AllowedName::by_caller).collect()),
        capabilities: Capabilities::of(&[Capability::Utility]),
        ..Request::default()
    }
}

fn planned(request: &Request) -> Result<Edits, Error> {
    plan(&rich(), request, &Policy::default())
}

fn paths(edits: &Edits) -> Vec<String> {
    edits
        .devices
        .iter()
        .map(|d| d.path.display().to_string())
        .collect()
}

#[test]
fn a_mig_config_container_gets_the_global_node_and_all_of_its_gpus_slices() {
    let request = Request {
        mig_config: true,
        ..request_for("1")
    };
    let expected = [
        "/dev/nvidia1",
        "/dev/nvidia-caps/nvidia-cap10",
        "/dev/nvidia-caps/nvidia-cap11",
        "/dev/nvidia-caps/nvidia-cap1",
    ];
    assert_eq!(paths(&planned(&request).unwrap()), expected);
    let request = Request {
        mig_monitor: true,
        ..request_for("0")
    };
    let expected = ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap2"];
    assert_eq!(paths(&planned(&request).unwrap()), expected);
}

#[test]
fn a_partitioned_gpu_without_slices_can_still_be_partitioned() {
    let mut host = rich();
    host.gpus[1].mig.clear();
    let mut request = request_for("1");
    assert!(paths(&plan(&host, &request, &Policy::default()).unwrap()).is_empty());
    request.mig_config = true;
    let edits = plan(&host, &request, &Policy::default()).unwrap();
    assert_eq!(
        paths(&edits),
        ["/dev/nvidia-caps/nvidia-cap1", "/dev/nvidia1"]
    );
}

#[test]
fn mig_control_goes_with_whole_gpus_on_a_host_that_has_it() {
    let request = Request {
        mig_config: true,
        ..request_for("1:0")
    };
    let message = planned(&request).unwrap_err().to_string();
    assert!(
        message.contains("NVIDIA_MIG_CONFIG_DEVICES") && message.contains("whole GPUs"),
        "{message}"
    );
    let request = Request {
        mig_monitor: true,
        ..request_for("0")
    };
    let message = plan(&host(), &request, &Policy::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("NVIDIA_MIG_MONITOR_DEVICES"), "{message}");
}

#[test]
fn features_add_their_nodes_and_files() {
    let request = Request {
        features: vec![Feature::Gds],
        ..request_for("0")
    };
    for request in [request, request_for("0,nvidia.com/gds=all")] {
        let edits = planned(&request).unwrap();
        assert_eq!(paths(&edits), ["/dev/nvidia0", "/dev/nvidia-fs0"]);
        assert_eq!(edits.mounts.len(), 1);
    }
    let message = planned(&request_for("nvidia.com/mofed=all"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("mofed") && message.contains("some for gds"),
        "{message}"
    );
}

#[test]
fn imex_channels_by_number_all_and_by_cdi_name() {
    let with = |imex| Request {
        imex,
        ..request_for("0")
    };
    let channel = |id: u32| format!("/dev/nvidia-caps-imex-channels/channel{id}");
    let one = planned(&with(Imex::Listed(vec![3]))).unwrap();
    assert_eq!(paths(&one)[1..], [channel(3)]);
    let all = planned(&with(Imex::All)).unwrap();
    assert_eq!(paths(&all)[1..], [channel(0), channel(3)]);
    let named = planned(&request_for("0,nvidia.com/imex-channel=0")).unwrap();
    assert_eq!(paths(&named)[1..], [channel(0)]);
    let message = planned(&with(Imex::Listed(vec![1])))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("channel 1") && message.contains("0, 3"),
        "{message}"
    );
    assert_eq!(
        paths(&plan(&host(), &with(Imex::All), &Policy::default()).unwrap()).len(),
        1
    );
    let ignoring = Policy {
        ignore_imex: true,
        ..Policy::default()
    };
    let edits = plan(
        &rich(),
        &request_for("0,nvidia.com/imex-channel=0"),
        &ignoring,
    )
    .unwrap();
    assert_eq!(paths(&edits).len(), 1);
}

#[test]
fn video_implies_the_libraries_of_compute_and_display_implies_graphics() {
    use Capability::{Compat32, Compute, Display, Graphics, Utility, Video};
    let files = |list: &[Capability]| {
        let request = Request {
            capabilities: Capabilities::of(list),
            ..request_for("0")
        };
        let edits = planned(&request).unwrap();
        let name = |m: &BindMount| m.path.file_name().unwrap().to_string_lossy().into_owned();
        let files: Vec<String> = edits.mounts.iter().map(name).collect();
        (
            files.join(" "),
            paths(&edits).contains(&"/dev/nvidia-modeset".to_owned()),
        )
    };
    assert_eq!(files(&[Utility]), (String::new(), false));
    assert_eq!(
        files(&[Video]),
        ("libcuda.so.1 libnvcuvid.so.1".into(), false)
    );
    assert_eq!(files(&[Compute]), ("libcuda.so.1 mps".into(), false));
    let with_32 = "libcuda.so.1 mps libcuda32.so.1";
    assert_eq!(files(&[Compute, Compat32]).0, with_32);
    let graphics = "libGLX_nvidia.so.0 nvidia_icd.json";
    assert_eq!(files(&[Graphics]), (graphics.into(), true));
    assert_eq!(
        files(&[Display]),
        (format!("{graphics} nvidia_drv.so"), true)
    );
}

#[test]
fn the_egl_mask_has_a_bit_for_each_gpu_if_graphics_are_requested() {
    let mut request = Request {
        capabilities: Capabilities::of(&[Capability::Graphics]),
        ..request_for("2,0")
    };
    assert_eq!(planned(&request).unwrap().egl_devices, Some(0b101));
    request.visible = Visible::DriverOnly;
    assert_eq!(planned(&request).unwrap().egl_devices, None);
    assert_eq!(planned(&request_for("0")).unwrap().egl_devices, None);
}

#[test]
fn cuda_compatibility_comes_with_compute_unless_the_policy_disables_it() {
    let request = Request {
        capabilities: Capabilities::of(&[Capability::Compute]),
        ..request_for("0")
    };
    let compat = planned(&request).unwrap().cuda_compat.unwrap();
    assert_eq!(
        (compat.driver.as_str(), compat.cuda),
        ("580.65.06", Some((13, 0)))
    );
    assert_eq!(planned(&request_for("0")).unwrap().cuda_compat, None);
    let off = Policy {
        cuda_compat: false,
        forbid_device_nodes: false,
        ..Policy::default()
    };
    let edits = plan(&rich(), &request, &off).unwrap();
    assert_eq!(
        (edits.cuda_compat, edits.forbid_device_node_creation),
        (None, false)
    );
}

#[test]
fn a_jetpack_image_that_wants_all_lists_gets_the_files_beyond_the_base_ones() {
    let mut host = host();
    host.source = Source::Tegra;
    host.tegra_more = vec![DriverFile {
        kind: FileKind::Library,
        path: "/usr/lib/libextra.so.1".into(),
        host_path: "/usr/lib/libextra.so.1".into(),
        capabilities: Capabilities::ALL,
        soname: None,
        links: Vec::new(),
        need: gpu_host::Need::Required,
    }];
    let mut request = Request {
        visible: Visible::All,
        ..Request::default()
    };
    let mounts = |r: &Request| plan(&host, r, &Policy::default()).unwrap().mounts.len();
    assert_eq!(mounts(&request), 0);
    request.all_lists = true;
    assert_eq!(mounts(&request), 1);
}

proptest! {
    #[test]
    fn only_requested_gpus_are_given(asked in "([0-3](:[0-2])?|GPU-[0-3]abc|MIG-[01][01]|[a-z]{1,3})") {
        let answer = nodes(&asked);
        // Existing devices must be given: otherwise an answer that is always an error would pass.
        if ["0", "2", "GPU-0abc", "GPU-2abc", "1:0", "1:1"].contains(&asked.as_str()) {
            prop_assert!(answer.is_ok(), "{asked}: {answer:?}");
        }
        if let Ok(nodes) = answer {
            let index: String = asked.chars().find(char::is_ascii_digit).into_iter().collect();
            for node in nodes.iter().filter(|n| !n.contains("caps")) {
                prop_assert_eq!(node, &format!("/dev/nvidia{index}"));
            }
        }
    }
}
