//! The shim and its hooks with a real runc, on usual images. Needs root, runc and a static busybox.
//! Hostile images are in `hostile/`.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use bundle::{Below, RuncBundle, WAYS, Way, can_run, make_nodes, text};
use gpu_host::{DeviceNode, ImexChannel};
use serde_json::json;
use skips::Need;

/// Opens a GPU by a node that the container makes itself, to see what the device cgroup allows.
const OPEN: &str = "open() { busybox mknod /tmp/n$1 c 195 $1; busybox cat /tmp/n$1; }; ";

#[test]
fn only_the_requested_gpu_is_given() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("one");
    let script = format!(
        "{OPEN} busybox ls /dev; busybox ls -l /usr/lib; busybox cat /dev/nvidia1; open 0; open 1; \
         busybox grep -c libcuda.so.1 /etc/ld.so.cache; busybox cat /usr/lib/libcuda.so; \
         echo; echo x >/usr/lib/libcuda.so.1.2.3; echo $NVIDIA_VISIBLE_DEVICES"
    );
    let out = text(&place.run("1", &script));
    for wanted in [
        "\nnvidia1\n",
        "nvidiactl",
        "libcuda.so.1 -> libcuda.so.1.2.3",
        "/dev/nvidia1': No such device or address",
        "/tmp/n0': Operation not permitted",
        "/tmp/n1': No such device or address",
        "a library",
        "Read-only file system",
        "\nvoid\n",
    ] {
        assert!(out.contains(wanted), "{wanted:?} in\n{out}");
    }
    assert!(!out.contains("\nnvidia0\n"), "{out}");
    let library = fs::read_to_string(place.path("host/libcuda.so.1.2.3")).unwrap();
    assert_eq!(library, "a library");
}

const SEEN_BY_HOOK: [&str; 5] = [
    "nvidiactl",
    "libcuda.so.1 -> libcuda.so.1.2.3",
    "/dev/nvidia1': No such device or address",
    "a library",
    "Read-only file system",
];
const LOOK: &str = "busybox ls /dev; busybox ls -ln /usr/lib /etc; busybox cat /dev/nvidia1; \
    busybox cat /usr/lib/libcuda.so; echo; echo x >/usr/lib/libcuda.so.1.2.3; ";

#[test]
fn the_prestart_hook_injects_into_a_container_that_is_there() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("prestart");
    make_nodes(&place);
    let out = text(&place.run_with_hook(&format!("{LOOK} {OPEN} open 0; open 1"), |_| {}));
    for wanted in SEEN_BY_HOOK.iter().chain(&[
        "/tmp/n0': Operation not permitted",
        "/tmp/n1': No such device or address",
    ]) {
        assert!(out.contains(wanted), "{wanted:?} in\n{out}");
    }
    assert!(!out.contains("\nnvidia0\n"), "{out}");
}

/// The confined hook can still read, load and replace BPF programs for devices.
#[test]
fn the_prestart_hook_allows_devices_in_the_unified_hierarchy() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("unified");
    make_nodes(&place);
    place.make_config("1", &format!("{LOOK} {OPEN} open 0; open 1"), |_| {});
    let plain = text(&place.start_plain(Below::RuncUnified));
    if !plain.contains("nvidiactl") && !plain.contains("can't open") {
        skips::skip(Need::UnifiedRunc, &plain);
        return;
    }
    let out = text(&place.start_by(Way::Prestart, Below::RuncUnified));
    for wanted in SEEN_BY_HOOK.iter().chain(&[
        "/tmp/n0': Operation not permitted",
        "/tmp/n1': No such device or address",
    ]) {
        assert!(out.contains(wanted), "{wanted:?} in\n{out}");
    }
}

#[test]
fn the_prestart_hook_works_in_a_user_namespace() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("userns");
    make_nodes(&place);
    let out = text(&place.run_with_hook(LOOK, |config| map_users(&place, config)));
    for wanted in SEEN_BY_HOOK {
        assert!(out.contains(wanted), "{wanted:?} in\n{out}");
    }
    // Files that were made belong to the container's root.
    let cache = fs::metadata(place.image("etc/ld.so.cache")).unwrap();
    assert_eq!((cache.uid(), cache.gid()), (100_000, 100_000));
}

/// Gives the container a user namespace in which another user of the host's is root, who owns the image.
fn map_users(place: &RuncBundle, config: &mut serde_json::Value) {
    // For the hook, which runs as that user, and what it is traced to.
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    for owned in ["", "bin", "etc", "tmp", "bin/busybox"] {
        let path = place.path("bundle/rootfs").join(owned);
        chown(path, Some(100_000), Some(100_000)).unwrap();
    }
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    config["linux"]["uidMappings"] = ids.clone();
    config["linux"]["gidMappings"] = ids;
}

