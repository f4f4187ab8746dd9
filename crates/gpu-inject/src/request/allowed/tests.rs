//! Tests that no container gets a device which the policy does not allow it to request, in whichever way it asks.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::oci::ContainerView;
use crate::request::{Request, Visible};

/// The ways in which config.json can request a device.
const WAYS: [&str; 6] = [
    "NVIDIA_VISIBLE_DEVICES",
    "after another value",
    "swarm-resource",
    "mount",
    "mount by folders",
    "annotation",
];
const MODES: [RuntimeMode; 5] = [
    RuntimeMode::Auto,
    RuntimeMode::Cdi,
    RuntimeMode::Legacy,
    RuntimeMode::JitCdi,
    RuntimeMode::Csv,
];

fn config(way: &str, name: &str, privileged: bool) -> Value {
    let mut config = json!({"process": {"env": []}});
    if privileged {
        config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
    }
    let variable = |key: &str| format!("{key}={name}");
    let mount = |place: &str| {
        let to = format!("/var/run/nvidia-container-devices/cdi/{place}");
        json!([{"source": "/dev/null", "destination": to}])
    };
    match way {
        "NVIDIA_VISIBLE_DEVICES" => config["process"]["env"] = json!([variable(way)]),
        "after another value" => {
            let last = variable("NVIDIA_VISIBLE_DEVICES");
            config["process"]["env"] = json!(["NVIDIA_VISIBLE_DEVICES=0", last]);
        }
        "swarm-resource" => config["process"]["env"] = json!([variable("DOCKER_RESOURCE_GPU")]),
        "mount" => config["mounts"] = mount(name),
        "mount by folders" => config["mounts"] = mount(&name.replacen('=', "/", 1)),
        _ => config["annotations"] = json!({"cdi.k8s.io/x": name}),
    }
    config
}

fn policy(allowed: &[&str], in_annotations: &[&str]) -> Policy {
    let owned = |list: &[&str]| list.iter().map(|k| (*k).to_owned()).collect();
    Policy {
        accept_mounts: true,
        swarm_resource: vec!["DOCKER_RESOURCE_GPU".into()],
        allowed_kinds: owned(allowed),
        allowed_kinds_in_annotations: owned(in_annotations),
        ..Policy::default()
    }
}

/// The CDI devices that are admitted, or the refusal.
fn admitted(config: &Value, policy: &Policy, mode: RuntimeMode) -> Result<Vec<String>, String> {
    admitted_or_why(config, policy, mode).map_err(|e| e.to_string())
}

fn admitted_or_why(
    config: &Value,
    policy: &Policy,
    mode: RuntimeMode,
) -> Result<Vec<String>, Error> {
    let request = Request::read_in(ContainerView::new(config), policy, mode);
    match request?.visible {
        Visible::Listed(names) => Ok(names
            .iter()
            .filter_map(|n| Some(n.cdi()?.to_string()))
            .collect()),
        _ => Ok(Vec::new()),
    }
}

/// Whether the mode reads this kind of request: annotations count in two modes only.
fn counts(way: &str, mode: RuntimeMode) -> bool {
    way != "annotation" || matches!(mode, RuntimeMode::Auto | RuntimeMode::Cdi)
}

const OURS: [&str; 6] = [
    "nvidia.com/gpu=0",
    "nvidia.com/imex-channel=all",
    "runtime.nvidia.com/gpu=all",
    "k8s.device-plugin.nvidia.com/gpu=GPU-1",
    "k8s.gpu.nvidia.com/claim=a-b",
    "k8s.gpu.nvidia.com/device=gpu-0",
];

const OTHERS: [&str; 17] = [
    "vendor.com/admin=all",
    "amd.com/gpu=0",
    "intel.com/gpu=0",
    "management.nvidia.com/gpu=all",
    "management.nvidia.com/any=all",
    "evil.nvidia.com/gpu=0",
    "evilnvidia.com/gpu=0",
    "nvidia.com.evil.org/gpu=0",
    "nvidia.co/gpu=0",
    "nvidia/gpu=0",
    "NVIDIA.COM/gpu=0",
    "Nvidia.com/gpu=0",
    "runtime.nvidia.com/gpus=0",
    "runtime.nvidia.com/gpu.x=0",
    "k8s.device-plugin.nvidia.com/other=0",
    "x.k8s.gpu.nvidia.com/claim=0",
    "k8s.compute-domain.nvidia.com/channel=0",
];

/// The vendors in [`OTHERS`] whose names do not look like NVIDIA's.
fn is_other_vendors(name: &str) -> bool {
    let vendors = [
        "vendor.com",
        "amd.com",
        "intel.com",
        "evilnvidia.com",
        "nvidia.com.evil.org",
        "nvidia.co",
        "nvidia",
    ];
    vendors.contains(&name.split_once('/').unwrap().0)
}

