//! Tests which devices and capabilities a container's variables, mounts and annotations request.

use gpu_host::Capability;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn config(env: &[&str]) -> Value {
    json!({"process": {"env": env}})
}

fn privileged(env: &[&str]) -> Value {
    json!({"process": {"env": env, "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}})
}

fn read_config(config: &Value, policy: &Policy) -> Result<Request, Error> {
    Request::read(ContainerView::new(config), policy)
}

fn read(env: &[&str]) -> Result<Request, Error> {
    read_config(&config(env), &Policy::default())
}

fn visible(value: &str) -> Visible {
    read(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")])
        .unwrap()
        .visible
}

fn listed(names: &[&str]) -> Visible {
    Visible::Listed(names.iter().map(|n| AllowedName::by_caller(*n)).collect())
}

#[test]
fn visible_devices_understands_void_none_and_all() {
    assert_eq!(read(&[]).unwrap().visible, Visible::None);
    assert_eq!(visible(""), Visible::None);
    assert_eq!(visible("void"), Visible::None);
    assert_eq!(visible("0,void"), Visible::None);
    assert_eq!(visible("all,void"), Visible::None);
    assert_eq!(visible(" , "), Visible::None);
    assert_eq!(visible("none"), Visible::DriverOnly);
    assert_eq!(visible("0,none"), Visible::DriverOnly);
    assert_eq!(visible("none,all"), Visible::DriverOnly);
    assert_eq!(visible("all"), Visible::All);
    assert_eq!(visible("0,all,none"), Visible::All);
    assert_eq!(visible("0, 0:1,GPU-1,,"), listed(&["0", "0:1", "GPU-1"]));
}

#[test]
fn a_device_named_twice_is_requested_once() {
    assert_eq!(visible("0,0"), listed(&["0"]));
    assert_eq!(visible("1,0,1"), listed(&["1", "0"]));
}

#[test]
fn the_last_of_two_variables_counts_and_a_name_without_value_is_ignored() {
    let request = read(&[
        "ODD",
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_VISIBLE_DEVICES=1",
    ]);
    assert_eq!(request.unwrap().visible, listed(&["1"]));
    let request = read(&["NVIDIA_VISIBLE_DEVICES"]).unwrap();
    assert_eq!(request.visible, Visible::None);
}

#[test]
fn a_legacy_cuda_image_gets_all_and_requires_its_cuda_version() {
    let old = read(&["CUDA_VERSION=8.0.61"]).unwrap();
    assert_eq!(old.visible, Visible::All);
    assert_eq!(old.capabilities, Capabilities::ALL);
    assert_eq!(old.requirements, ["cuda>=8.0"]);
    let emptied = read(&["CUDA_VERSION=8", "NVIDIA_VISIBLE_DEVICES="]).unwrap();
    assert_eq!(emptied.visible, Visible::None);
    let new = read(&["CUDA_VERSION=12", "NVIDIA_REQUIRE_CUDA=cuda>=12"]).unwrap();
    assert_eq!(new.visible, Visible::None);
    let odd = read(&["CUDA_VERSION=new"]).unwrap();
    assert!(odd.requirements.is_empty() && odd.warnings.len() == 1);
}

#[test]
fn swarm_resources_replace_visible_devices() {
    let policy = Policy {
        swarm_resource: vec!["DOCKER_RESOURCE_GPU".into(), "DOCKER_RESOURCE_NPU".into()],
        ..Policy::default()
    };
    let visible = |env: &[&str]| read_config(&config(env), &policy).unwrap().visible;
    assert_eq!(
        visible(&[
            "NVIDIA_VISIBLE_DEVICES=all",
            "DOCKER_RESOURCE_GPU=GPU-1",
            "DOCKER_RESOURCE_NPU=GPU-2,GPU-1",
        ]),
        listed(&["GPU-1", "GPU-2"])
    );
    assert_eq!(
        visible(&["NVIDIA_VISIBLE_DEVICES=all", "DOCKER_RESOURCE_NPU=0"]),
        listed(&["0"])
    );
    assert_eq!(
        visible(&["NVIDIA_VISIBLE_DEVICES=all", "DOCKER_RESOURCE_GPU="]),
        Visible::None
    );
    assert_eq!(visible(&["NVIDIA_VISIBLE_DEVICES=all"]), Visible::All);
}

#[test]
fn annotations_come_before_mounts_and_mounts_before_the_environment() {
    let policy = Policy {
        accept_mounts: true,
        ..Policy::default()
    };
    let mut config = config(&["NVIDIA_VISIBLE_DEVICES=0"]);
    let visible = |config: &Value, mode| {
        Request::read_in(ContainerView::new(config), &policy, mode)
            .unwrap()
            .visible
    };
    assert_eq!(visible(&config, RuntimeMode::Auto), listed(&["0"]));
    config["mounts"] = json!([
        {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/2"},
    ]);
    assert_eq!(visible(&config, RuntimeMode::Auto), listed(&["2"]));
    config["annotations"] = json!({
        "cdi.k8s.io/b": "nvidia.com/gpu=1",
        "cdi.k8s.io/a": "nvidia.com/gpu=3, nvidia.com/gpu=1",
        "other/a": "nvidia.com/gpu=4",
    });
    let both = listed(&["nvidia.com/gpu=3", "nvidia.com/gpu=1"]);
    assert_eq!(visible(&config, RuntimeMode::Auto), both);
    assert_eq!(visible(&config, RuntimeMode::Cdi), both);
    // Hooks and the other modes ignore annotations.
    assert_eq!(visible(&config, RuntimeMode::Legacy), listed(&["2"]));
    assert_eq!(visible(&config, RuntimeMode::JitCdi), listed(&["2"]));
}

#[test]
fn an_unqualified_annotation_counts_only_in_cdi_mode() {
    let mut config = config(&["NVIDIA_VISIBLE_DEVICES=0"]);
    config["annotations"] = json!({"cdi.k8s.io/a": "1"});
    let policy = Policy::default();
    let view = ContainerView::new(&config);
    let visible = |mode| Request::read_in(view, &policy, mode).unwrap().visible;
    assert_eq!(visible(RuntimeMode::Auto), listed(&["0"]));
    let Visible::Listed(request) = visible(RuntimeMode::Cdi) else {
        panic!("no names");
    };
    assert_eq!(request.len(), 1);
    assert_eq!(request[0].cdi().unwrap().to_string(), "nvidia.com/gpu=1");
}

#[test]
fn annotations_are_those_of_the_configured_prefixes() {
    let mut config = config(&[]);
    config["annotations"] = json!({"cdi.k8s.io/a": "nvidia.com/gpu=0", "my/x": "nvidia.com/gpu=1"});
    let policy = Policy {
        annotation_prefixes: vec!["my/".into()],
        ..Policy::default()
    };
    let request =
        Request::read_in(ContainerView::new(&config), &policy, RuntimeMode::Auto).unwrap();
    assert_eq!(request.visible, listed(&["nvidia.com/gpu=1"]));
}

#[test]
fn capabilities_default_to_compute_and_utility() {
    let read_with = |env: &str| read(&["NVIDIA_VISIBLE_DEVICES=0", env]);
    let both = Capabilities::of(&[Capability::Compute, Capability::Utility]);
    assert_eq!(read_with("X=").unwrap().capabilities, both);
    assert_eq!(
        read_with("NVIDIA_DRIVER_CAPABILITIES=")
            .unwrap()
            .capabilities,
        both
    );
    let all = read_with("NVIDIA_DRIVER_CAPABILITIES=video,all").unwrap();
    assert_eq!(all.capabilities, Capabilities::ALL);
    let message = read_with("NVIDIA_DRIVER_CAPABILITIES=gpu")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("\"gpu\"") && message.contains("compute, compat32"),
        "{message}"
    );
}

#[test]
fn capabilities_beyond_the_supported_ones_are_left_out_with_a_warning() {
    let policy = Policy {
        supported: Capabilities::of(&[Capability::Utility]),
        ..Policy::default()
    };
    let read_with = |list: &str| {
        let list = format!("NVIDIA_DRIVER_CAPABILITIES={list}");
        read_config(&config(&["NVIDIA_VISIBLE_DEVICES=0", &list]), &policy).unwrap()
    };
    let request = read_with("utility,video");
    assert_eq!(request.capabilities, policy.supported);
    assert!(
        request.warnings[0].contains("video"),
        "{:?}",
        request.warnings
    );
    assert!(read_with("all").warnings.is_empty());
}

#[test]
fn an_unprivileged_container_that_may_not_request_gpus_starts_without() {
    let policy = Policy {
        accept_unprivileged: false,
        ..Policy::default()
    };
    // The request is ignored altogether, so that invalid values in it, which would otherwise be
    // errors, do not keep a pod from starting.
    let env = [
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_DRIVER_CAPABILITIES=odd",
        "NVIDIA_IMEX_CHANNELS=odd",
    ];
    let request = read_config(&config(&env), &policy).unwrap();
    assert!(!request.is_some());
    assert!(
        request.warnings[0].contains("NVIDIA_VISIBLE_DEVICES"),
        "{request:?}"
    );
    let request = read_config(&privileged(&env[..1]), &policy).unwrap();
    assert!(request.is_some() && request.warnings.is_empty());
}

#[test]
fn mounts_can_request_gpus_where_the_environment_may_not() {
    let mut config = config(&["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_IMEX_CHANNELS=1"]);
    config["mounts"] = json!([
        {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/GPU-1"},
    ]);
    let mut policy = Policy {
        accept_unprivileged: false,
        ..Policy::default()
    };
    assert!(!read_config(&config, &policy).unwrap().is_some());
    policy.accept_mounts = true;
    let request = read_config(&config, &policy).unwrap();
    assert_eq!(request.visible, listed(&["GPU-1"]));
    assert_eq!(request.imex, Imex::None);
    assert!(request.warnings[0].contains("NVIDIA_IMEX_CHANNELS"));
}

#[test]
fn imex_channels_by_mount_come_before_the_variable_and_policy_can_ignore_both() {
    let mut config = config(&[
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_IMEX_CHANNELS=1,channel2",
    ]);
    let mut policy = Policy {
        accept_mounts: true,
        ..Policy::default()
    };
    assert_eq!(
        read_config(&config, &policy).unwrap().imex,
        Imex::Listed(vec![1, 2])
    );
    config["mounts"] = json!([
        {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/imex/all"},
    ]);
    let request = read_config(&config, &policy).unwrap();
    assert_eq!((request.visible, request.imex), (listed(&["0"]), Imex::All));
    policy.ignore_imex = true;
    assert_eq!(read_config(&config, &policy).unwrap().imex, Imex::None);
}

#[test]
fn features_are_requested_only_by_the_value_enabled() {
    let request = read(&[
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_GDS=enabled",
        "NVIDIA_MOFED=true",
        "NVIDIA_GDRCOPY=Enabled",
        "NVIDIA_NVSWITCH=enabled",
    ]);
    let features = request.unwrap().features;
    assert_eq!(features, [Feature::Gds, Feature::Nvswitch]);
    assert!(read(&["NVIDIA_GDS=enabled"]).unwrap().features.is_empty());
}

#[test]
fn an_image_that_may_not_request_gpus_may_not_request_features() {
    let mut config = config(&[
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_MOFED=enabled",
        "NVIDIA_NVSWITCH=enabled",
    ]);
    config["mounts"] = json!([
        {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/GPU-1"},
    ]);
    let mut policy = Policy {
        accept_unprivileged: false,
        accept_mounts: true,
        ..Policy::default()
    };
    let request = read_config(&config, &policy).unwrap();
    assert_eq!(request.visible, listed(&["GPU-1"]));
    assert!(request.features.is_empty());
    for (warning, variable) in request
        .warnings
        .iter()
        .zip(["NVIDIA_MOFED", "NVIDIA_NVSWITCH"])
    {
        assert!(warning.contains(variable) && warning.contains("allowed-cdi-kinds"));
    }
    policy.allowed_kinds = vec!["nvidia.com/mofed".into()];
    let request = read_config(&config, &policy).unwrap();
    assert_eq!(
        (request.features, request.warnings.len()),
        (vec![Feature::Mofed], 1)
    );
    config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
    let request = read_config(&config, &policy).unwrap();
    assert_eq!(request.features, [Feature::Mofed, Feature::Nvswitch]);
}

#[test]
fn mig_control_is_for_privileged_containers() {
    let env = [
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_MIG_CONFIG_DEVICES=all",
        "NVIDIA_MIG_MONITOR_DEVICES=all",
    ];
    let request = read(&env).unwrap();
    assert!(!request.mig_config && !request.mig_monitor);
    assert_eq!(request.warnings.len(), 2);
    let policy = Policy::default();
    let request = read_config(&privileged(&env), &policy).unwrap();
    assert!(request.mig_config && request.mig_monitor && request.warnings.is_empty());
    let one = privileged(&["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_MIG_CONFIG_DEVICES=0"]);
    assert!(matches!(
        read_config(&one, &policy),
        Err(Error::MigControl { .. })
    ));
}

#[test]
fn all_require_variables_but_jetpacks_count_unless_disabled() {
    let mut env = vec![
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_REQUIRE_CUDA=cuda>=9",
        "NVIDIA_REQUIRE_CUDA=cuda>=12",
        "NVIDIA_REQUIRE_ARCH=arch>=7",
        "NVIDIA_REQUIRE_JETPACK=csv-mounts=all",
    ];
    let request = read(&env).unwrap().requirements;
    assert_eq!(request, ["arch>=7", "cuda>=12"]);
    env.push("NVIDIA_DISABLE_REQUIRE=no");
    assert_eq!(read(&env).unwrap().requirements.len(), 2);
    env.push("NVIDIA_DISABLE_REQUIRE=T");
    assert!(read(&env).unwrap().requirements.is_empty());
}

proptest! {
    #[test]
    fn no_value_panics(
        name in "NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES|REQUIRE_X|IMEX_CHANNELS|GDS|MIG_CONFIG_DEVICES)|CUDA_VERSION",
        value: String,
        mount: String,
    ) {
        let mut config = privileged(&["NVIDIA_VISIBLE_DEVICES=0", &format!("{name}={value}")]);
        config["mounts"] = json!([{"source": "/dev/null", "destination":
            format!("/var/run/nvidia-container-devices/{mount}")}]);
        config["annotations"] = json!({"cdi.k8s.io/x": value});
        let policy = Policy { accept_mounts: true, ..Policy::default() };
        for mode in [RuntimeMode::Auto, RuntimeMode::Cdi, RuntimeMode::Legacy] {
            let _ = Request::read_in(ContainerView::new(&config), &policy, mode);
        }
    }
}
