//! The shim and its hook with a real runc, on images good and hostile. Needs root, runc and
//! a static busybox; says so and passes where one is missing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gpu_host::{
    Capabilities, ControlNode, DeviceNode, Driver, DriverFile, FileKind, Gpu, Inventory, Link,
    PciAddress,
};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

fn can_run() -> bool {
    let runc = Command::new("runc").arg("--version").output();
    let can = nix::unistd::geteuid().is_root() && Path::new(BUSYBOX).exists() && runc.is_ok();
    if !can {
        println!("skip: needs root, runc and busybox-static");
    }
    can
}

fn node(name: &str, minor: u32) -> DeviceNode {
    DeviceNode {
        path: format!("/dev/{name}").into(),
        host_path: format!("/dev/{name}").into(),
        major: 195,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

fn gpu(index: u32) -> Gpu {
    Gpu {
        index,
        minor: index,
        uuid: Some(format!("GPU-{index}")),
        name: None,
        brand: None,
        compute_capability: None,
        pci: PciAddress::default(),
        node: node(&format!("nvidia{index}"), index),
        drm: Vec::new(),
        drm_links: Vec::new(),
        mig_enabled: false,
        mig: Vec::new(),
    }
}

/// A bundle with a busybox image, a host with two GPUs beside it, and a canary.
struct Place {
    dir: tempfile::TempDir,
    id: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let place = Self {
            id: format!("gpu-container-{name}-{}", std::process::id()),
            dir: tempfile::tempdir().unwrap(),
        };
        let image = place.path("bundle/rootfs");
        for dir in ["bin", "etc", "tmp"] {
            fs::create_dir_all(image.join(dir)).unwrap();
        }
        fs::copy(BUSYBOX, image.join("bin/busybox")).unwrap();
        for dir in ["host", "canary"] {
            fs::create_dir(place.path(dir)).unwrap();
        }
        let library = place.path("host/libcuda.so.1.2.3");
        fs::write(&library, "a library").unwrap();
        fs::write(place.path("canary/ld.so.cache"), "sings").unwrap();
        let inventory = Inventory {
            schema: gpu_host::inventory::SCHEMA,
            driver: Some(Driver {
                version: "1.2.3".into(),
                cuda: None,
                files: vec![DriverFile {
                    kind: FileKind::Library,
                    path: "/usr/lib/libcuda.so.1.2.3".into(),
                    host_path: library,
                    capabilities: Capabilities::ALL,
                    soname: Some("libcuda.so.1".into()),
                    links: vec![Link {
                        path: "/usr/lib/libcuda.so".into(),
                        target: "libcuda.so.1".into(),
                    }],
                }],
            }),
            gpus: vec![gpu(0), gpu(1)],
            control_nodes: vec![ControlNode {
                node: node("nvidiactl", 255),
                capabilities: Capabilities::ALL,
            }],
            ..Inventory::default()
        };
        let stored = place.path("inventory.json");
        fs::write(&stored, serde_json::to_vec(&inventory).unwrap()).unwrap();
        let config = format!(
            "[nvidia-container-runtime]\nruntimes = [\"runc\"]\n[gpu-container]\ninventory = \"{}\"\n",
            stored.display()
        );
        fs::write(place.path("config.toml"), config).unwrap();
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("bundle/config.json")).unwrap()).unwrap()
    }

    /// Runs a script in a container with this request, through our runtime.
    fn run(&self, visible: &str, script: &str) -> Output {
        self.make_config(visible, script, |_| {});
        self.start(Command::new(env!("CARGO_BIN_EXE_gpu-container")).arg("runtime"))
    }

    /// The same through plain runc, with our hook where dockerd puts it for `--gpus`.
    fn run_with_hook(&self, script: &str, edit: impl FnOnce(&mut Value)) -> Output {
        // The name says which program of the many it is.
        let hook = self.path("nvidia-container-runtime-hook");
        symlink(env!("CARGO_BIN_EXE_gpu-container"), &hook).unwrap();
        self.make_config("1", script, |config| {
            config["hooks"] = json!({"prestart": [{
                "path": hook,
                "args": ["nvidia-container-runtime-hook", "-config", self.path("config.toml"), "prestart"],
            }]});
            edit(config);
        });
        self.start(&mut Command::new("runc"))
    }

    fn make_config(&self, visible: &str, script: &str, edit: impl FnOnce(&mut Value)) {
        let bundle = self.path("bundle");
        let made = Command::new("runc")
            .arg("spec")
            .arg("--bundle")
            .arg(&bundle)
            .status();
        assert!(made.unwrap().success());
        let mut config = self.config();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/busybox", "sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.push(json!(format!("NVIDIA_VISIBLE_DEVICES={visible}")));
        for set in ["bounding", "effective", "permitted"] {
            let set = &mut config["process"]["capabilities"][set];
            set.as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
        edit(&mut config);
        fs::write(
            bundle.join("config.json"),
            serde_json::to_vec(&config).unwrap(),
        )
        .unwrap();
    }

    fn start(&self, runtime: &mut Command) -> Output {
        runtime
            .arg("--root")
            .arg(self.path("state"))
            .args(["run", "--bundle"])
            .arg(self.path("bundle"))
            .arg(&self.id)
            .env("NVIDIA_CTK_CONFIG_FILE_PATH", self.path("config.toml"))
            .output()
            .unwrap()
    }

    fn canary_is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.path("canary")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let song = fs::read_to_string(self.path("canary/ld.so.cache")).unwrap();
        assert_eq!(song, "sings");
    }
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// Opens a GPU by a node of its own making: what the device cgroup says.
const OPEN: &str = "open() { busybox mknod /tmp/n$1 c 195 $1; busybox cat /tmp/n$1; }; ";