#[test]
fn every_way_to_request_admits_the_same_kinds_in_every_mode() {
    let policy = policy(&[], &[]);
    for way in WAYS {
        for mode in MODES.into_iter().filter(|mode| counts(way, *mode)) {
            for privileged in [false, true] {
                for name in OURS {
                    let config = config(way, name, privileged);
                    let devices = admitted(&config, &policy, mode);
                    assert_eq!(devices, Ok(vec![name.to_owned()]), "{way} {mode:?}");
                }
                for name in OTHERS {
                    let devices = admitted(&config(way, name, privileged), &policy, mode);
                    if way == "annotation" && is_other_vendors(name) {
                        assert_eq!(devices, Ok(Vec::new()), "{name} {mode:?} {privileged}");
                        continue;
                    }
                    let refusal = devices.expect_err(name);
                    let what = format!("{way} {mode:?} {privileged}: {refusal}");
                    assert!(refusal.contains(name), "{what}");
                    assert!(
                        refusal.contains("gpu-container.allowed-cdi-kinds"),
                        "{what}"
                    );
                }
            }
        }
    }
}

#[test]
fn one_name_that_is_not_allowed_refuses_the_whole_list() {
    let policy = policy(&[], &[]);
    for list in [
        "0,vendor.com/x=y",
        "vendor.com/x=y, 0",
        "nvidia.com/gpu=0,vendor.com/x=y,",
    ] {
        for mode in MODES {
            let config = config("NVIDIA_VISIBLE_DEVICES", list, false);
            assert!(admitted(&config, &policy, mode).is_err(), "{list} {mode:?}");
        }
    }
    // A list with `void`, `none` or `all` names no device.
    for list in [
        "vendor.com/x=y,void",
        "vendor.com/x=y,none",
        "all,vendor.com/x=y",
    ] {
        let config = config("NVIDIA_VISIBLE_DEVICES", list, false);
        assert_eq!(
            admitted(&config, &policy, RuntimeMode::Auto),
            Ok(Vec::new()),
            "{list}"
        );
    }
}

/// As the default runtime we see pods that ask only another vendor's device plugin. The engine has given what its CDI
/// annotation names; that is no reason to refuse the container, nor to give it a device.
#[test]
fn an_annotation_for_another_vendors_device_is_left_to_the_engine() {
    let read = |config: &Value, policy: &Policy, mode| {
        Request::read_in(ContainerView::new(config), policy, mode)
    };
    for mode in [RuntimeMode::Auto, RuntimeMode::Cdi] {
        for (annotations, env, wanted) in [
            (
                json!({"cdi.k8s.io/fpga": "vendor.com/fpga=0"}),
                "void",
                &[][..],
            ),
            // Beside a GPU that the container asks for in the same way or in another one.
            (
                json!({"cdi.k8s.io/fpga": "vendor.com/fpga=0", "cdi.k8s.io/gpu": "nvidia.com/gpu=1"}),
                "void",
                &["nvidia.com/gpu=1"][..],
            ),
            (
                json!({"cdi.k8s.io/fpga": "vendor.com/fpga=0"}),
                "nvidia.com/gpu=0",
                &["nvidia.com/gpu=0"],
            ),
        ] {
            let mut config = config("NVIDIA_VISIBLE_DEVICES", env, false);
            config["annotations"] = annotations;
            let devices = admitted(&config, &policy(&[], &[]), mode).unwrap();
            assert_eq!(devices, wanted, "{config} {mode:?}");
            let warnings = read(&config, &policy(&[], &[]), mode).unwrap().warnings;
            assert!(
                warnings[0].to_string().contains("vendor.com/fpga=0"),
                "{warnings:?}"
            );
        }
        // Only this runtime reads a prefix of the site's own, so the request is to it.
        let mut config = config("annotation", "nvidia.com/gpu=0", false);
        config["annotations"] = json!({"site/x": "vendor.com/fpga=0"});
        let with_prefix = Policy {
            annotation_prefixes: vec!["site/".into()],
            ..policy(&[], &[])
        };
        assert!(read(&config, &with_prefix, mode).is_err());
    }
}

#[test]
fn the_last_of_two_variables_is_the_one_that_is_checked_and_used() {
    let policy = policy(&[], &[]);
    let config = json!({"process": {"env": [
        "NVIDIA_VISIBLE_DEVICES=vendor.com/x=y",
        "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0",
    ]}});
    let devices = admitted(&config, &policy, RuntimeMode::Auto);
    assert_eq!(devices, Ok(vec!["nvidia.com/gpu=0".to_owned()]));
}

#[test]
fn the_policy_admits_more_kinds_by_their_full_names() {
    for listed in ["vendor.com/admin", "vendor.com/*"] {
        let policy = policy(&[listed], &[]);
        for way in WAYS {
            let config = |name| config(way, name, false);
            assert!(admitted(&config("vendor.com/admin=all"), &policy, RuntimeMode::Auto).is_ok());
            let gives = |name| {
                let devices = admitted(&config(name), &policy, RuntimeMode::Auto);
                devices.is_ok_and(|devices| !devices.is_empty())
            };
            assert_eq!(
                gives("vendor.com/other=all"),
                listed.ends_with('*'),
                "{way} {listed}"
            );
            for name in [
                "a.vendor.com/admin=all",
                "vendor.com.a/admin=all",
                "amd.com/gpu=0",
            ] {
                assert!(!gives(name), "{way} {name}");
            }
        }
    }
}