#[test]
fn a_container_without_a_request_is_left_alone() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("none");
    let out = text(&place.run("void", &format!("{OPEN} busybox ls /dev; open 0")));
    assert!(
        !out.contains("nvidiactl") && out.contains("not permitted"),
        "{out}"
    );
    assert_eq!(place.config().get("hooks"), None);
    assert!(!place.path("bundle/rootfs/etc/ld.so.cache").exists());
}

#[test]
fn a_gpu_that_is_not_there_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("seven");
    let out = place.run("7", "echo started");
    let output = text(&out);
    assert!(
        !out.status.success() && !output.contains("started"),
        "{output}"
    );
    assert!(output.contains("no GPU \"7\""), "{output}");
}

/// All channels of the driver (`NVreg_ImexChannelCount`) are given. With the hook each one is a mount;
/// that also works under an engine with a low limit on open files.
#[test]
fn every_imex_channel_of_a_host_is_given() {
    if !can_run() {
        return;
    }
    // Descriptors before and at most, and whether root may raise the latter, which it may not in a user namespace.
    for (way, limits) in [
        (Way::Shim, "ulimit -Sn 256"),
        (Way::Prestart, "ulimit -Sn 256"),
        (
            Way::Prestart,
            "ulimit -n 4096; set -- setpriv --bounding-set=-sys_resource \"$@\"",
        ),
    ] {
        let place = RuncBundle::new(&format!("imex-{way:?}"));
        make_nodes(&place);
        let mut inventory = place.inventory();
        let node = inventory.gpus[0].node.clone();
        inventory.imex_channels = (0..2048)
            .map(|id| ImexChannel {
                id,
                node: DeviceNode {
                    path: format!("/dev/nvidia-caps-imex-channels/channel{id}").into(),
                    ..node.clone()
                },
            })
            .collect();
        place.store(&inventory);
        let script = "set -- /dev/nvidia-caps-imex-channels/*; echo CHANNELS $#";
        place.make_config("1", script, |config| {
            let env = config["process"]["env"].as_array_mut().unwrap();
            env.push("NVIDIA_IMEX_CHANNELS=all".into());
        });
        let limited = format!("{limits}; exec \"$@\"");
        let host = ["sh", "-c", &limited, "sh"];
        let out = text(&place.start_on(&host, way, Below::Runc));
        assert!(out.contains("CHANNELS 2048\n"), "{way:?}, {limits}: {out}");
    }
}

/// Mount points that are not UTF-8, of a user's FUSE file system, or of a volume behind a link of the
/// image, do not keep a container from starting.
#[test]
fn the_name_of_a_mount_need_not_be_utf8() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        for is_of_host in [true, false] {
            let name = format!("not-utf8-{way:?}-{is_of_host}");
            let place = RuncBundle::new(&name);
            make_nodes(&place);
            let odd = OsStr::from_bytes(b"not-utf8-\xff");
            fs::create_dir(place.path("host/volume")).unwrap();
            let within = if is_of_host { "host" } else { "bundle/rootfs" };
            fs::create_dir(place.path(within).join(odd)).unwrap();
            symlink(odd, place.image("volume")).unwrap();
            place.make_config("1", LOOK, |config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.push(json!({
                    "type": "bind", "source": place.path("host/volume"), "options": ["rbind"],
                    "destination": if is_of_host { "/data" } else { "/volume" },
                }));
                // The mount table is read to find the owner of this mount.
                mounts.push(json!({"type": "tmpfs", "source": "tmpfs", "destination": "/etc"}));
            });
            let dir = place.path("host").display().to_string();
            let mount = "at=$1/$(printf 'not-utf8-\\377'); shift; mount --bind \"$at\" \"$at\"; exec \"$@\"";
            let host = ["unshare", "--mount", "sh", "-ec", mount, "sh", &dir];
            let host = if is_of_host { &host[..] } else { &[] };
            let out = text(&place.start_on(host, way, Below::Runc));
            for wanted in SEEN_BY_HOOK {
                assert!(out.contains(wanted), "{name}: {wanted:?} in\n{out}");
            }
        }
    }
}

/// What is there for a hook since Linux 5.2 and 5.12: mounts by descriptor, and their flags.
const MOUNT_API: &str = "open_tree,move_mount,fsopen,fsconfig,fsmount,mount_setattr";
/// All that hooks use and Linux 4.15 lacks, or a sandbox may refuse.
const SINCE_LINUX_5: &str = "open_tree,move_mount,fsopen,fsconfig,fsmount,mount_setattr,openat2,statx,pidfd_open,close_range";