#[test]
fn exactly_the_gpu_asked_for() {
    if !can_run() {
        return;
    }
    let place = Place::new("one");
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

/// Nodes of the host, which live injection mounts.
fn make_nodes(place: &Place) {
    let stored = place.path("inventory.json");
    let mut inventory: Value = serde_json::from_slice(&fs::read(&stored).unwrap()).unwrap();
    let make = |node: &mut Value| {
        let name = Path::new(node["path"].as_str().unwrap())
            .file_name()
            .unwrap();
        let path = place.path("host").join(name);
        let minor = node["minor"].as_u64().unwrap();
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(195, minor)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        node["host_path"] = json!(path);
    };
    for gpu in inventory["gpus"].as_array_mut().unwrap() {
        make(&mut gpu["node"]);
    }
    for control in inventory["control_nodes"].as_array_mut().unwrap() {
        make(&mut control["node"]);
    }
    fs::write(&stored, serde_json::to_vec(&inventory).unwrap()).unwrap();
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
    let place = Place::new("prestart");
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

#[test]
fn the_prestart_hook_works_in_a_user_namespace() {
    if !can_run() {
        return;
    }
    let place = Place::new("userns");
    make_nodes(&place);
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let image = place.path("bundle/rootfs");
    for owned in ["", "bin", "etc", "tmp", "bin/busybox"] {
        chown(image.join(owned), Some(100_000), Some(100_000)).unwrap();
    }
    let out = text(&place.run_with_hook(LOOK, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        config["linux"]["uidMappings"] = ids.clone();
        config["linux"]["gidMappings"] = ids;
    }));
    for wanted in SEEN_BY_HOOK {
        assert!(out.contains(wanted), "{wanted:?} in\n{out}");
    }
    // What was made is the container's own: root's there, nobody's special here.
    let cache = fs::metadata(image.join("etc/ld.so.cache")).unwrap();
    assert_eq!((cache.uid(), cache.gid()), (100_000, 100_000));
}

#[test]
fn a_container_that_asks_for_nothing_is_left_alone() {
    if !can_run() {
        return;
    }
    let place = Place::new("none");
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
    let place = Place::new("seven");
    let out = place.run("7", "echo started");
    let said = text(&out);
    assert!(!out.status.success() && !said.contains("started"), "{said}");
    assert!(said.contains("no GPU \"7\""), "{said}");
}

#[test]
fn images_whose_links_lead_out_touch_nothing_outside() {
    if !can_run() {
        return;
    }
    for (name, link) in [("etc", "etc"), ("usr", "usr"), ("lib", "usr/lib")] {
        let place = Place::new(name);
        let at = place.path("bundle/rootfs").join(link);
        let _ = fs::remove_dir_all(&at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(place.path("canary"), &at).unwrap();
        // Started or refused, as the runtime likes; never written outside.
        place.run("all", "true");
        place.canary_is_untouched();
    }
}

#[test]
fn a_cache_that_is_a_link_or_a_fifo_does_no_harm() {
    if !can_run() {
        return;
    }
    let place = Place::new("link");
    let cache = place.path("bundle/rootfs/etc/ld.so.cache");
    symlink(place.path("canary/ld.so.cache"), cache).unwrap();
    let out = text(&place.run("all", "echo started"));
    assert!(out.contains("started"), "{out}");
    place.canary_is_untouched();

    let place = Place::new("fifo");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&place.path("bundle/rootfs/etc/ld.so.cache"), mode).unwrap();
    let out = text(&place.run("all", "echo started"));
    assert!(out.contains("started"), "{out}");
}
