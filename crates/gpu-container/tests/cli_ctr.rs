//! `ctr run --gpus` with a real containerd and runc: containerd's client adds a prestart hook
//! that runs `nvidia-container-cli` from its PATH (`contrib/nvidia/nvidia.go`). Runs in its own
//! namespaces, where /etc is a temporary overlay. Needs root, containerd, runc, unshare and
//! busybox-static.
#![allow(clippy::unwrap_used)]

mod parts;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use gpu_host::inventory::SCHEMA;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use parts::BUSYBOX;
use skips::Need;

fn can_run() -> bool {
    parts::can_run(&[Need::Containerd, Need::Runc, Need::Unshare])
}

/// Starts a separate containerd below `$1`, then a container with GPU 1 that runs `$2`.
const INSIDE: &str = r#"
set -eu
cd "$1"
mount -t tmpfs tmpfs layer
mkdir layer/upper layer/work run
mount -t overlay overlay -o "lowerdir=/etc,upperdir=layer/upper,workdir=layer/work" /etc
mkdir -p /etc/nvidia-container-runtime
cp config.toml /etc/nvidia-container-runtime/config.toml
export PATH=$1/bin:$PATH
printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\n[grpc]\naddress = "%s/run/sock"\n' \
    "$1" "$1" "$1" >containerd.toml
printf 'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"]\n' |
    cat - containerd.toml >with-plugins.toml
containerd --config with-plugins.toml >log 2>&1 &
for n in $(seq 100); do
    ctr --address run/sock version >/dev/null 2>&1 && break
    sleep 0.2
done
ctr --address run/sock run --rm --gpus 1 --rootfs "$1/rootfs" "gpu-container-ctr-$$" \
    /bin/busybox sh -c "exec >/seen 2>&1; $2" || { code=$?; tail -5 log; exit $code; }
"#;

const LOOK: &str = "busybox ls /dev; busybox ls -l /usr/lib; busybox cat /dev/nvidia1; \
    for n in 0 1; do busybox mknod /n$n c 195 $n; busybox cat /n$n; done; \
    busybox cat /usr/lib/libcuda.so.1; busybox grep -c libcuda.so.1 /etc/ld.so.cache";

fn host(dir: &Path) {
    let node = |name: &str, minor: u32| {
        let host_path = dir.join("host").join(name);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&host_path, SFlag::S_IFCHR, mode, makedev(195, minor.into())).unwrap();
        fs::set_permissions(&host_path, fs::Permissions::from_mode(0o666)).unwrap();
        json!({"path": format!("/dev/{name}"), "host_path": host_path, "major": 195,
            "minor": minor, "mode": 0o666, "uid": 0, "gid": 0})
    };
    let gpu = |index: u32| {
        json!({"index": index, "minor": index, "uuid": format!("GPU-{index}"), "name": null,
            "brand": null, "compute_capability": null, "pci": "0000:3b:00.0",
            "node": node(&format!("nvidia{index}"), index), "drm": [], "drm_links": [],
            "mig_enabled": false, "mig": []})
    };
    let mut inventory = serde_json::to_value(gpu_host::Inventory::default()).unwrap();
    inventory["schema"] = json!(SCHEMA);
    inventory["gpus"] = json!([gpu(0), gpu(1)]);
    inventory["driver"] = json!({"version": "1.2.3", "cuda": null, "files": [{
        "kind": "library", "path": "/usr/lib/libcuda.so.1.2.3",
        "host_path": dir.join("host/libcuda.so.1.2.3"), "capabilities": ["compute"],
        "soname": "libcuda.so.1", "links": []}]});
    fs::write(dir.join("host/libcuda.so.1.2.3"), "a library\n").unwrap();
    fs::write(dir.join("inventory.json"), inventory.to_string()).unwrap();
    let config = format!(
        "[gpu-container]\ninventory = \"{}\"\n",
        dir.join("inventory.json").display()
    );
    fs::write(dir.join("config.toml"), config).unwrap();
}

#[test]
fn ctr_run_with_gpus_gives_exactly_that_gpu() {
    if !can_run() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let image = [
        "rootfs/bin",
        "rootfs/etc",
        "rootfs/dev",
        "rootfs/proc",
        "rootfs/sys",
    ];
    for name in image.iter().chain(&["bin", "host", "layer"]) {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::copy(BUSYBOX, dir.join("rootfs/bin/busybox")).unwrap();
    let name = dir.join("bin/nvidia-container-cli");
    symlink(env!("CARGO_BIN_EXE_gpu-container"), name).unwrap();
    host(dir);
    let out = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh", "-c", INSIDE, "sh"])
        .arg(dir)
        .arg(LOOK)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // On a busy machine ctr can end before it has copied all that the container printed, so the
    // container writes to a file.
    let seen = fs::read(dir.join("rootfs/seen")).unwrap_or_default();
    let seen = text(&seen) + &text(&out.stdout) + &text(&out.stderr);
    for wanted in [
        "\nnvidia1\n",
        "libcuda.so.1 -> libcuda.so.1.2.3",
        "/dev/nvidia1': No such device or address",
        "/n0': Operation not permitted",
        // Opens the requested GPU by a node that the container makes itself.
        "/n1': No such device or address",
        "a library\n1\n",
    ] {
        assert!(seen.contains(wanted), "{wanted:?} in\n{seen}");
    }
    assert!(!seen.contains("nvidia0"), "{seen}");
}
