//! Images with CUDA compatibility libraries, usual and hostile ones, started by a real runc: by our
//! runtime, by a CDI spec and with the hook of `docker run --gpus`. Needs root, runc and a static
//! busybox.
#![allow(clippy::unwrap_used)]

mod place;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use gpu_inject::generate::{GenerateOptions, cdi_spec};
use place::parts::BUSYBOX;
use place::parts::shared_object;
use place::{StubbedBundle, can_run, text};
use serde_json::{Value, json};
use skips::Need;

const COMPAT: &str = "usr/local/cuda-12.9/compat";
const DRIVER_LIBRARY: &str = "/usr/lib/libcuda.so.550.54";

/// Makes an image with busybox and with `/usr/local/cuda` as a chain of links, like CUDA images.
fn with_compat(id: &str) -> StubbedBundle {
    let place = StubbedBundle::new();
    for dir in ["bin", COMPAT, "etc/alternatives", "etc/ld.so.conf.d"] {
        fs::create_dir_all(place.image(dir)).unwrap();
    }
    fs::copy(BUSYBOX, place.image("bin/busybox")).unwrap();
    symlink("/etc/alternatives/cuda", place.image("usr/local/cuda")).unwrap();
    symlink("/usr/local/cuda-12.9", place.image("etc/alternatives/cuda")).unwrap();
    fs::write(
        place.path("id"),
        format!("gpu-container-compat-{id}-{}", std::process::id()),
    )
    .unwrap();
    place.policy_of("", "runtimes = [\"runc\"]");
    place
}

fn put_library(place: &StubbedBundle, version: &str, note: Option<&str>) {
    let name = format!("libcuda.so.{version}");
    let dir = place.image(COMPAT);
    fs::write(dir.join(&name), shared_object("libcuda.so.1", note)).unwrap();
    let _ = fs::remove_file(dir.join("libcuda.so.1"));
    symlink(&name, dir.join("libcuda.so.1")).unwrap();
}

