//! The container is the same whether our hook or the low-level runtime mounts the driver's files.
//! Needs root, runc and a static busybox.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use bundle::{Below, RuncBundle, Way, can_run, make_nodes, text};
use gpu_host::{Capabilities, DriverFile, FileKind};
use serde_json::{Value, json};

/// Prints path, flags and propagation of every mount; mode, owner, size and link target of every file.
const LOOK: &str = "busybox cut -d' ' -f5-7 /proc/self/mountinfo | busybox sort; \
    for f in $(busybox find /usr /etc /var /lib -xdev | busybox sort); do \
        busybox stat -c '%n %F %a %u:%g %s' $f; busybox readlink $f; done; echo DONE";

fn place(name: &str, below: Below) -> RuncBundle {
    let place = RuncBundle::new(&format!("{name}-{below:?}"));
    make_nodes(&place);
    for (path, content) in [("host/tool", "#!"), ("host/firmware/gsp.bin", "gsp")] {
        let path = place.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    UnixListener::bind(place.path("host/socket")).unwrap();
    let mut inventory = place.inventory();
    let files = &mut inventory.driver.as_mut().unwrap().files;
    for (kind, host, path) in [
        (FileKind::Binary, "tool", "/usr/bin/nvidia-tool"),
        (FileKind::Firmware, "firmware", "/lib/firmware/nvidia/1.2.3"),
        (
            FileKind::Socket,
            "socket",
            "/var/run/nvidia-persistenced/socket",
        ),
    ] {
        files.push(DriverFile {
            kind,
            path: path.into(),
            host_path: place.path("host").join(host),
            capabilities: Capabilities::ALL,
            soname: None,
            links: Vec::new(),
            need: gpu_host::Need::Required,
        });
    }
    place.store(&inventory);
    place
}

fn hook_has_mounts(config: &Value) -> bool {
    let args = config.pointer("/hooks/createContainer/0/args");
    let args = args.and_then(Value::as_array).into_iter().flatten();
    args.into_iter().any(|a| a == "--mount")
}

/// The output of [`LOOK`] in a container with that configuration, and whether the hook got mounts as arguments.
fn view_in_container(
    below: Below,
    name: &str,
    more: &str,
    edit: impl Fn(&RuncBundle, &mut Value),
) -> (String, bool) {
    let place = place(name, below);
    for policy in ["config.toml", "config-crun.toml"] {
        let text = fs::read_to_string(place.path(policy)).unwrap();
        fs::write(place.path(policy), text + more).unwrap();
    }
    place.make_config("1", LOOK, |config| edit(&place, config));
    let out = text(&place.start_by(Way::Shim, below));
    assert!(out.contains("DONE"), "{name} {below:?}: {out}");
    let place_path = place.path("").display().to_string();
    // crun 1.8 makes some directories sticky.
    let out = out
        .replace(&place_path, "HERE/")
        .replace("directory 1755", "directory 755");
    (out, hook_has_mounts(&place.config()))
}

/// Compares the container as mounted by the hook and by the runtime, and checks which of them is the default.
fn compare(
    name: &str,
    below: &[Below],
    is_hooks: impl Fn(Below) -> bool,
    edit: impl Fn(&RuncBundle, &mut Value),
) {
    for below in below.iter().copied() {
        let (by_runtime, is_told) = view_in_container(below, name, "mounts = \"runtime\"\n", &edit);
        assert!(!is_told, "{name} {below:?}");
        let (usual, is_told) = view_in_container(below, name, "", &edit);
        assert_eq!(is_told, is_hooks(below), "{name} {below:?}");
        assert_eq!(usual, by_runtime, "{name} {below:?}");
        for path in [
            "/usr/lib/libcuda.so.1.2.3",
            "/usr/bin/nvidia-tool",
            "/lib/firmware/nvidia/1.2.3",
        ] {
            let mount = format!("{path} ro,nosuid,nodev");
            assert!(usual.contains(&mount), "{mount} in {usual}");
        }
        assert!(
            usual.contains("nvidia-persistenced/socket rw,nosuid,nodev,noexec"),
            "{usual}"
        );
    }
}

fn bind(place: &RuncBundle, config: &mut Value, at: &str, option: &str) {
    let source = place.path("host/volume");
    let _ = fs::create_dir(&source);
    config["mounts"].as_array_mut().unwrap().push(json!({
        "type": "bind", "source": source, "destination": at, "options": ["rbind", option],
    }));
}

/// Where the kernel or a sandbox has no mounts by descriptor, the runtime makes them.
#[test]
fn without_the_mount_api_the_runtime_mounts() {
    if !can_run() || !skips::has(&[skips::Need::Strace]) {
        return;
    }
    for error in ["ENOSYS", "EPERM"] {
        let place = place(&format!("without-{error}").to_lowercase(), Below::Runc);
        place.make_config("1", LOOK, |_| {});
        let log = place.path("strace.log").display().to_string();
        let inject = format!("inject=open_tree,mount_setattr:error={error}");
        // Until the shim becomes runc.
        let shim = ["strace", "-D", "-b", "execve", "-o", &log, "-e", &inject];
        let out = text(&place.start_on(&shim, Way::Shim, Below::Runc));
        assert!(out.contains("DONE"), "{out}");
        let mount = "/usr/lib/libcuda.so.1.2.3 ro,nosuid,nodev";
        assert!(out.contains(mount), "{out}");
        assert!(!hook_has_mounts(&place.config()), "{error}");
    }
}

/// crun that an engine starts as `runc`, by a link or a script, makes a read-only root read-only before its hooks, too.
#[test]
fn crun_by_the_name_of_runc_is_recognised() {
    if !can_run() || !Below::available().contains(&Below::Crun) {
        return;
    }
    for is_script in [false, true] {
        let place = place(&format!("named-runc-{is_script}"), Below::Crun);
        let runc = place.path("runc");
        if is_script {
            bundle::parts::program(&runc, "#!/bin/sh\nexec /usr/bin/crun \"$@\"\n");
        } else {
            symlink("/usr/bin/crun", &runc).unwrap();
        }
        let policy = place.path("config-crun.toml");
        let text_before = fs::read_to_string(&policy).unwrap();
        let runtimes = format!("[{:?}]", runc.to_str().unwrap());
        fs::write(&policy, text_before.replace("[\"crun\"]", &runtimes)).unwrap();
        place.make_config("1", LOOK, |config| config["root"]["readonly"] = json!(true));
        let out = text(&place.start_by(Way::Shim, Below::Crun));
        assert!(out.contains("DONE"), "{out}");
        let mount = "/usr/lib/libcuda.so.1.2.3 ro,nosuid,nodev";
        assert!(out.contains(mount), "{out}");
        assert!(!hook_has_mounts(&place.config()));
    }
}

#[test]
fn the_container_is_the_same_whoever_mounts() {
    if !can_run() {
        return;
    }
    let all = Below::available();
    compare("plain", all, |_| true, |_, _| {});
    compare(
        "volume",
        all,
        |_| true,
        |place, config| {
            bind(place, config, "/usr/lib", "rw");
            // Our hook makes no mount points in a volume; the runtime does.
            fs::write(place.path("host/volume/libcuda.so.1.2.3"), "").unwrap();
        },
    );
    // crun makes the root read-only before it runs the hook.
    compare(
        "read-only",
        all,
        |below| below != Below::Crun,
        |_, config| {
            config["root"]["readonly"] = json!(true);
        },
    );
    // A user's mount in a directory that we mount comes after it.
    compare(
        "within",
        all,
        |_| false,
        |place, config| {
            fs::create_dir_all(place.path("host/firmware/mine")).unwrap();
            bind(place, config, "/lib/firmware/nvidia/1.2.3/mine", "rw");
        },
    );
    // crun 1.8 itself cannot mount at /var/run if that is a link.
    compare(
        "link",
        &[Below::Runc],
        |_| true,
        |place, _| {
            for dir in ["run", "var"] {
                fs::create_dir_all(place.image(dir)).unwrap();
            }
            let _ = symlink("/run", place.image("var/run"));
        },
    );
}