#[test]
fn the_policy_can_allow_more_kinds_for_annotations_only() {
    let policy = policy(&["a.com/b"], &["vendor.com/admin"]);
    for way in WAYS {
        let devices = admitted(
            &config(way, "vendor.com/admin=all", false),
            &policy,
            RuntimeMode::Auto,
        );
        assert_eq!(devices.is_ok(), way == "annotation", "{way}: {devices:?}");
        // The setting that helps keeps the kinds that are listed already.
        let config = config(way, "c.nvidia.com/d=e", false);
        let refusal = admitted_or_why(&config, &policy, RuntimeMode::Auto).unwrap_err();
        let Error::KindNotAllowed {
            rule: KindRule::Listed { key, kinds },
            ..
        } = &refusal
        else {
            panic!("{refusal}")
        };
        assert!(
            refusal
                .to_string()
                .ends_with(&format!("and what {key} lists"))
        );
        let setting = match way {
            "annotation" => "allowed-cdi-kinds-in-annotations=vendor.com/admin,c.nvidia.com/d",
            _ => "allowed-cdi-kinds=a.com/b,c.nvidia.com/d",
        };
        assert_eq!(format!("{key}={kinds}"), format!("gpu-container.{setting}"));
    }
}

#[test]
fn management_devices_need_a_privileged_container_and_the_policy() {
    let listed = policy(&["management.nvidia.com/gpu"], &["management.nvidia.com/*"]);
    let by_default_kind = Policy {
        default_kind: "management.nvidia.com/gpu".into(),
        ..policy(&[], &[])
    };
    for policy in [&listed, &by_default_kind] {
        for way in WAYS {
            for privileged in [false, true] {
                let config = config(way, "management.nvidia.com/gpu=all", privileged);
                let devices = admitted(&config, policy, RuntimeMode::Auto);
                assert_eq!(devices.is_ok(), privileged, "{way}: {devices:?}");
            }
        }
    }
    // A name without a kind, `all` included, has the default kind.
    for name in ["all", "0"] {
        for privileged in [false, true] {
            let config = config("NVIDIA_VISIBLE_DEVICES", name, privileged);
            let devices = admitted(&config, &by_default_kind, RuntimeMode::Cdi);
            let expected = format!("management.nvidia.com/gpu={name}");
            assert_eq!(devices.ok(), privileged.then(|| vec![expected]), "{name}");
        }
    }
}

#[test]
fn the_refusal_names_the_source_and_who_may_have_set_it() {
    let policy = policy(&[], &[]);
    for (way, words) in [
        (
            "NVIDIA_VISIBLE_DEVICES",
            "NVIDIA_VISIBLE_DEVICES asks for vendor.com/x=y. An image can set it",
        ),
        (
            "swarm-resource",
            "DOCKER_RESOURCE_GPU asks for vendor.com/x=y. An image can set it",
        ),
        (
            "mount",
            "A mount below /var/run/nvidia-container-devices asks for vendor.com/x=y",
        ),
        (
            "annotation",
            "An annotation asks for x.nvidia.com/x=y. An image can bring it along",
        ),
    ] {
        let name = if way == "annotation" {
            "x.nvidia.com/x=y"
        } else {
            "vendor.com/x=y"
        };
        let config = config(way, name, false);
        let refusal = admitted(&config, &policy, RuntimeMode::Auto).unwrap_err();
        assert!(refusal.starts_with(words), "{refusal}");
    }
    let long = format!("vendor.com/{}=all", "x".repeat(70_000));
    let config = config("NVIDIA_VISIBLE_DEVICES", &long, false);
    let refusal = admitted(&config, &policy, RuntimeMode::Auto).unwrap_err();
    assert!(refusal.len() < 1000, "{} bytes", refusal.len());
}

proptest! {
    /// Every device that the default policy admits has exactly one of four vendors.
    #[test]
    fn no_other_vendor_is_ever_admitted(
        way in prop::sample::select(&WAYS[..]),
        mode in prop::sample::select(&MODES[..]),
        privileged: bool,
        list in r"((evil[.-]?)?((k8s\.|device-plugin\.|gpu\.|management\.|runtime\.)*(nvidia|NVIDIA|amd|vendor)(\.com)?)(\.evil)?/(gpu|claim|g\.p|GPU|\*)=(all|0|[ab:/=.]{1,3}),? ?){1,3}",
    ) {
        let devices = admitted(&config(way, &list, privileged), &policy(&[], &[]), mode);
        for name in devices.unwrap_or_default() {
            let (vendor, _) = name.split_once('/').unwrap();
            prop_assert!([
                "nvidia.com",
                "runtime.nvidia.com",
                "k8s.device-plugin.nvidia.com",
                "k8s.gpu.nvidia.com",
            ].contains(&vendor), "{}", name);
        }
    }
}
