//! With our runtime as an engine's default, every container of the host goes through it. A container that asks for no
//! GPU starts whatever our files look like; one that asks is refused with the reason; nothing hangs. The low-level
//! runtime is a script that prints its arguments.
#![allow(clippy::unwrap_used)]

mod place;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use place::{StubbedBundle, text};
use serde_json::{Value, json};

/// A place where `runc` and `crun` are stand-ins, since a broken config.toml names no runtime.
fn place() -> StubbedBundle {
    let place = StubbedBundle::new();
    fs::create_dir(place.path("path")).unwrap();
    place.program("path/runc", "#!/bin/sh\necho low-level \"$@\"\n");
    place
}

/// The output of the shim with these arguments. A shim that hangs is ended.
fn shim(place: &StubbedBundle, name: &str, args: &[&str]) -> Output {
    let mut command = place.named(name);
    command
        .env("PATH", place.path("path"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!(
                "{args:?}: hangs: {}",
                text(&child.wait_with_output().unwrap())
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn create(place: &StubbedBundle, env: &[&str], edit: impl FnOnce(&mut Value)) -> Output {
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {"args": ["sh"], "env": env, "cwd": "/"},
        "root": {"path": "rootfs"},
    });
    edit(&mut config);
    place.write_config(&config);
    let _ = fs::remove_file(place.path("log.json"));
    create_as_is(place)
}

fn create_as_is(place: &StubbedBundle) -> Output {
    let (log, bundle) = (place.path("log.json"), place.path("bundle"));
    let args = [
        "--log",
        log.to_str().unwrap(),
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "id",
    ];
    shim(place, "gpu-container-runtime", &args)
}

#[track_caller]
fn assert_starts(place: &StubbedBundle, what: &str, env: &[&str]) {
    let out = create(place, env, |_| {});
    let before = json!({
        "ociVersion": "1.0.2",
        "process": {"args": ["sh"], "env": env, "cwd": "/"},
        "root": {"path": "rootfs"},
    });
    assert!(
        out.status.success() && text(&out).contains("low-level --log"),
        "{what}: {}",
        text(&out)
    );
    assert_eq!(place.config(), before, "{what}: config.json was edited");
}

#[track_caller]
fn assert_refused(place: &StubbedBundle, what: &str, reason: &str, edit: impl FnOnce(&mut Value)) {
    let out = create(place, &[], edit);
    assert!(!out.status.success(), "{what}: {}", text(&out));
    assert!(
        !text(&out).contains("low-level --log"),
        "{what}: {}",
        text(&out)
    );
    let log = place.log();
    assert!(
        log.contains(reason) && log.contains("\"level\":\"error\""),
        "{what}: {reason:?} is not in {log}"
    );
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.unwrap();
}

/// Ways in which a file can be broken.
const WAYS: [&str; 9] = [
    "a directory",
    "a FIFO",
    "a loop of links",
    "below a file",
    "of bytes",
    "of nonsense",
    "of wrong types",
    "endlessly nested",
    "huge",
];

fn break_file(path: &Path, way: &str) {
    remove(path);
    match way {
        "a directory" => fs::create_dir(path).unwrap(),
        "a FIFO" => fifo(path),
        "a loop of links" => symlink(path, path).unwrap(),
        "below a file" => symlink("/etc/hostname/below", path).unwrap(),
        "of bytes" => fs::write(path, b"\xff\xfe\x00\x01").unwrap(),
        "of nonsense" => fs::write(path, "{[=").unwrap(),
        "of wrong types" => fs::write(path, "nvidia-container-runtime.mode = [1]\n").unwrap(),
        "endlessly nested" => fs::write(path, format!("a = {}", "[".repeat(1 << 19))).unwrap(),
        "huge" => {
            let file = fs::File::create(path).unwrap();
            file.set_len(8 << 40).unwrap();
        }
        other => panic!("{other}"),
    }
}

fn ask_by_variable(config: &mut Value) {
    config["process"]["env"] = json!(["NVIDIA_VISIBLE_DEVICES=0"]);
}

#[test]
fn without_a_policy_only_containers_that_ask_for_gpus_are_refused() {
    let place = place();
    for way in WAYS {
        break_file(&place.path("config.toml"), way);
        let what = format!("config.toml is {way}");
        for env in [
            &[][..],
            &["NVIDIA_VISIBLE_DEVICES=void"],
            &["NVIDIA_GDS=enabled"],
        ] {
            assert_starts(&place, &what, env);
        }
        let log = place.log();
        assert!(
            log.contains("\"level\":\"warning\"") && log.contains("config.toml"),
            "{what}: {log}"
        );
        assert!(log.contains("asks for no GPU"), "{what}: {log}");
        assert_refused(&place, &what, "config.toml", ask_by_variable);
        assert_refused(&place, &what, "config.toml", |config| {
            config["process"]["env"] = json!(["CUDA_VERSION=9.0"]);
        });
        assert_refused(&place, &what, "config.toml", |config| {
            config["annotations"] = json!({"cdi.k8s.io/x": "nvidia.com/gpu=0"});
        });
        assert_refused(&place, &what, "config.toml", |config| {
            config["mounts"] = json!([{
                "source": "/dev/null",
                "destination": "/var/run/nvidia-container-devices/GPU-0",
            }]);
        });
    }
}

#[test]
fn without_a_policy_every_other_command_is_passed_on() {
    let place = place();
    for way in WAYS {
        break_file(&place.path("config.toml"), way);
        for command in [
            "state",
            "start",
            "kill",
            "delete",
            "exec",
            "ps",
            "pause",
            "resume",
            "update",
            "features",
            "events",
            "checkpoint",
            "restore",
            "unknown",
        ] {
            let out = shim(
                &place,
                "gpu-container-runtime",
                &["--root", "/r", command, "id"],
            );
            let expected = format!("low-level --root /r {command} id\n");
            assert_eq!(text(&out), expected, "config.toml is {way}");
            assert!(out.status.success());
        }
    }
}

#[test]
fn the_low_level_runtime_of_a_broken_policy_is_still_used() {
    let place = place();
    place.program(
        "site-runtime",
        "#!/bin/sh\necho low-level of the site \"$@\"\n",
    );
    let site = place.path("site-runtime");
    for broken in ["mode = \"fast\"", "mode = \"auto", "= 1"] {
        let text = format!(
            "[nvidia-container-runtime]\nruntimes = [\"{}\"]\n{broken}\n",
            site.display()
        );
        fs::write(place.path("config.toml"), text).unwrap();
        let out = shim(&place, "gpu-container-runtime", &["state", "id"]);
        assert_eq!(
            self::text(&out),
            "low-level of the site state id\n",
            "{broken}"
        );
        let out = create(&place, &[], |_| {});
        assert!(
            self::text(&out).contains("low-level of the site --log"),
            "{broken}"
        );
    }
    // Where that one is gone, too, the usual ones are there.
    remove(&site);
    let out = shim(&place, "gpu-container-runtime", &["state", "id"]);
    assert_eq!(text(&out), "low-level state id\n");
}

/// The policy can be read, and names only what is not there.
#[test]
fn low_level_runtimes_that_are_gone_matter_only_to_containers_that_ask() {
    let place = place();
    let text = "[nvidia-container-runtime]\nruntimes = [\"site-runtime\"]\n";
    fs::write(place.path("config.toml"), text).unwrap();
    for command in ["state", "kill", "delete"] {
        let out = shim(&place, "gpu-container-runtime", &[command, "id"]);
        assert_eq!(self::text(&out), format!("low-level {command} id\n"));
    }
    assert_starts(&place, "without its low-level runtime", &["A=b"]);
    assert!(place.log().contains("site-runtime"), "{}", place.log());
    let none = "none of the low-level runtimes site-runtime is installed";
    assert_refused(
        &place,
        "without its low-level runtime",
        none,
        ask_by_variable,
    );
}

#[test]
fn swarm_resources_of_a_broken_policy_still_ask() {
    let place = place();
    let text = "swarm-resource = \"DOCKER_RESOURCE_GPU\"\ndisable-require = 1\n";
    fs::write(place.path("config.toml"), text).unwrap();
    assert_starts(&place, "another variable", &["DOCKER_RESOURCE_DISK=1"]);
    assert_refused(&place, "swarm", "disable-require", |config| {
        config["process"]["env"] = json!(["DOCKER_RESOURCE_GPU=GPU-0"]);
    });
}

#[test]
fn a_broken_inventory_or_spec_matters_only_to_containers_that_ask() {
    let place = place();
    for way in WAYS {
        break_file(&place.path("inventory.json"), way);
        assert_starts(&place, &format!("inventory is {way}"), &[]);
        assert_refused(&place, way, "inventory.json", ask_by_variable);
    }
    let place = self::place();
    for way in WAYS {
        break_file(&place.path("specs/broken.json"), way);
        assert_starts(&place, &format!("a spec is {way}"), &[]);
    }
    // The driver root is not there.
    let runtime = place.path("fakerunc");
    let keys = "nvidia-container-cli.root = \"/run/nvidia/gone\"";
    place.policy_of(keys, &format!("runtimes = [\"{}\"]", runtime.display()));
    assert_starts(&place, "no driver root", &[]);
}

#[test]
fn a_log_that_cannot_be_written_keeps_no_container_from_starting() {
    let place = place();
    let runtime = place.path("fakerunc");
    let log = place.path("own.log");
    let logs: [(&str, PathBuf); 5] = [
        ("in a missing directory", place.path("gone/own.log")),
        ("a directory", log.clone()),
        ("a FIFO", log.clone()),
        ("a loop of links", log.clone()),
        ("on a full disk", "/dev/full".into()),
    ];
    for (way, log) in logs {
        if WAYS.contains(&way) {
            break_file(&log, way);
        }
        let keys = format!(
            "debug = \"{}\"\nlog-level = \"debug\"\nruntimes = [\"{}\"]",
            log.display(),
            runtime.display()
        );
        place.policy_of("", &keys);
        assert_starts(&place, &format!("the log is {way}"), &[]);
        // The log of the engine, in the same ways.
        let bundle = place.path("bundle");
        let args = [
            "--log",
            log.to_str().unwrap(),
            "create",
            "--bundle",
            bundle.to_str().unwrap(),
            "id",
        ];
        break_file(&place.path("config.toml"), "of nonsense");
        let out = shim(&place, "gpu-container-runtime", &args);
        assert!(
            text(&out).contains("low-level --log"),
            "{way}: {}",
            text(&out)
        );
    }
}

/// A config.json that only the low-level runtime may understand is left to it, unless it may ask for GPUs.
#[test]
fn an_odd_config_json_goes_on_to_the_low_level_runtime() {
    let place = place();
    let path = place.path("bundle/config.json");
    let passed_on = |what: &str| {
        let out = create_as_is(&place);
        assert!(
            text(&out).contains("low-level --log"),
            "{what}: {}",
            text(&out)
        );
        assert!(out.status.success(), "{what}");
    };
    for way in [
        "a directory",
        "a FIFO",
        "of bytes",
        "of nonsense",
        "endlessly nested",
        "huge",
    ] {
        break_file(&path, way);
        passed_on(way);
    }
    remove(&path);
    symlink("/dev/zero", &path).unwrap();
    passed_on("endless");
    remove(&path);
    let texts: [(&str, &[u8]); 8] = [
        ("empty", b""),
        ("cut off", br#"{"process": {"env": ["A=1""#),
        ("a list", b"[]"),
        ("null", b"null"),
        (
            "with two parts of a name",
            br#"{"process": {}, "process": {"env": []}}"#,
        ),
        (
            "of other types",
            br#"{"process": [], "mounts": {}, "annotations": 1}"#,
        ),
        // What Go's parser takes and serde_json does not.
        (
            "with half a character",
            br#"{"annotations": {"a": "\ud800"}, "process": {}}"#,
        ),
        (
            "with bytes in a string",
            b"{\"annotations\": {\"a\": \"\xff\"}}",
        ),
    ];
    for (what, config) in texts {
        fs::write(&path, config).unwrap();
        passed_on(what);
        // The same, longer than what is held in memory.
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(config).unwrap();
        file.write_all(&vec![b' '; 17 << 20]).unwrap();
        drop(file);
        passed_on(&format!("long, {what}"));
    }
    let asking: [&[u8]; 4] = [
        br#"{"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0""#,
        br#"{"annotations": {"a": "\ud800"}, "process": {"env": ["NVIDIA_VISIBLE_DEVICES=0"]}}"#,
        br#"{"annotations": {"cdi.k8s.io/x": "\ud800"}}"#,
        br#"{"process": {}, "process": {"env": ["CUDA_VERSION=9"]}} x"#,
    ];
    for config in asking {
        for padding in [0, 17 << 20] {
            fs::write(&path, [config, &vec![b' '; padding]].concat()).unwrap();
            let out = create_as_is(&place);
            assert!(!out.status.success(), "{}", text(&out));
            assert!(place.log().contains("config.json: "), "{}", place.log());
        }
    }
}

/// The hook of `docker run --gpus` can be configured for every container, too (`always` in a hooks.d file).
#[test]
fn the_hook_refuses_only_containers_that_ask_for_gpus() {
    let place = place();
    let state = place.path("state.json");
    let hook = |env: &[&str]| {
        place.write_config(&json!({"root": {"path": "rootfs"}, "process": {"env": env}}));
        fs::write(
            &state,
            json!({"bundle": place.path("bundle"), "pid": 1}).to_string(),
        )
        .unwrap();
        let mut command: Command = place.named("nvidia-container-runtime-hook");
        let config = place.path("config.toml");
        command.arg("-config").arg(config).arg("prestart");
        command
            .stdin(fs::File::open(&state).unwrap())
            .output()
            .unwrap()
    };
    for way in WAYS {
        break_file(&place.path("config.toml"), way);
        let out = hook(&["A=1"]);
        assert!(out.status.success(), "{way}: {}", text(&out));
        let out = hook(&["NVIDIA_VISIBLE_DEVICES=0"]);
        assert!(!out.status.success(), "{way}");
        assert!(text(&out).contains("config.toml"), "{way}: {}", text(&out));
    }
}
