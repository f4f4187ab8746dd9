//! The public API as a whole: CDI documents go in, edited OCI configs come out.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::{Path, PathBuf};

use cdi::{Error, LazyJson, NodeStat, QualifiedName, Registry, Spec};
use proptest::prelude::*;
use serde_json::{Value, json};

const SPEC: &str = r#"
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/nvidia1
      hostPath: /run/dev/nvidia1
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  mounts:
  - hostPath: /usr/bin/nvidia-smi
    containerPath: /usr/bin/nvidia-smi
    options: [ro, nosuid, nodev]
  hooks:
  - hookName: createContainer
    path: /usr/bin/hook
    args: [hook, cdi]
"#;

fn stat(path: &Path) -> io::Result<NodeStat> {
    let minor = match path.to_str() {
        Some("/dev/nvidia0") => 0,
        Some("/run/dev/nvidia1") => 1,
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    Ok(NodeStat {
        kind: 'c',
        major: 195,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

fn registry(files: &[(&str, usize, &str)]) -> Registry {
    Registry::from_files(files.iter().map(|(path, priority, text)| {
        (PathBuf::from(path), *priority, Ok(text.as_bytes().to_vec()))
    }))
}

fn names(list: &[&str]) -> Vec<QualifiedName> {
    list.iter().map(|n| n.parse().unwrap()).collect()
}

fn inject(
    registry: &Registry,
    config: &mut Value,
    names: &[QualifiedName],
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
    let text = config.to_string();
    let mut document = LazyJson::parse(text.as_bytes()).unwrap();
    let done = registry.inject(&mut document, names, stat);
    *config = document.get(&[]).unwrap();
    done
}

#[test]
fn a_device_and_its_specs_edits_are_applied_once() {
    let registry = registry(&[("/etc/cdi/n.yaml", 0, SPEC)]);
    let mut config = json!({
        "process": {"env": ["A=1", "NVIDIA_VISIBLE_DEVICES=all"]},
        "mounts": [{"destination": "/proc", "type": "proc"}],
        "vendor": {"kept": 12_345_678_901_234_567_890_u64},
    });
    let both = names(&["nvidia.com/gpu=0", "nvidia.com/gpu=all"]);
    inject(&registry, &mut config, &both, &stat).unwrap();
    assert_eq!(
        config["process"]["env"],
        json!(["A=1", "NVIDIA_VISIBLE_DEVICES=void"])
    );
    let devices: Vec<_> = config["linux"]["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["path"].clone())
        .collect();
    assert_eq!(devices, [json!("/dev/nvidia0"), json!("/dev/nvidia1")]);
    assert_eq!(
        config["linux"]["resources"]["devices"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        config["hooks"]["createContainer"].as_array().unwrap().len(),
        1
    );
    assert_eq!(
        config["mounts"][1]["options"],
        json!(["ro", "nosuid", "nodev", "bind"])
    );
    assert_eq!(config["vendor"]["kept"].to_string(), "12345678901234567890");
}

#[test]
fn an_error_leaves_the_config_alone() {
    let registry = registry(&[("/etc/cdi/n.yaml", 0, SPEC)]);
    let mut config = json!({"process": {"env": []}});
    let before = config.clone();
    let missing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let one = names(&["nvidia.com/gpu=0"]);
    assert!(inject(&registry, &mut config, &one, &missing).is_err());
    let unknown = inject(&registry, &mut config, &names(&["nvidia.com/gpu=7"]), &stat);
    assert!(matches!(unknown, Err(Error::Unknown { .. })));
    assert_eq!(config, before);
    let mut odd = json!({"linux": 3});
    assert!(matches!(
        inject(&registry, &mut odd, &one, &stat),
        Err(Error::Config(_))
    ));
}

#[test]
fn later_directories_win_and_equals_conflict() {
    let two = registry(&[
        ("/etc/cdi/n.yaml", 0, SPEC),
        ("/var/run/cdi/n.yaml", 1, SPEC),
    ]);
    let devices = two.devices();
    assert_eq!(
        *devices[&names(&["nvidia.com/gpu=0"])[0]].as_ref().unwrap(),
        Path::new("/var/run/cdi/n.yaml")
    );
    let same = registry(&[("/etc/cdi/a.yaml", 0, SPEC), ("/etc/cdi/b.yaml", 0, SPEC)]);
    let conflict = inject(&same, &mut json!({}), &names(&["nvidia.com/gpu=0"]), &stat);
    assert!(matches!(conflict, Err(Error::Conflict { .. })));
    let broken = registry(&[
        ("/etc/cdi/a.yaml", 0, SPEC),
        ("/etc/cdi/b.yaml", 0, "nonsense"),
    ]);
    assert_eq!((broken.errors().len(), broken.devices().len()), (1, 2));
}

#[test]
fn a_fifo_and_an_endless_file_do_not_hide_other_specs() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(dir.path().join("pipe.yaml"))
        .status();
    assert!(pipe.unwrap().success());
    let long = std::fs::File::create(dir.path().join("long.yaml")).unwrap();
    long.set_len(1 << 30).unwrap();
    std::fs::write(dir.path().join("nvidia.yaml"), SPEC).unwrap();
    let registry = Registry::load_dirs(&[dir.path()]);
    assert_eq!(registry.errors().len(), 2);
    for (path, why) in registry.errors() {
        assert!(
            matches!(why, Error::Read { .. }),
            "{}: {why}",
            path.display()
        );
    }
    assert_eq!(registry.devices().len(), 2);
}

#[test]
fn documents_that_violate_the_specification_are_refused() {
    for (from, to) in [
        ("cdiVersion: 0.5.0", "cdiVersion: 9.0.0"),
        ("cdiVersion: 0.5.0", "cdiVersion: 0.3.0"),
        ("kind: nvidia.com/gpu", "kind: gpu"),
        ("name: all", "name: \"0\""),
        ("name: all", "name: \"-\""),
        ("path: /dev/nvidia0", "path: dev/nvidia0"),
        ("createContainer", "create"),
        ("NVIDIA_VISIBLE_DEVICES=void", "void"),
        ("options:", "optoins:"),
    ] {
        let text = SPEC.replacen(from, to, 1);
        assert_ne!(text, SPEC);
        assert!(Spec::parse(text.as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn the_minimum_version_is_computed() {
    let mut spec = Spec::parse(SPEC.as_bytes()).unwrap();
    assert_eq!(spec.minimum_version(), "0.5.0");
    spec.container_edits.additional_gids.push(44);
    assert_eq!(spec.minimum_version(), "0.7.0");
}

#[test]
fn yaml_and_json_are_equivalent() {
    let spec = Spec::parse(SPEC.as_bytes()).unwrap();
    assert_eq!(
        Spec::parse(spec.to_yaml().unwrap().as_bytes()).unwrap(),
        spec
    );
    assert_eq!(
        Spec::parse(spec.to_json().unwrap().as_bytes()).unwrap(),
        spec
    );
}

#[test]
fn annotations_are_read_in_order_and_once() {
    let requests = cdi::annotations::requested([
        ("cdi.k8s.io/b", "nvidia.com/gpu=1,nvidia.com/gpu=0"),
        ("cdi.k8s.io/a", "nvidia.com/gpu=0"),
        ("other", "x"),
    ]);
    assert_eq!(
        requests.unwrap(),
        names(&["nvidia.com/gpu=0", "nvidia.com/gpu=1"])
    );
    assert!(cdi::annotations::requested([("cdi.k8s.io/a", "gpu0")]).is_err());
}

proptest! {
    #[test]
    fn no_text_panics(bytes: Vec<u8>, name: String) {
        let _ = Spec::parse(&bytes);
        let _ = name.parse::<QualifiedName>();
    }

    #[test]
    fn names_round_trip(vendor in "[a-z]{1,8}\\.[a-z]{2,3}", class in "[a-z]{1,8}", device in "[A-Za-z0-9]{1,12}") {
        let text = format!("{vendor}/{class}={device}");
        prop_assert_eq!(text.parse::<QualifiedName>().unwrap().to_string(), text);
    }

    #[test]
    fn no_config_panics(value in "[1-9][0-9]{0,2}|\"a\"|\\[\\]|\\{\\}|null") {
        let inner: Value = serde_json::from_str(&value).unwrap();
        let registry = registry(&[("/etc/cdi/n.yaml", 0, SPEC)]);
        for key in ["process", "linux", "mounts", "hooks"] {
            let mut config = json!({ key: inner });
            let _ = inject(&registry, &mut config, &names(&["nvidia.com/gpu=all"]), &stat);
        }
    }
}
