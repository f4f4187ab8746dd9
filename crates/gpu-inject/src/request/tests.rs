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

fn of(config: &Value, policy: &Policy) -> Result<Request, Error> {
    Request::read(ContainerView::new(config), policy)
}

fn read(env: &[&str]) -> Result<Request, Error> {
    of(&config(env), &Policy::default())
}

fn visible(value: &str) -> Visible {
    read(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")])
        .unwrap()
        .visible
}

fn named(names: &[&str]) -> Visible {
    Visible::Listed(names.iter().map(|n| AllowedName::by_caller(*n)).collect())
}

#[test]
fn the_words_of_visible_devices() {
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
    assert_eq!(visible("0, 0:1,GPU-1,,"), named(&["0", "0:1", "GPU-1"]));
}

#[test]
fn a_device_named_twice_is_asked_for_once() {
    assert_eq!(visible("0,0"), named(&["0"]));
    assert_eq!(visible("1,0,1"), named(&["1", "0"]));
}

#[test]
fn the_last_of_two_variables_counts_and_an_entry_without_a_value_is_none() {
    let found = read(&[
        "ODD",
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_VISIBLE_DEVICES=1",
    ]);
    assert_eq!(found.unwrap().visible, named(&["1"]));
    let found = read(&["NVIDIA_VISIBLE_DEVICES"]).unwrap();
    assert_eq!(found.visible, Visible::None);
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
    let visible = |env: &[&str]| of(&config(env), &policy).unwrap().visible;
    assert_eq!(
        visible(&[
            "NVIDIA_VISIBLE_DEVICES=all",
            "DOCKER_RESOURCE_GPU=GPU-1",
            "DOCKER_RESOURCE_NPU=GPU-2,GPU-1",
        ]),
        named(&["GPU-1", "GPU-2"])
    );
    assert_eq!(
        visible(&["NVIDIA_VISIBLE_DEVICES=all", "DOCKER_RESOURCE_NPU=0"]),
        named(&["0"])
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
    assert_eq!(visible(&config, Mode::Auto), named(&["0"]));
    config["mounts"] = json!([
        {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/2"},
    ]);
    assert_eq!(visible(&config, Mode::Auto), named(&["2"]));
    config["annotations"] = json!({
        "cdi.k8s.io/b": "nvidia.com/gpu=1",
        "cdi.k8s.io/a": "nvidia.com/gpu=3, nvidia.com/gpu=1",
        "other/a": "nvidia.com/gpu=4",
    });
    let both = named(&["nvidia.com/gpu=3", "nvidia.com/gpu=1"]);
    assert_eq!(visible(&config, Mode::Auto), both);
    assert_eq!(visible(&config, Mode::Cdi), both);
    // A hook and the other modes leave annotations to whoever has CDI.
    assert_eq!(visible(&config, Mode::Legacy), named(&["2"]));
    assert_eq!(visible(&config, Mode::JitCdi), named(&["2"]));
}

#[test]
fn an_unqualified_annotation_counts_in_cdi_mode_alone() {
    let mut config = config(&["NVIDIA_VISIBLE_DEVICES=0"]);
    config["annotations"] = json!({"cdi.k8s.io/a": "1"});
    let policy = Policy::default();
    let view = ContainerView::new(&config);
    let visible = |mode| Request::read_in(view, &policy, mode).unwrap().visible;
    assert_eq!(visible(Mode::Auto), named(&["0"]));
    let Visible::Listed(found) = visible(Mode::Cdi) else {
        panic!("no names");
    };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].cdi().unwrap().to_string(), "nvidia.com/gpu=1");
}

#[test]
fn annotations_are_those_of_the_configured_prefixes() {
    let mut config = config(&[]);
    config["annotations"] = json!({"cdi.k8s.io/a": "nvidia.com/gpu=0", "my/x": "nvidia.com/gpu=1"});
    let policy = Policy {
        annotation_prefixes: vec!["my/".into()],
        ..Policy::default()
    };
    let found = Request::read_in(ContainerView::new(&config), &policy, Mode::Auto).unwrap();
    assert_eq!(found.visible, named(&["nvidia.com/gpu=1"]));
}

#[test]
fn capabilities_default_to_compute_and_utility() {
    let of = |env: &str| read(&["NVIDIA_VISIBLE_DEVICES=0", env]);
    let both = Capabilities::of(&[Capability::Compute, Capability::Utility]);
    assert_eq!(of("X=").unwrap().capabilities, both);
    assert_eq!(
        of("NVIDIA_DRIVER_CAPABILITIES=").unwrap().capabilities,
        both
    );
    let all = of("NVIDIA_DRIVER_CAPABILITIES=video,all").unwrap();
    assert_eq!(all.capabilities, Capabilities::ALL);
    let said = of("NVIDIA_DRIVER_CAPABILITIES=gpu")
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("\"gpu\"") && said.contains("compute, compat32"),
        "{said}"
    );
}

