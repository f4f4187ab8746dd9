//! A container requests another vendor's CDI device by everything that an image can set, with a real
//! runtime below the shim. Needs root, runc and a static busybox; says so and passes if one is
//! missing.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bundle::{Below, RuncBundle, Way, can_run, text};
use serde_json::{Value, json};

const SECRET: &str = "A-FILE-OF-ROOT";
const SCRIPT: &str = "echo STARTED; busybox cat /mnt/secret";
const NAME: &str = "vendor.com/admin=all";

/// Writes a spec for each of these kinds that mounts a file readable only by the host's root.
fn put_specs(place: &RuncBundle, kinds: &[&str]) {
    let secret = place.path("secret");
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(place.path("specs")).unwrap();
    for (n, kind) in kinds.iter().enumerate() {
        let spec = json!({
            "cdiVersion": "0.5.0",
            "kind": kind,
            "devices": [{"name": "all", "containerEdits": {"mounts": [
                {"hostPath": secret, "containerPath": "/mnt/secret", "options": ["rbind"]},
            ]}}],
        });
        let path = place.path(&format!("specs/{n}.json"));
        fs::write(path, serde_json::to_vec(&spec).unwrap()).unwrap();
    }
}

fn put_policy(place: &RuncBundle, mode: &str, ours: &str) {
    for (below, name) in [("runc", "config.toml"), ("crun", "config-crun.toml")] {
        let no_cgroups = below == "crun";
        let text = format!(
            "accept-nvidia-visible-devices-as-volume-mounts = true\n\
             [nvidia-container-cli]\nno-cgroups = {no_cgroups}\n\
             [nvidia-container-runtime]\nmode = \"{mode}\"\nruntimes = [\"{below}\"]\n\
             modes.cdi.spec-dirs = [\"{}\"]\n[gpu-container]\ninventory = \"{}\"\n{ours}\n",
            place.path("specs").display(),
            place.path("inventory.json").display(),
        );
        fs::write(place.path(name), text).unwrap();
    }
}

/// Makes a request in a config.json, in one of the ways that an image or its user has.
type MakeRequest = fn(&mut Value, &str);

const WAYS_TO_REQUEST: [(&str, MakeRequest); 7] = [
    ("variable", |config, name| env(config, &[name])),
    ("variable, twice", |config, name| env(config, &["0", name])),
    ("variable, in a list", |config, name| {
        env(config, &[&format!("{name} , nvidia.com/gpu=0")]);
    }),
    ("mount", |config, name| mount(config, name)),
    ("mount, by folders", |config, name| {
        mount(config, &name.replace('=', "/"));
    }),
    ("annotation", |config, name| {
        config["annotations"] = json!({"cdi.k8s.io/image": name});
    }),
    ("annotation, in a list", |config, name| {
        config["annotations"] = json!({"cdi.k8s.io/a": "nvidia.com/gpu=0", "cdi.k8s.io/b": name});
    }),
];

fn env(config: &mut Value, values: &[&str]) {
    let env = config["process"]["env"].as_array_mut().unwrap();
    env.extend(
        values
            .iter()
            .map(|v| json!(format!("NVIDIA_VISIBLE_DEVICES={v}"))),
    );
}

fn mount(config: &mut Value, name: &str) {
    config["mounts"].as_array_mut().unwrap().push(json!({
        "source": "/dev/null",
        "destination": format!("/var/run/nvidia-container-devices/cdi/{name}"),
        "options": ["bind"],
    }));
}

fn privileged(config: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        let set = &mut config["process"]["capabilities"][set];
        set.as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
    }
}

#[test]
fn nothing_that_an_image_can_set_gives_it_another_vendors_device() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("vendors");
    put_specs(
        &place,
        &[
            "vendor.com/admin",
            "management.nvidia.com/gpu",
            "evil.nvidia.com/gpu",
            "notnvidia.com/gpu",
            "NVIDIA.com/gpu",
            "nvidia.com.evil.org/gpu",
            "runtime.nvidia.com/gpus",
            "k8s.device-plugin.nvidia.com/gpu.x",
            "amd.com/gpu",
        ],
    );
    let kinds = place.path("specs").read_dir().unwrap().map(|f| {
        let spec: Value = serde_json::from_slice(&fs::read(f.unwrap().path()).unwrap()).unwrap();
        spec["kind"].as_str().unwrap().to_owned()
    });
    for name in kinds.map(|kind| format!("{kind}=all")) {
        for (way, ask) in WAYS_TO_REQUEST {
            for (mode, is_privileged) in [("auto", false), ("cdi", false), ("auto", true)] {
                put_policy(&place, mode, "");
                place.make_config("void", SCRIPT, |config| {
                    ask(config, &name);
                    if is_privileged {
                        privileged(config);
                    }
                });
                let out = text(&place.start_by(Way::Shim, Below::Runc));
                let case = format!("{name} by {way}, mode {mode}, {is_privileged}: {out}");
                assert!(!out.contains(SECRET), "read: {case}");
                // An annotation for a kind that does not look like NVIDIA's is the engine's affair.
                let vendor = name.to_lowercase();
                let vendor = vendor.split('/').next().unwrap();
                let is_nvidias = vendor == "nvidia.com" || vendor.ends_with(".nvidia.com");
                match way {
                    "annotation" if !is_nvidias => assert!(out.contains("STARTED"), "{case}"),
                    // Whether this host has the GPU that it names, too, does not matter here.
                    "annotation, in a list" if !is_nvidias => {}
                    _ => assert!(!out.contains("STARTED"), "started: {case}"),
                }
                assert!(out.contains("allowed-cdi-kinds"), "{case}");
            }
        }
    }
}

/// The control: the same specs do give the file if the policy allows the kinds.
#[test]
fn kinds_listed_in_the_policy_are_given() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("vendors-allowed");
    put_specs(&place, &["vendor.com/admin"]);
    for below in Below::available() {
        for (way, ask) in WAYS_TO_REQUEST
            .iter()
            .filter(|(way, _)| !way.contains("list"))
        {
            for listed in ["vendor.com/admin", "vendor.com/*"] {
                put_policy(&place, "auto", &format!("allowed-cdi-kinds = [{listed:?}]"));
                place.make_config("void", SCRIPT, |config| ask(config, NAME));
                let out = text(&place.start_by(Way::Shim, *below));
                assert!(out.contains(SECRET), "{way}, {listed}, {below:?}: {out}");
            }
        }
    }
}
