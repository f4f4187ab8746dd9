//! Nothing is mounted on the host for containers without a mount namespace of their own, or if a hook
//! gets a pid of another pid namespace. Needs root, runc, unshare and a static busybox; says so and
//! passes if one is missing.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::fs;
use std::process::{Command, Output};

use bundle::{Below, RuncBundle, Way, can_run, make_nodes, text};
use serde_json::{Value, json};

/// Runs a command in a new mount namespace that serves as the host's, then writes its mount table to `table`.
const HOST: [&str; 9] = [
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-c",
];
const THEN_TABLE: &str = "\"$@\"; code=$?; cat /proc/self/mountinfo >\"$0\"; exit $code";

fn on_host(place: &RuncBundle, way: Way, below: Below) -> (Output, String) {
    let table = place.path("table");
    let mut host = HOST.to_vec();
    host.extend([THEN_TABLE, table.to_str().unwrap()]);
    let out = place.start_on(&host, way, below);
    let table = fs::read_to_string(table).unwrap();
    (out, of_place(place, &table))
}

/// The lines of this test; the table has the mounts of other tests as well.
fn of_place(place: &RuncBundle, table: &str) -> String {
    let dir = place.path("").display().to_string();
    let lines = table.lines().filter(|line| line.contains(&dir));
    lines.collect::<Vec<_>>().join("\n")
}

/// Removes the mount namespace, and the settings that runc refuses without one.
fn without_mount_namespace(config: &mut Value) {
    config["mounts"] = json!([]);
    let linux = config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|n| n["type"] != "mount");
}

fn assert_refused(ran: &(Output, String), why: &str) {
    let (out, table) = ran;
    let output = text(out);
    assert!(
        !out.status.success() && output.contains(why),
        "{why:?} in {output}"
    );
    for ours in ["libcuda", "nvidia", "ld.so.cache"] {
        assert!(!table.contains(ours), "{ours} in {table}");
    }
}

#[test]
fn the_shim_refuses_a_container_without_a_mount_namespace() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("shim-no-mntns");
    place.make_config("1", "echo started", without_mount_namespace);
    let ran = on_host(&place, Way::Shim, Below::Runc);
    assert_refused(&ran, "the container has no mount namespace of its own");
    assert!(!ran.1.contains("rootfs"), "runc was started: {}", ran.1);
    // Without a request for GPUs the container is not refused.
    place.make_config("void", "echo started", without_mount_namespace);
    let (out, _) = on_host(&place, Way::Shim, Below::Runc);
    assert!(!text(&out).contains("mount namespace"), "{}", text(&out));
}

#[test]
fn the_prestart_hook_refuses_a_container_without_a_mount_namespace() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("prestart-no-mntns");
    make_nodes(&place);
    place.make_config("1", "echo started", without_mount_namespace);
    let ran = on_host(&place, Way::Prestart, Below::Runc);
    assert_refused(&ran, "is in our own mount namespace");
}

/// The runtime uses another config.json than the one that the shim read.
#[test]
fn the_hook_that_mounts_refuses_the_hosts_mount_namespace() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("hook-no-mntns");
    make_nodes(&place);
    let runtime = place.path("low/runc");
    fs::create_dir(place.path("low")).unwrap();
    let script = format!(
        "#!/bin/sh\nsed -i 's/,{{\"type\":\"mount\"}}//; s/{{\"type\":\"mount\"}},//' {}\n\
         exec runc \"$@\"\n",
        place.path("bundle/config.json").display()
    );
    bundle::parts::program(&runtime, &script);
    let policy = fs::read_to_string(place.path("config.toml")).unwrap();
    let policy = policy.replace("\"runc\"", &format!("{:?}", runtime.to_str().unwrap()));
    fs::write(place.path("config.toml"), policy).unwrap();
    place.make_config("1", "echo started", |config| {
        without_mount_namespace(config);
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "mount"}));
    });
    let ran = on_host(&place, Way::Shim, Below::Runc);
    let hook = place.config()["hooks"]["createContainer"].to_string();
    assert!(hook.contains("--mount"), "{hook}");
    assert_refused(&ran, "this is the host's mount namespace");
}

/// Starts the hook directly, because runc cannot start a container in such a namespace; other runtimes can.
#[test]
fn the_prestart_hook_uses_the_process_of_its_own_pid_namespace() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("prestart-pidns");
    make_nodes(&place);
    place.write_policy("no-cgroups = true");
    place.make_config("1", "true", |_| {});
    let hook = place.path("nvidia-container-runtime-hook");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gpu-container"), &hook).unwrap();
    let script = format!(
        "unshare --mount --propagation private sleep 60 >&- 2>&- & \
         while [ \"$(readlink {proc}/$!/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" ]; do :; done; \
         echo '{{\"bundle\":\"{bundle}\",\"pid\":'$!'}}' | {hook} -config {config} prestart && \
         nsenter --mount={proc}/$!/ns/mnt cat /proc/self/mountinfo; \
         cat /proc/self/mountinfo >{table}; kill $!",
        proc = place.path("proc").display(),
        bundle = place.path("bundle").display(),
        hook = hook.display(),
        config = place.path("config.toml").display(),
        table = place.path("table").display(),
    );
    fs::create_dir(place.path("proc")).unwrap();
    let script = format!(
        "mount -t proc proc {}; {script}",
        place.path("proc").display()
    );
    // No --mount-proc: /proc shows the outer pid namespace.
    let out = Command::new("unshare")
        .args([
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .args(["sh", "-c", &script])
        .output()
        .unwrap();
    let output = text(&out);
    assert!(
        output.contains("rootfs/usr/lib/libcuda.so.1.2.3"),
        "{output}"
    );
    let table = fs::read_to_string(place.path("table")).unwrap();
    let table = of_place(&place, &table);
    assert!(!table.contains("libcuda"), "{table}");
}