/// Before Linux 5.12 mount flags are set in another way, before 5.8 mount IDs are read from procfs,
/// before 5.6 we resolve the container's paths component by component, and before 5.2 we mount by mount(2). A
/// sandbox's filter may say EPERM instead.
#[test]
fn the_prestart_hook_works_on_kernels_without_mount_setattr_or_openat2() {
    if !can_run() || !skips::has(&[Need::Strace]) {
        return;
    }
    for (lacks, error) in [
        ("mount_setattr", "ENOSYS"),
        ("mount_setattr", "EPERM"),
        ("openat2", "ENOSYS"),
        ("statx", "ENOSYS"),
        ("mount_setattr,openat2", "ENOSYS"),
        ("mount_setattr,openat2,statx", "ENOSYS"),
        ("pidfd_open", "ENOSYS"),
        (MOUNT_API, "ENOSYS"),
        (MOUNT_API, "EPERM"),
        (SINCE_LINUX_5, "ENOSYS"),
        (SINCE_LINUX_5, "EPERM"),
    ] {
        let place = RuncBundle::new("old-kernel");
        make_nodes(&place);
        place.lacks(lacks, error);
        let script = format!("{LOOK} busybox cat /proc/self/mountinfo");
        let out = text(&place.run_with_hook(&script, |_| {}));
        let strace = fs::read_to_string(place.path("strace.log")).unwrap();
        assert!(strace.contains(error), "{strace}");
        for wanted in SEEN_BY_HOOK {
            assert!(
                out.contains(wanted),
                "{wanted:?} without {lacks} ({error}) in\n{out}"
            );
        }
        // What mounts are made in is nowhere to be seen.
        let roots = out.lines().filter(|l| l.split(' ').nth(4) == Some("/"));
        assert_eq!(roots.count(), 1, "without {lacks}: {out}");
        let mount = |path: &str| {
            let mount_line = out.lines().find(|l| l.contains(&format!(" {path} ")));
            mount_line
                .unwrap_or_else(|| panic!("no mount at {path}: {out}"))
                .to_owned()
        };
        let flags = |path: &str| mount(path).split(' ').nth(5).unwrap().to_owned();
        assert!(flags("/usr/lib/libcuda.so.1.2.3").starts_with("ro,nosuid,nodev"));
        assert!(
            flags("/dev/nvidia1").contains("nosuid,noexec"),
            "{}",
            mount("/dev/nvidia1")
        );
        // No optional fields: the mount is neither shared nor a slave.
        assert!(
            !mount("/dev/nvidia1").contains("shared:")
                && !mount("/dev/nvidia1").contains("master:")
        );
    }
}

/// Whichever way in, also where the container's root is another user.
#[test]
fn every_hook_works_without_what_linux_has_since_5_2() {
    if !can_run() || !skips::has(&[Need::Strace]) {
        return;
    }
    for error in ["ENOSYS", "EPERM"] {
        for (way, below) in WAYS
            .into_iter()
            .map(|way| (way, Below::Runc))
            .chain([(Way::Cdi, Below::Crun), (Way::Prestart, Below::Crun)])
        {
            if !Below::available().contains(&below) {
                continue;
            }
            for is_mapped in [false, true] {
                // For the others runc binds nodes of this machine's (`user_namespace.rs`).
                if is_mapped && (way, below) != (Way::Prestart, Below::Runc) {
                    continue;
                }
                let what = format!("{way:?} {below:?} mapped: {is_mapped} {error}");
                let place = RuncBundle::new("since-5.2");
                make_nodes(&place);
                place.lacks(SINCE_LINUX_5, error);
                place.make_config("1", LOOK, |config| {
                    if is_mapped {
                        map_users(&place, config);
                    }
                });
                let out = text(&place.start_by(way, below));
                for wanted in SEEN_BY_HOOK {
                    assert!(out.contains(wanted), "{what}: {wanted:?} in\n{out}");
                }
                let strace = fs::read_to_string(place.path("strace.log")).unwrap();
                assert!(strace.contains(error), "{what}: {strace}");
            }
        }
    }
}

/// `GPU_CONTAINER_FOREIGN_HOOK="/path/qemu-aarch64-static /path/gpu-container" cargo test -p gpu-container --test runc -- --ignored`:
/// the hook of our CDI spec and of the shim, as another machine's program. Not the prestart hook: an emulator has threads,
/// and a process with threads enters no mount namespace.
#[test]
#[ignore = "needs the program built for another machine, and an emulator"]
fn the_hook_works_on_another_machine() {
    assert!(std::env::var_os("GPU_CONTAINER_FOREIGN_HOOK").is_some());
    assert!(can_run());
    for way in [Way::Shim, Way::Cdi] {
        for below in Below::available() {
            if (way, *below) == (Way::Shim, Below::Crun) {
                continue;
            }
            let place = RuncBundle::new("foreign");
            make_nodes(&place);
            place.make_config("1", LOOK, |_| {});
            let out = text(&place.start_by(way, *below));
            for wanted in SEEN_BY_HOOK {
                assert!(
                    out.contains(wanted),
                    "{way:?} {below:?}: {wanted:?} in\n{out}"
                );
            }
            let cache = fs::read(place.image("etc/ld.so.cache")).unwrap();
            let entries = gpu_host::ldcache::parse(&cache).unwrap();
            // FLAG_AARCH64_LIB64: the hook, not this test, knows the machine.
            assert_eq!(entries[0].flags & 0xff00, 0x0a00, "{way:?} {below:?}");
        }
    }
}