#[test]
fn capabilities_beyond_the_supported_ones_are_left_out_with_a_warning() {
    let policy = Policy {
        supported: Capabilities::of(&[Capability::Utility]),
        ..Policy::default()
    };
    let of = |list: &str| {
        let list = format!("NVIDIA_DRIVER_CAPABILITIES={list}");
        of(&config(&["NVIDIA_VISIBLE_DEVICES=0", &list]), &policy).unwrap()
    };
    let found = of("utility,video");
    assert_eq!(found.capabilities, policy.supported);
    assert!(found.warnings[0].contains("video"), "{:?}", found.warnings);
    assert!(of("all").warnings.is_empty());
}

#[test]
fn an_unprivileged_container_that_may_not_ask_starts_without_gpus() {
    let policy = Policy {
        accept_unprivileged: false,
        ..Policy::default()
    };
    // What an image says must not keep its pod from starting, so not even a word that
    // would be an error elsewhere does.
    let env = [
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_DRIVER_CAPABILITIES=odd",
        "NVIDIA_IMEX_CHANNELS=odd",
    ];
    let found = of(&config(&env), &policy).unwrap();
    assert!(!found.is_some());
    assert!(
        found.warnings[0].contains("NVIDIA_VISIBLE_DEVICES"),
        "{found:?}"
    );
    let found = of(&privileged(&env[..1]), &policy).unwrap();
    assert!(found.is_some() && found.warnings.is_empty());
}

#[test]
fn mounts_ask_where_the_environment_may_not() {
    let mut config = config(&["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_IMEX_CHANNELS=1"]);
    config["mounts"] = json!([
        {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/GPU-1"},
    ]);
    let mut policy = Policy {
        accept_unprivileged: false,
        ..Policy::default()
    };
    assert!(!of(&config, &policy).unwrap().is_some());
    policy.accept_mounts = true;
    let found = of(&config, &policy).unwrap();
    assert_eq!(found.visible, named(&["GPU-1"]));
    assert_eq!(found.imex, Imex::None);
    assert!(found.warnings[0].contains("NVIDIA_IMEX_CHANNELS"));
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
    assert_eq!(of(&config, &policy).unwrap().imex, Imex::Listed(vec![1, 2]));
    config["mounts"] = json!([
        {"source": "/dev/null", "destination": "/var/run/nvidia-container-devices/imex/all"},
    ]);
    let found = of(&config, &policy).unwrap();
    assert_eq!((found.visible, found.imex), (named(&["0"]), Imex::All));
    policy.ignore_imex = true;
    assert_eq!(of(&config, &policy).unwrap().imex, Imex::None);
}

#[test]
fn features_are_asked_for_by_exactly_enabled() {
    let found = read(&[
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_GDS=enabled",
        "NVIDIA_MOFED=true",
        "NVIDIA_GDRCOPY=Enabled",
        "NVIDIA_NVSWITCH=enabled",
    ]);
    let features = found.unwrap().features;
    assert_eq!(features, [Feature::Gds, Feature::Nvswitch]);
    assert!(read(&["NVIDIA_GDS=enabled"]).unwrap().features.is_empty());
}

#[test]
fn features_are_no_more_the_images_to_ask_for_than_gpus() {
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
    let found = of(&config, &policy).unwrap();
    assert_eq!(found.visible, named(&["GPU-1"]));
    assert!(found.features.is_empty());
    for (warning, variable) in found
        .warnings
        .iter()
        .zip(["NVIDIA_MOFED", "NVIDIA_NVSWITCH"])
    {
        assert!(warning.contains(variable) && warning.contains("allowed-cdi-kinds"));
    }
    policy.allowed_kinds = vec!["nvidia.com/mofed".into()];
    let found = of(&config, &policy).unwrap();
    assert_eq!(
        (found.features, found.warnings.len()),
        (vec![Feature::Mofed], 1)
    );
    config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
    let found = of(&config, &policy).unwrap();
    assert_eq!(found.features, [Feature::Mofed, Feature::Nvswitch]);
}

#[test]
fn mig_control_is_for_privileged_containers() {
    let env = [
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_MIG_CONFIG_DEVICES=all",
        "NVIDIA_MIG_MONITOR_DEVICES=all",
    ];
    let found = read(&env).unwrap();
    assert!(!found.mig_config && !found.mig_monitor);
    assert_eq!(found.warnings.len(), 2);
    let policy = Policy::default();
    let found = of(&privileged(&env), &policy).unwrap();
    assert!(found.mig_config && found.mig_monitor && found.warnings.is_empty());
    let one = privileged(&["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_MIG_CONFIG_DEVICES=0"]);
    assert!(matches!(of(&one, &policy), Err(Error::MigControl { .. })));
}

#[test]
fn requirements_are_every_require_variable_but_jetpacks_unless_switched_off() {
    let mut env = vec![
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_REQUIRE_CUDA=cuda>=9",
        "NVIDIA_REQUIRE_CUDA=cuda>=12",
        "NVIDIA_REQUIRE_ARCH=arch>=7",
        "NVIDIA_REQUIRE_JETPACK=csv-mounts=all",
    ];
    let found = read(&env).unwrap().requirements;
    assert_eq!(found, ["arch>=7", "cuda>=12"]);
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
        for mode in [Mode::Auto, Mode::Cdi, Mode::Legacy] {
            let _ = Request::read_in(ContainerView::new(&config), &policy, mode);
        }
    }
}
