//! How the runtime edits a container's config.json, as seen in the edited file. The low-level runtime
//! is a script that prints its arguments.
#![allow(clippy::unwrap_used)]

mod place;

use std::fs;

use place::{StubbedBundle, text};
use serde_json::json;

const ALL_CONTROL: [&str; 1] = ["/dev/nvidiactl"];

fn with_control(nodes: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = nodes
        .iter()
        .chain(&ALL_CONTROL)
        .map(|n| (*n).to_owned())
        .collect();
    all.sort();
    all
}

/// Writes a CDI spec of that kind with the device `x`, which adds a variable and a prestart hook.
fn put_spec(place: &StubbedBundle, kind: &str) {
    let spec = json!({
        "cdiVersion": "0.5.0",
        "kind": kind,
        "devices": [{"name": "x", "containerEdits": {"env": ["BY_CDI=1"]}}],
    });
    let name = format!("specs/{}.json", kind.replace('/', "-"));
    fs::write(place.path(&name), serde_json::to_vec(&spec).unwrap()).unwrap();
}

fn has_env(place: &StubbedBundle, entry: &str) -> bool {
    let config = place.config();
    let env = config["process"]["env"].as_array().unwrap();
    env.iter().any(|e| e == entry)
}

#[test]
fn duplicates_and_aliases_of_a_gpu_give_it_once() {
    let place = StubbedBundle::new();
    for value in [
        "0,0",
        "0,GPU-0",
        "gpu-0",
        "0000:30:00.0",
        "00000000:30:00.0, 0",
    ] {
        let out = place.create(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")]);
        assert!(out.status.success(), "{value}: {}", text(&out));
        assert_eq!(place.nodes(), with_control(&["/dev/nvidia0"]), "{value}");
        assert!(has_env(&place, "NVIDIA_VISIBLE_DEVICES=void"));
    }
}

#[test]
fn void_anywhere_leaves_the_container_alone() {
    let place = StubbedBundle::new();
    for value in ["void", "0,void", ""] {
        let out = place.create(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")]);
        assert!(text(&out).contains("low-level"), "{}", text(&out));
        assert!(place.config().get("hooks").is_none() && place.nodes().is_empty());
    }
}

#[test]
fn none_gives_the_driver_without_a_gpu() {
    let place = StubbedBundle::new();
    place.create(&["NVIDIA_VISIBLE_DEVICES=0,none"]);
    assert_eq!(place.nodes(), ALL_CONTROL);
    assert!(place.hook().iter().any(|a| a.contains("libcuda.so.550.54")));
}

#[test]
fn an_unprivileged_pod_of_a_cuda_image_starts_without_gpus_where_the_variable_may_not_ask() {
    let place = StubbedBundle::new();
    place.policy("accept-nvidia-visible-devices-envvar-when-unprivileged = false");
    let out = place.create(&[
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=odd",
    ]);
    assert!(
        out.status.success() && text(&out).contains("low-level"),
        "{}",
        text(&out)
    );
    assert!(place.nodes().is_empty());
    assert!(
        place.log().contains("\"level\":\"warning\""),
        "{}",
        place.log()
    );
    assert!(
        place.log().contains("accept-nvidia-visible-devices"),
        "{}",
        place.log()
    );
    place.create_as(
        "nvidia-container-runtime",
        &["NVIDIA_VISIBLE_DEVICES=0"],
        |config| {
            config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
        },
    );
    assert_eq!(place.nodes(), with_control(&["/dev/nvidia0"]));
}

#[test]
fn a_mount_list_asks_for_gpus_cdi_devices_and_channels() {
    let place = StubbedBundle::new();
    place.policy("accept-nvidia-visible-devices-as-volume-mounts = true");
    place.allow("vendor.com/gpu");
    let create = |names: &[&str]| {
        let mounts: Vec<_> = names
            .iter()
            .map(|n| json!({"source": "/dev/null", "destination": format!("/var/run/nvidia-container-devices{n}")}))
            .collect();
        let env = ["NVIDIA_VISIBLE_DEVICES=void"];
        let out = place.create_as("nvidia-container-runtime", &env, |config| {
            config["mounts"] = json!(mounts);
        });
        assert!(out.status.success(), "{}", text(&out));
    };
    create(&["/GPU-0", "/imex/3"]);
    let channel = "/dev/nvidia-caps-imex-channels/channel3";
    assert_eq!(place.nodes(), with_control(&["/dev/nvidia0", channel]));
    put_spec(&place, "vendor.com/gpu");
    create(&["/cdi/vendor.com/gpu/x"]);
    assert!(has_env(&place, "BY_CDI=1") && place.nodes().is_empty());
    create(&["0"]);
    assert!(place.nodes().is_empty() && !has_env(&place, "BY_CDI=1"));
}

#[test]
fn features_imex_and_mig_control_add_their_nodes() {
    let place = StubbedBundle::new();
    let env = [
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_GDS=enabled",
        "NVIDIA_IMEX_CHANNELS=channel3",
        "NVIDIA_MIG_MONITOR_DEVICES=all",
    ];
    place.create(&env);
    let channel = "/dev/nvidia-caps-imex-channels/channel3";
    let nodes = ["/dev/nvidia0", "/dev/nvidia-fs0", channel];
    assert_eq!(place.nodes(), with_control(&nodes));
    place.create_as("nvidia-container-runtime", &env, |config| {
        config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
    });
    let monitor = "/dev/nvidia-caps/nvidia-cap2";
    let nodes = ["/dev/nvidia0", "/dev/nvidia-fs0", channel, monitor];
    assert_eq!(place.nodes(), with_control(&nodes));
}

#[test]
fn a_missing_device_is_refused_with_a_list_of_the_existing_ones() {
    let place = StubbedBundle::new();
    let refused = |env: &[&str], wanted: &[&str]| {
        let out = place.create(env);
        assert!(!out.status.success(), "{env:?}: {}", text(&out));
        for part in wanted {
            assert!(place.log().contains(part), "{part} in {}", place.log());
        }
    };
    refused(
        &["NVIDIA_VISIBLE_DEVICES=7"],
        &["0 (GPU-0)", "1:1 (MIG-11)"],
    );
    let gpu = "NVIDIA_VISIBLE_DEVICES=0";
    refused(
        &[gpu, "NVIDIA_IMEX_CHANNELS=4"],
        &["channel 4", "there are 3"],
    );
    refused(&[gpu, "NVIDIA_IMEX_CHANNELS=../../x"], &["../../x"]);
    refused(
        &[gpu, "NVIDIA_NVSWITCH=enabled"],
        &["nvswitch", "some for gds"],
    );
    refused(
        &[gpu, "NVIDIA_REQUIRE_CUDA=cuda>=12.6 brand=quadro"],
        &[
            "unsatisfied condition: cuda>=12.6, please update your driver to a newer version",
            "cuda 12.4",
        ],
    );
}

#[test]
fn requirements_and_capabilities_apply_in_every_mode_of_our_own() {
    let place = StubbedBundle::new();
    for mode in ["auto", "legacy", "jit-cdi", "csv"] {
        let runtime = place.path("fakerunc");
        let keys = format!("mode = \"{mode}\"\nruntimes = [\"{}\"]", runtime.display());
        place.policy_of("", &keys);
        let gpu = "NVIDIA_VISIBLE_DEVICES=0";
        let out = place.create(&[gpu, "NVIDIA_REQUIRE_CUDA=cuda>=99"]);
        assert!(!out.status.success(), "{mode}");
        let out = place.create(&[gpu, "NVIDIA_DRIVER_CAPABILITIES=utility"]);
        assert!(out.status.success(), "{mode}: {}", text(&out));
        assert!(
            !place.hook().iter().any(|a| a.contains("libcuda")),
            "{mode}"
        );
    }
}

#[test]
fn qualified_names_are_looked_up_in_cdi_specs() {
    let place = StubbedBundle::new();
    put_spec(&place, "vendor.com/gpu");
    let out = place.create(&["NVIDIA_VISIBLE_DEVICES=vendor.com/gpu=x"]);
    assert!(!out.status.success(), "{}", text(&out));
    for said in [
        "NVIDIA_VISIBLE_DEVICES asks for vendor.com/gpu=x. An image can set it",
        "gpusetup config set gpu-container.allowed-cdi-kinds=vendor.com/gpu",
    ] {
        assert!(place.log().contains(said), "{}", place.log());
    }
    place.allow("vendor.com/gpu");
    let out = place.create(&["NVIDIA_VISIBLE_DEVICES=vendor.com/gpu=x"]);
    assert!(out.status.success(), "{}", text(&out));
    assert!(has_env(&place, "BY_CDI=1"));
    let out = place.create(&["NVIDIA_VISIBLE_DEVICES=vendor.com/gpu=y"]);
    assert!(!out.status.success() && place.log().contains("vendor.com/gpu=y"));
    // Devices of our kind are given without a spec; if there is one, it is used.
    place.create(&["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0"]);
    assert_eq!(place.nodes(), with_control(&["/dev/nvidia0"]));
    put_spec(&place, "nvidia.com/gpu");
    place.create(&["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=x"]);
    assert!(has_env(&place, "BY_CDI=1") && place.nodes().is_empty());
    place.create(&["NVIDIA_VISIBLE_DEVICES=runtime.nvidia.com/gpu=0"]);
    assert_eq!(place.nodes(), with_control(&["/dev/nvidia0"]));
}

#[test]
fn annotations_ask_for_cdi_devices_before_the_environment() {
    let place = StubbedBundle::new();
    place.allow("vendor.com/gpu");
    put_spec(&place, "vendor.com/gpu");
    let annotate = |value: &str| {
        let env = ["NVIDIA_VISIBLE_DEVICES=0"];
        let out = place.create_as("nvidia-container-runtime", &env, |config| {
            config["annotations"] = json!({"cdi.k8s.io/plugin": value});
        });
        assert!(out.status.success(), "{}", text(&out));
    };
    annotate("vendor.com/gpu=x");
    assert!(has_env(&place, "BY_CDI=1") && place.nodes().is_empty());
    annotate("x");
    assert_eq!(place.nodes(), with_control(&["/dev/nvidia0"]));
}

#[test]
fn the_programs_name_chooses_the_mode() {
    let place = StubbedBundle::new();
    put_spec(&place, "nvidia.com/gpu");
    let env = ["NVIDIA_VISIBLE_DEVICES=x"];
    let out = place.create_as("nvidia-container-runtime.cdi", &env, |_| {});
    assert!(out.status.success(), "{}", text(&out));
    assert!(has_env(&place, "BY_CDI=1"));
    let env = ["NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0"];
    let out = place.create_as("nvidia-container-runtime.legacy", &env, |_| {});
    assert!(out.status.success(), "{}", text(&out));
    assert_eq!(place.nodes(), with_control(&["/dev/nvidia0"]));
}

#[test]
fn the_programs_name_chooses_the_low_level_runtime() {
    let place = StubbedBundle::new();
    place.program("fakecrun", "#!/bin/sh\necho other \"$@\"\n");
    let run = |name: &str| {
        let path = format!("{}:/usr/bin:/bin", place.dir.path().display());
        text(
            &place
                .named(name)
                .args(["state", "id"])
                .env("PATH", path)
                .output()
                .unwrap(),
        )
    };
    assert_eq!(run("gpu-container-runtime"), "low-level state id\n");
    assert_eq!(run("gpu-container-runtime-fakecrun"), "other state id\n");
    // If that runtime is not installed, those in the file are tried.
    assert_eq!(run("gpu-container-runtime-gone"), "low-level state id\n");
}

#[test]
fn hooks_that_would_inject_again_are_removed_and_others_kept() {
    let place = StubbedBundle::new();
    let env = ["NVIDIA_VISIBLE_DEVICES=0"];
    place.create_as("nvidia-container-runtime", &env, |config| {
        config["hooks"] = json!({"prestart": [
            {"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["x", "prestart"]},
            {"path": "/opt/own"},
        ]});
    });
    let hooks = &place.config()["hooks"];
    assert_eq!(hooks["prestart"], json!([{"path": "/opt/own"}]));
    assert_eq!(hooks["createContainer"].as_array().unwrap().len(), 1);
}

#[test]
fn unknown_fields_and_variables_without_a_value_are_kept() {
    let place = StubbedBundle::new();
    let env = ["ODD", "=", "NVIDIA_VISIBLE_DEVICES=0", "Y=a=b"];
    let out = place.create_as("nvidia-container-runtime", &env, |config| {
        config["x-new"] = json!({"of": ["tomorrow", 12_345_678_901_234_567_890u64]});
        config["linux"] = json!({"new": 1.50});
    });
    assert!(out.status.success(), "{}", text(&out));
    let config = place.config();
    assert_eq!(config["x-new"]["of"][1].to_string(), "12345678901234567890");
    assert_eq!(config["linux"]["new"].to_string(), "1.5");
    for entry in ["ODD", "=", "Y=a=b"] {
        assert!(has_env(&place, entry), "{entry}");
    }
}

#[test]
fn run_is_edited_like_create() {
    let place = StubbedBundle::new();
    place.write_config(&json!({
        "process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]},
        "root": {"path": "rootfs"},
    }));
    let mut run = place.named("nvidia-container-runtime");
    run.arg("run").arg("-b").arg(place.path("bundle")).arg("id");
    assert!(run.output().unwrap().status.success());
    assert_eq!(place.nodes(), with_control(&["/dev/nvidia0"]));
}

#[test]
fn version_prints_ours_and_the_low_level_runtimes() {
    let place = StubbedBundle::new();
    let out = place
        .named("nvidia-container-runtime")
        .arg("--version")
        .output()
        .unwrap();
    let output = text(&out);
    assert!(
        output.starts_with("gpu-container-runtime version "),
        "{output}"
    );
    assert!(output.ends_with("low-level --version\n"), "{output}");
}

#[test]
fn the_debug_log_respects_its_level() {
    let place = StubbedBundle::new();
    let log = place.path("runtime.log");
    let logged = |level: &str| {
        let _ = fs::remove_file(&log);
        let runtime = place.path("fakerunc");
        let keys = format!(
            "debug = \"{}\"\nlog-level = \"{level}\"\nruntimes = [\"{}\"]",
            log.display(),
            runtime.display()
        );
        place.policy_of("", &keys);
        place.create(&["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_MIG_CONFIG_DEVICES=all"]);
        fs::read_to_string(&log).unwrap_or_default()
    };
    assert_eq!(logged("error"), "");
    let warning = logged("warning");
    assert!(warning.contains("NVIDIA_MIG_CONFIG_DEVICES") && warning.lines().count() == 1);
    assert_eq!(logged("info").lines().count(), 2);
    let debug = logged("debug");
    assert!(
        debug.contains("\"level\":\"debug\"") && debug.contains("asked for"),
        "{debug}"
    );
    for line in debug.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
}

#[test]
fn an_unreadable_policy_does_not_prevent_stopping_a_container() {
    let place = StubbedBundle::new();
    fs::write(
        place.path("config.toml"),
        "nvidia-container-runtime.mode = \"fast\"",
    )
    .unwrap();
    let out = place.create(&["NVIDIA_VISIBLE_DEVICES=void"]);
    assert!(
        !out.status.success() && place.log().contains("\\\"fast\\\""),
        "{}",
        place.log()
    );
    place.program("runc", "#!/bin/sh\necho found \"$@\"\n");
    let out = place
        .named("nvidia-container-runtime")
        .args(["delete", "id"])
        .env("PATH", place.dir.path())
        .output()
        .unwrap();
    assert_eq!(text(&out), "found delete id\n");
}
