//! The specification's rules for names, versions and invalid documents, one case each.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use cdi::{
    ContainerEdits, Device, DeviceNode, Error, Hook, IntelRdt, Mount, QualifiedName, RelativeTo,
    Spec, Transform,
};

fn spec(change: impl FnOnce(&mut Spec)) -> Spec {
    let mut spec = Spec {
        cdi_version: "1.1.0".into(),
        kind: "nvidia.com/gpu".into(),
        devices: vec![Device {
            name: "gpu0".into(),
            container_edits: ContainerEdits {
                device_nodes: vec![DeviceNode {
                    path: "/dev/x".into(),
                    ..DeviceNode::default()
                }],
                ..ContainerEdits::default()
            },
            ..Device::default()
        }],
        ..Spec::default()
    };
    change(&mut spec);
    spec
}

/// SPEC.md, "Version History": an engine refuses features newer than itself, so each feature sets the minimum version.
#[test]
fn each_feature_requires_its_version() {
    let text = |spec: &mut Spec| spec.annotations.extend([("a".to_owned(), "b".to_owned())]);
    let of_device = |spec: &mut Spec| {
        spec.devices[0]
            .annotations
            .extend([("a".to_owned(), "b".to_owned())]);
    };
    let mount = |kind: Option<&str>| Mount {
        host_path: "/h".into(),
        container_path: "/c".into(),
        kind: kind.map(str::to_owned),
        ..Mount::default()
    };
    for (version, spec) in [
        ("0.3.0", spec(|_| {})),
        (
            "0.3.0",
            spec(|s| s.container_edits.mounts.push(mount(None))),
        ),
        (
            "0.4.0",
            spec(|s| s.container_edits.mounts.push(mount(Some("bind")))),
        ),
        ("0.5.0", spec(|s| s.devices[0].name = "0".into())),
        (
            "0.5.0",
            spec(|s| {
                s.devices[0].container_edits.device_nodes[0].host_path = Some("/dev/y".into());
            }),
        ),
        ("0.6.0", spec(text)),
        ("0.6.0", spec(of_device)),
        ("0.6.0", spec(|s| s.kind = "nvidia.com/gpu.x".into())),
        (
            "0.7.0",
            spec(|s| s.container_edits.intel_rdt = Some(IntelRdt::default())),
        ),
        (
            "0.7.0",
            spec(|s| s.devices[0].container_edits.additional_gids.push(44)),
        ),
    ] {
        assert_eq!(spec.minimum_version(), version, "{spec:?}");
        let of = |version: &str| Spec {
            cdi_version: version.into(),
            ..spec.clone()
        };
        of(version).validate().unwrap();
        let known = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0"];
        if let Some(at) = known
            .iter()
            .position(|v| *v == version)
            .filter(|at| *at > 0)
        {
            assert!(of(known[at - 1]).validate().is_err(), "{version}");
        }
    }
}

#[test]
fn errors_name_what_is_wrong_in_a_spec() {
    let edit =
        |change: fn(&mut ContainerEdits)| spec(|s| change(&mut s.devices[0].container_edits));
    let hook = |name: &str, path: &str| Hook {
        hook_name: name.into(),
        path: path.into(),
        ..Hook::default()
    };
    for (key, spec) in [
        ("devices", spec(|s| s.devices.clear())),
        ("devices[0]", spec(|s| s.devices[0].name = "a/b".into())),
        (
            "devices[0].containerEdits.env[0]",
            edit(|e| e.env.push("=value".into())),
        ),
        (
            "devices[0].containerEdits.deviceNodes[0].hostPath",
            edit(|e| e.device_nodes[0].host_path = Some("dev/x".into())),
        ),
        (
            "devices[0].containerEdits.deviceNodes[0]",
            edit(|e| e.device_nodes[0].kind = Some("x".into())),
        ),
        (
            "devices[0].containerEdits.deviceNodes[0]",
            edit(|e| e.device_nodes[0].permissions = Some("rx".into())),
        ),
        (
            "devices[0].containerEdits.mounts[0]",
            edit(|e| {
                e.mounts.push(Mount {
                    container_path: "/c".into(),
                    ..Mount::default()
                });
            }),
        ),
        (
            "devices[0].containerEdits.mounts[0].containerPath",
            edit(|e| {
                e.mounts.push(Mount {
                    host_path: "h".into(),
                    container_path: "c".into(),
                    ..Mount::default()
                });
            }),
        ),
        (
            "containerEdits.hooks[0]",
            spec(|s| s.container_edits.hooks.push(hook("start", "/h"))),
        ),
        (
            "containerEdits.hooks[0].path",
            spec(|s| s.container_edits.hooks.push(hook("prestart", "h"))),
        ),
    ] {
        match spec.validate() {
            Err(Error::Invalid { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    for right in ["b", "c", "u", "p"] {
        spec(|s| s.devices[0].container_edits.device_nodes[0].kind = Some(right.into()))
            .validate()
            .unwrap();
    }
}

/// SPEC.md, "Kind" and "Device names".
#[test]
fn a_name_needs_a_kind_and_a_device() {
    for right in [
        "a/b=c",
        "a.b-c_d/e.f-g_h1=0",
        "nvidia.com/gpu=0:1",
        "nvidia.com/gpu=GPU-a_b.c",
    ] {
        assert_eq!(right.parse::<QualifiedName>().unwrap().to_string(), right);
    }
    for wrong in [
        "gpu=0",
        "nvidia.com/gpu=",
        "nvidia.com/gpu",
        "=0",
        "/gpu=0",
        "nvidia.com/=0",
        "1a/gpu=0",
        "nvidia.com/1=0",
        "a-/gpu=0",
        "nvidia.com/gpu-=0",
        "a b/gpu=0",
        "nvidia.com/g pu=0",
        "nvidia.com/gpu=-0",
        "nvidia.com/gpu=0-",
        "nvidia.com/gpu=a b",
        "nvidia.com/gpu=a/b",
        "nvidia.com/gpu=a=b",
    ] {
        assert!(wrong.parse::<QualifiedName>().is_err(), "{wrong}");
    }
}

#[test]
fn a_moved_path_raises_the_version_and_never_lowers_it() {
    for (before, after) in [("0.3.0", "0.5.0"), ("0.5.0", "0.5.0"), ("v1.0.0", "v1.0.0")] {
        let mut moved = spec(|s| s.cdi_version = before.into());
        let transform = Transform {
            from: "/dev".into(),
            to: "/driver/dev".into(),
            relative_to: RelativeTo::Host,
            host_path_behind: &[],
        };
        transform.apply(&mut moved);
        let node = &moved.devices[0].container_edits.device_nodes[0];
        assert_eq!(node.host_path.as_deref(), Some(Path::new("/driver/dev/x")));
        assert_eq!(moved.cdi_version, after);
    }
}