fn note(drivers: &str) -> String {
    format!(r#"{{"Format":1,"CUDA Version":"12.9","Driver":[{drivers}],"Device":[1]}}"#)
}

/// Runs the container once by the runtime with the environment `env`.
fn run(
    place: &StubbedBundle,
    mut runtime: Command,
    env: &[&str],
    edit: impl FnOnce(&mut Value),
) -> Output {
    let bundle = place.path("bundle");
    let _ = fs::remove_file(bundle.join("config.json"));
    let made = Command::new("runc")
        .arg("spec")
        .arg("--bundle")
        .arg(&bundle)
        .status();
    assert!(made.unwrap().success());
    let mut config = place.config();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/busybox", "cat", "/usr/lib/libcuda.so.1"]);
    config["process"]["env"] = json!(env);
    config["root"]["readonly"] = json!(false);
    edit(&mut config);
    place.write_config(&config);
    runtime
        .arg("--root")
        .arg(place.path("state"))
        .args(["run", "--bundle"])
        .arg(bundle)
        .arg(fs::read_to_string(place.path("id")).unwrap())
        .output()
        .unwrap()
}

/// The path at which the loader finds libcuda in a container started by our runtime.
fn loaded_library(place: &StubbedBundle) -> String {
    let runtime = place.named("nvidia-container-runtime");
    let out = run(place, runtime, &["NVIDIA_VISIBLE_DEVICES=0"], |_| {});
    assert!(text(&out).contains("the driver's"), "{}", text(&out));
    let library = place.loads("libcuda.so.1").unwrap();
    library.display().to_string()
}

const COMPAT_LIBRARY: &str = "/usr/local/cuda/compat/libcuda.so.1";

#[test]
fn newer_libraries_of_the_image_come_first_and_older_ones_do_not() {
    if !can_run() {
        return;
    }
    let place = with_compat("newer");
    put_library(&place, "575.57.08", Some(&note("535,550,570")));
    assert_eq!(loaded_library(&place), COMPAT_LIBRARY);
    let conf = "etc/ld.so.conf.d/00-gpu-container.conf";
    let conf = fs::read_to_string(place.image(conf)).unwrap();
    assert_eq!(conf, "/usr/local/cuda/compat\n/usr/lib\n");
    // Nothing from the image is mounted: the hook's arguments name only the driver's library.
    let args = place.config()["hooks"]["createContainer"][0]["args"].clone();
    let args: Vec<String> = serde_json::from_value(args).unwrap();
    let mounts: Vec<&[String]> = args.split(|a| a == "--mount").skip(1).collect();
    assert_eq!(mounts.len(), 1, "{args:?}");
    assert!(mounts[0][2].ends_with("libcuda.so.550.54"), "{args:?}");

    fs::remove_file(place.image(COMPAT).join("libcuda.so.575.57.08")).unwrap();
    put_library(&place, "575.57.08", Some(&note("535,570")));
    assert_eq!(loaded_library(&place), DRIVER_LIBRARY);
    fs::remove_file(place.image(COMPAT).join("libcuda.so.575.57.08")).unwrap();
    put_library(&place, "545.23.06", Some(&note("535,550")));
    assert_eq!(loaded_library(&place), DRIVER_LIBRARY);
    fs::remove_file(place.image(COMPAT).join("libcuda.so.545.23.06")).unwrap();
    put_library(&place, "560.28", None);
    assert_eq!(loaded_library(&place), COMPAT_LIBRARY);
}

#[test]
fn policy_can_leave_the_images_libraries_out() {
    if !can_run() {
        return;
    }
    let place = with_compat("policy");
    put_library(&place, "575.57.08", Some(&note("550")));
    place.policy_of(
        "",
        "runtimes = [\"runc\"]\nmodes.legacy.cuda-compat-mode = \"disabled\"",
    );
    assert_eq!(loaded_library(&place), DRIVER_LIBRARY);
    assert!(!place.hook().iter().any(|a| a == "--cuda-compat"));
}

#[test]
fn links_to_the_outside_fifos_and_endless_files_are_ignored() {
    if !can_run() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let library = outside.path().join("libcuda.so.999.1");
    fs::write(&library, shared_object("libcuda.so.1", None)).unwrap();

    let link = with_compat("link");
    symlink(&library, link.image(COMPAT).join("libcuda.so.999.1")).unwrap();
    assert_eq!(loaded_library(&link), DRIVER_LIBRARY);

    let dir = with_compat("dir");
    fs::remove_dir(dir.image(COMPAT)).unwrap();
    symlink(outside.path(), dir.image(COMPAT)).unwrap();
    assert_eq!(loaded_library(&dir), DRIVER_LIBRARY);

    let fifo = with_compat("fifo");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&fifo.image(COMPAT).join("libcuda.so.999.1"), mode).unwrap();
    assert_eq!(loaded_library(&fifo), DRIVER_LIBRARY);

    let huge = with_compat("huge");
    let mut bytes = shared_object("libcuda.so.1", Some(&note("550")));
    // A sparse ELF file of four terabytes with its tables at the end, as many as there can be.
    bytes[40..48].copy_from_slice(&(1u64 << 41).to_le_bytes());
    bytes[60..62].copy_from_slice(&u16::MAX.to_le_bytes());
    let path = huge.image(COMPAT).join("libcuda.so.545.1");
    fs::write(&path, bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 42)
        .unwrap();
    assert_eq!(loaded_library(&huge), DRIVER_LIBRARY);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

/// A container as a CDI engine starts it: the edits of our spec are applied, then plain runc runs it.
#[test]
fn compat_libraries_are_used_with_a_cdi_spec() {
    if !can_run() {
        return;
    }
    let place = with_compat("cdi");
    put_library(&place, "575.57.08", Some(&note("550")));
    let inventory = fs::read(place.path("inventory.json")).unwrap();
    let mut inventory: gpu_host::Inventory = serde_json::from_slice(&inventory).unwrap();
    // A spec names nodes by path, and this machine has none.
    inventory.gpus.truncate(1);
    inventory.gpus[0].node.host_path = "/dev/null".into();
    inventory.gpus[0].mig_enabled = false;
    inventory.control_nodes.clear();
    inventory.features.clear();
    inventory.imex_channels.clear();
    let hook = place.path("gpu-container-hook");
    let _ = place.named("gpu-container-hook");
    let options = GenerateOptions {
        hook_path: hook,
        ..GenerateOptions::default()
    };
    let spec = cdi_spec(&inventory, &options).unwrap();
    let device = spec.device("0").unwrap().clone();
    let stat = |_: &Path| {
        Ok(cdi::NodeStat {
            kind: 'c',
            major: 195,
            minor: 0,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
    };
    let out = run(&place, Command::new("runc"), &["PATH=/bin"], |config| {
        let edits = [&spec.container_edits, &device.container_edits];
        cdi::apply_to_value(config, &edits, &stat).unwrap();
    });
    assert!(text(&out).contains("the driver's"), "{}", text(&out));
    assert_eq!(
        place.loads("libcuda.so.1").unwrap(),
        Path::new(COMPAT_LIBRARY)
    );
    // The application profile lists the GPUs whose nodes exist.
    let profile = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";
    let profile = fs::read_to_string(place.image(profile)).unwrap();
    assert!(profile.contains("\"EGLVisibleDGPUDevices\",1"), "{profile}");
}

/// A container as dockerd starts it for `--gpus`: plain runc with the prestart hook.
#[test]
fn compat_libraries_are_used_with_the_prestart_hook() {
    if !can_run() {
        return;
    }
    let place = with_compat("prestart");
    put_library(&place, "575.57.08", Some(&note("550")));
    let stored = place.path("inventory.json");
    let mut inventory: Value = serde_json::from_slice(&fs::read(&stored).unwrap()).unwrap();
    inventory["control_nodes"] = json!([]);
    fs::write(&stored, serde_json::to_vec(&inventory).unwrap()).unwrap();
    let hook = place.path("nvidia-container-runtime-hook");
    let _ = place.named("nvidia-container-runtime-hook");
    let out = run(
        &place,
        Command::new("runc"),
        &[
            "NVIDIA_VISIBLE_DEVICES=none",
            "NVIDIA_DRIVER_CAPABILITIES=compute",
        ],
        |config| {
            config["hooks"] = json!({"prestart": [{
                "path": hook,
                "args": ["nvidia-container-runtime-hook", "-config", place.path("config.toml"), "prestart"],
            }]});
        },
    );
    assert!(text(&out).contains("the driver's"), "{}", text(&out));
    assert_eq!(
        place.loads("libcuda.so.1").unwrap(),
        Path::new(COMPAT_LIBRARY)
    );
}

/// A spec as nvidia-ctk generates it, with its six hooks. Our program has the hook's name, and our
/// runtime applies the spec.
#[test]
fn compat_libraries_are_used_with_the_vendors_cdi_spec() {
    if !can_run() {
        return;
    }
    let place = with_compat("vendor");
    put_library(&place, "575.57.08", Some(&note("550")));
    let driver = place.path("host/libcuda.so.550.54");
    fs::write(&driver, shared_object("libcuda.so.1", None)).unwrap();
    let hook = place.path("nvidia-cdi-hook");
    let _ = place.named("nvidia-cdi-hook");
    let hooks: Vec<Value> = [
        &[
            "create-symlinks",
            "--link",
            "libcuda.so.1::/usr/lib/libcuda.so",
        ][..],
        &["enable-cuda-compat", "--host-driver-version=550.54"],
        &["update-ldcache", "--folder", "/usr/lib"],
        &["disable-device-node-modification"],
        &["update-application-profile"],
        &["of-tomorrow"],
    ]
    .iter()
    .map(|args| {
        let args = [&["nvidia-cdi-hook"], *args].concat();
        json!({
            "hookName": "createContainer",
            "path": hook,
            "args": args,
            "env": ["NVIDIA_CTK_DEBUG=false"],
        })
    })
    .collect();
    let spec = json!({
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": "0", "containerEdits": {"deviceNodes": [
            {"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0},
        ]}}],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "hooks": hooks,
            "mounts": [{
                "hostPath": driver,
                "containerPath": "/usr/lib/libcuda.so.550.54",
                "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
            }],
        },
    });
    fs::write(
        place.path("specs/nvidia.json"),
        serde_json::to_vec(&spec).unwrap(),
    )
    .unwrap();
    let runtime = place.named("nvidia-container-runtime.cdi");
    let out = run(&place, runtime, &["NVIDIA_VISIBLE_DEVICES=0"], |config| {
        config["process"]["args"] = json!(["/bin/busybox", "ls", "-l", "/usr/lib", "/dev"]);
    });
    let output = text(&out);
    for wanted in [
        "libcuda.so -> libcuda.so.1",
        "libcuda.so.1 -> libcuda.so.550.54",
        "nvidia0",
    ] {
        assert!(output.contains(wanted), "{wanted} in {output}");
    }
    let library = place.loads("libcuda.so.1").unwrap();
    assert!(
        library.starts_with("/usr/local/cuda/compat"),
        "{}",
        library.display()
    );
    let profile = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";
    assert!(place.image(profile).exists());
}

/// With crun, whose state for hooks names the root file system.
#[test]
fn compat_libraries_are_used_under_crun() {
    if !can_run() || !skips::has(&[Need::Crun]) {
        return;
    }
    let place = with_compat("crun");
    put_library(&place, "575.57.08", Some(&note("550")));
    let mut runtime = place.named("nvidia-container-runtime-crun");
    runtime.arg("--cgroup-manager=disabled");
    let out = run(&place, runtime, &["NVIDIA_VISIBLE_DEVICES=0"], |_| {});
    if text(&out).contains("cgroups in hybrid mode") {
        skips::skip(Need::CrunStarts, &text(&out));
        return;
    }
    assert!(text(&out).contains("the driver's"), "{}", text(&out));
    assert_eq!(
        place.loads("libcuda.so.1").unwrap(),
        Path::new(COMPAT_LIBRARY)
    );
}
