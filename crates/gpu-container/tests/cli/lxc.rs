//! `nvidia-container-cli` under LXC itself, with the hook of its package: the hook runs in the container's
//! namespaces, where /proc is still the host's, and gives no pid. Also needs LXC; says so and passes without.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::process::Command;

use crate::parts::text;
use crate::place::TestHost;
use crate::{LOOK, SEEN, can_run, contains_all};

const HOOK: &str = "/usr/share/lxc/hooks/nvidia";
const FIRST_ID: u32 = 100_000;

/// Starts the container of `$1`. Runs in its own mount namespace, where /etc is a temporary overlay.
const INSIDE: &str = "\
    set -eu
    cd \"$1\"
    mount -t tmpfs tmpfs layer
    mkdir layer/upper layer/work
    mount -t overlay overlay -o lowerdir=/etc,upperdir=layer/upper,workdir=layer/work /etc
    mkdir -p /etc/nvidia-container-runtime
    cp config.toml /etc/nvidia-container-runtime/
    printf 'root:100000:65536\\n' >/etc/subuid
    cp /etc/subuid /etc/subgid
    cat /proc/self/mountinfo >before
    PATH=$1:$PATH lxc-start --lxcpath=\"$1\" -n \"$2\" --foreground --logfile=log --logpriority=INFO || code=$?
    cat /proc/self/mountinfo >after
    exit ${code-0}";

/// Starts the container and returns its output; asserts that the host's mounts did not change.
fn started(place: &TestHost, more: &str) -> String {
    let name = format!("gpu-container-{}", std::process::id());
    for dir in ["layer", "rootfs/proc", "rootfs/sys", &name] {
        fs::create_dir_all(place.path(dir)).unwrap();
    }
    let rootfs = place.path("rootfs");
    fs::write(rootfs.join("look"), format!("exec >/tmp/out 2>&1; {LOOK}")).unwrap();
    let config = format!(
        "lxc.rootfs.path = dir:{}\nlxc.net.0.type = empty\nlxc.mount.auto = proc:mixed\n\
         lxc.autodev = 1\nlxc.apparmor.profile = unconfined\nlxc.init.cmd = /bin/busybox sh /look\n\
         lxc.environment = NVIDIA_VISIBLE_DEVICES=1\n\
         lxc.environment = NVIDIA_DRIVER_CAPABILITIES=compute,utility\n{more}",
        rootfs.display()
    );
    fs::write(place.path(&name).join("config"), config).unwrap();
    let out = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            INSIDE,
            "sh",
        ])
        .arg(place.dir.path())
        .arg(&name)
        .output()
        .unwrap();
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap_or_default();
    let output = format!("{}\n{}", text(&out), read("log"));
    assert_eq!(read("before"), read("after"), "{output}");
    assert!(out.status.success(), "{output}");
    read("rootfs/tmp/out")
}

fn has_lxc() -> bool {
    can_run() && skips::has(&[skips::Need::Lxc])
}

/// Root's container with mapped IDs, which LXC calls unprivileged; LXC's own hook runs for it.
#[test]
fn lxcs_hook_gives_an_unprivileged_container_its_gpu() {
    if !has_lxc() {
        return;
    }
    let place = TestHost::new();
    for path in ["", "bin", "bin/busybox", "etc", "dev", "tmp", "proc", "sys"] {
        let path = place.path("rootfs").join(path);
        if path.exists() || fs::create_dir(&path).is_ok() {
            lchown(path, Some(FIRST_ID), Some(FIRST_ID)).unwrap();
        }
    }
    let output = started(
        &place,
        &format!(
            "lxc.hook.mount = {HOOK}\nlxc.idmap = u 0 {FIRST_ID} 65536\n\
             lxc.idmap = g 0 {FIRST_ID} 65536\n"
        ),
    );
    contains_all(&output, &SEEN);
    assert!(!output.contains("nvidia0"), "{output}");
    place.assert_host_unchanged();
}

/// LXC's own hook refuses privileged containers; our program does not.
#[test]
fn a_users_hook_gives_a_privileged_container_its_gpu() {
    if !has_lxc() {
        return;
    }
    let place = TestHost::new();
    let hook = place.path("hook");
    crate::parts::program(
        &hook,
        "#!/bin/sh\nexec nvidia-container-cli configure --no-cgroups --device=$NVIDIA_VISIBLE_DEVICES \
         --compute --utility \"$LXC_ROOTFS_MOUNT\"\n",
    );
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let output = started(&place, &format!("lxc.hook.mount = {}\n", hook.display()));
    contains_all(&output, &SEEN);
    assert!(!output.contains("nvidia0"), "{output}");
    place.assert_host_unchanged();
}