/// The image has a directory where a library has to be mounted: everything done before is rolled
/// back.
#[test]
fn a_failed_injection_leaves_no_mount_and_no_mount_point() {
    if !can_run() {
        return;
    }
    let place = RuncBundle::new("half-way");
    make_nodes(&place);
    let mut inventory = place.inventory();
    let files = &mut inventory.driver.as_mut().unwrap().files;
    let mut second = files[0].clone();
    second.path = "/usr/lib64/libsecond.so.1.2.3".into();
    second.links.clear();
    files.push(second);
    place.store(&inventory);
    fs::create_dir_all(place.image("usr/lib64/libsecond.so.1.2.3")).unwrap();
    // A process in its own mount namespace, as callers of `configure` have.
    let program = env!("CARGO_BIN_EXE_gpu-container");
    let state =
        serde_json::json!({"ociVersion": "1.0.2", "bundle": place.path("bundle"), "pid": 0});
    place.make_config("1", "true", |_| {});
    let script = format!(
        "unshare --mount --propagation private sh -c 'mount --bind {rootfs} {rootfs}; echo >{dir}/up; exec sleep 60' >&- 2>&- & \
         until [ -e {dir}/up ]; do sleep 0.01; done; \
         cat /proc/$!/mountinfo | wc -l >{dir}/before; \
         echo '{state}' | sed \"s/\\\"pid\\\":0/\\\"pid\\\":$!/\" >{dir}/state.json; \
         ln -s {program} {dir}/nvidia-container-runtime-hook; \
         {dir}/nvidia-container-runtime-hook -config {dir}/config.toml prestart <{dir}/state.json; \
         cat /proc/$!/mountinfo | wc -l >{dir}/after; kill $!",
        rootfs = place.path("bundle/rootfs").display(),
        dir = place.path("").display(),
    );
    place.write_policy("no-cgroups = true");
    let out = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .output()
        .unwrap();
    let output = text(&out);
    assert!(
        output.contains("libsecond.so.1.2.3: make a file to mount on: Is a directory"),
        "{output}"
    );
    let count = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(count("before"), count("after"), "{output}");
    assert!(!place.image("usr/lib").exists(), "{output}");
    assert!(!place.image("dev").exists(), "{output}");
}

#[test]
fn files_that_cannot_be_written_are_covered_or_noted() {
    if !can_run() {
        return;
    }
    for (name, has_cache) in [
        ("covered", true),
        ("covered-6.14", true),
        ("covered-5.1", true),
        ("noted", false),
    ] {
        let place = RuncBundle::new(name);
        make_nodes(&place);
        if name.ends_with("5.1") {
            if !skips::has(&[Need::Strace]) {
                continue;
            }
            place.lacks(MOUNT_API, "ENOSYS");
        }
        if name.ends_with("6.14") {
            if !skips::has(&[Need::Strace]) {
                continue;
            }
            // The first three mounts are the library and two nodes; the fourth is never attached.
            place.fails("open_tree", 4, "EINVAL");
        }
        if has_cache {
            fs::write(place.image("etc/ld.so.cache"), "theirs").unwrap();
        }
        let script = "echo started; busybox grep -c libcuda.so.1 /etc/ld.so.cache; \
            echo x >/etc/ld.so.cache; busybox grep ld.so.cache /proc/self/mountinfo";
        let out = text(&place.run_with_hook(script, |config| {
            config["mounts"].as_array_mut().unwrap().push(json!({
                "type": "bind", "source": place.image("etc"), "destination": "/etc", "options": ["rbind", "ro"],
            }));
        }));
        assert!(
            out.contains("started\n") && out.contains("Read-only file system"),
            "{out}"
        );
        assert_eq!(
            out.contains("/etc/ld.so.cache ro,nosuid,nodev,noexec"),
            has_cache,
            "{out}"
        );
        if name.ends_with("6.14") {
            let strace = fs::read_to_string(place.path("strace.log")).unwrap();
            assert_eq!(strace.matches("open_tree(").count(), 5, "{strace}");
        }
        // The image's own file, if any, is unchanged afterwards.
        let left = fs::read_to_string(place.image("etc/ld.so.cache")).ok();
        assert_eq!(left, has_cache.then(|| "theirs".to_owned()));
    }
}
