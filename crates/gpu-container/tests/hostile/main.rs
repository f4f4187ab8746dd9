//! Images made to break out run in real containers, which get GPUs in each of the possible ways,
//! under each low-level runtime that works on this machine. Whether the container starts or not,
//! nothing outside its root file system may change.
//!
//! Under runc each image runs in every way; under crun in one of the ways in turn, or in all with
//! `HOSTILE_IMAGES=all`. `HOSTILE_IMAGES=NAME` runs one image.
#![allow(clippy::unwrap_used)]

#[path = "../bundle/mod.rs"]
mod bundle;
mod cves;
mod image;
mod images;
mod naive;
mod usual;
mod volumes;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundle::canary::{self, SECRET, Tree};
use bundle::{Below, RuncBundle, WAYS, Way, can_run, make_nodes, text};
use gpu_host::{Capabilities, DriverFile, FileKind};
use image::{Image, Outcome, Scene};
use serde_json::json;

/// The container's script: it searches for the secret, and tries what must not be possible. `-type f`
/// because an image may have FIFOs and devices, which must not be opened.
const SCRIPT: &str = "echo STARTED; \
    busybox grep -q libcuda.so.1 /etc/ld.so.cache && echo CACHED; \
    found=$(busybox timeout 60 busybox find / '(' -path /proc -o -path /sys ')' -prune -o -type f -size -64 \
        -exec busybox grep -l SECRET {} +); \
    [ $? -lt 124 ] || echo UNFINISHED; [ -z \"$found\" ] || echo LEAKED; \
    echo x >/LIBRARIES/libcuda.so.VERSION; \
    busybox mknod /dev/n0 c 195 0; busybox cat /dev/n0";

fn scene(place: &RuncBundle) -> Scene {
    Scene {
        rootfs: place.path("bundle/rootfs"),
        canary: place.path("canary"),
        libraries: "usr/lib".into(),
        version: "1.2.3".into(),
    }
}

fn script(scene: &Scene) -> String {
    SCRIPT
        .replace("SECRET", SECRET)
        .replace("LIBRARIES", &scene.libraries)
        .replace("VERSION", &scene.version)
}

struct Tried {
    line: String,
    failures: Vec<String>,
}

/// The state of the host before any container was started.
struct Before {
    tree: Tree,
    /// Whether the image has a hard link to a file of the host.
    image_has_hosts_file: bool,
}

/// Makes a bundle with the image, and records the host's state.
fn prepare(image: &Image, name: &str) -> (RuncBundle, Scene, Before) {
    let place = RuncBundle::new(&format!("{}-{name}", image.name));
    // A config.toml of NVIDIA's toolkit may name ldconfig like this: a program of the image.
    place.write_policy("ldconfig = \"/sbin/ldconfig\"");
    canary::make(&place.path("canary"));
    make_nodes(&place);
    add_socket(&place);
    let scene = scene(&place);
    (image.make)(&scene);
    let before = Before {
        tree: canary::look(&place),
        image_has_hosts_file: canary::image_has_hosts_file(&place),
    };
    (place, scene, before)
}

fn configure(place: &RuncBundle, image: &Image, scene: &Scene, visible: &str) {
    place.make_config(visible, &script(scene), |config| {
        let env = config["process"]["env"].as_array_mut().unwrap();
        for (name, value) in image.env {
            let value = value.replace("{canary}", &scene.canary.display().to_string());
            // With duplicates, some runtimes take the first, others the last.
            env.retain(|v| !v.as_str().unwrap().starts_with(&format!("{name}=")));
            env.push(json!(format!("{name}={value}")));
        }
        if let Some(edit) = image.config {
            edit(config, scene);
        }
    });
}

/// The paths that the low-level runtime changes with this image, without any GPU requested.
fn changed_by_runtime_alone(image: &Image, way: Way, below: Below) -> Vec<String> {
    let (place, scene, before) = prepare(image, &format!("without-{way:?}-{below:?}"));
    configure(&place, image, &scene, "void");
    place.start_plain(below);
    let changed = canary::changed(&before.tree, &canary::look(&place), &place.path(""));
    images::clean_up(&scene);
    changed
}

/// The harm done by a start: changes to the host, and what the container could access of it.
fn harm(place: &RuncBundle, before: &Before, after: &Tree, out: &str, below: Below) -> Vec<String> {
    let mut harm = canary::differences(&before.tree, after);
    if place.image("evil-program").exists() {
        harm.push("a program of the image was run".into());
    }
    // If the image has a hard link to the host's file, it may read that.
    if out.contains("LEAKED") && !before.image_has_hosts_file {
        harm.push("the container could read the host's secret".into());
    }
    if out.contains("UNFINISHED") {
        harm.push("what the container can read was not looked through".into());
    }
    // ENXIO: the device cgroup allowed the open, only the driver is missing.
    if below == Below::Runc && out.contains("n0': No such device or address") {
        harm.push("the container may open a GPU that it did not ask for".into());
    }
    harm
}

fn try_one(image: &Image, way: Way, below: Below) -> Tried {
    let mut tried = try_once(image, way, below);
    for _ in 0..3 {
        // A mount anywhere makes `openat2` begin again without counting a path's links anew (seen on Linux 6.18). crun takes
        // its ELOOP for an answer, so a container with many links is refused by chance; ours counts by itself.
        let is_cruns_eloop = below == Below::Crun
            && tried.line.starts_with("refused: openat2 ")
            && tried.line.contains("Too many levels of symbolic links");
        if tried.failures.is_empty() || !is_cruns_eloop {
            break;
        }
        tried = try_once(image, way, below);
    }
    tried
}

fn try_once(image: &Image, way: Way, below: Below) -> Tried {
    let (place, scene, before) = prepare(image, &format!("{way:?}-{below:?}"));
    configure(&place, image, &scene, "1");
    let out = text(&place.start_by(way, below));
    let after = canary::look(&place);

    let started = out.contains("STARTED\n");
    let mut failures = harm(&place, &before, &after, &out, below);
    let mut note = "";
    // runc 1.1 itself makes links in /dev by following a link of the image.
    let changes = canary::differences(&before.tree, &after);
    if !changes.is_empty() {
        let runtime_changes = changed_by_runtime_alone(image, way, below);
        if runtime_changes == canary::changed(&before.tree, &after, &place.path("")) {
            failures.retain(|f| !changes.contains(f));
            note = " (the runtime changes the same without us)";
        } else {
            failures.push(format!(
                "without us the runtime changes: {runtime_changes:?}"
            ));
        }
    }
    let as_expected = match (image.outcome, below, way) {
        (Outcome::StartsUnderRunc | Outcome::RefusedUnderRunc, Below::Crun, _)
        | (Outcome::StartsByPrestart, _, Way::Shim | Way::Cdi)
        | (Outcome::Either, ..) => true,
        (Outcome::Starts | Outcome::StartsUnderRunc | Outcome::StartsByPrestart, ..) => {
            started && out.contains("CACHED")
        }
        (Outcome::StartsSomehow, ..) => started,
        (Outcome::Refused | Outcome::RefusedUnderRunc, ..) => !started,
    };
    if !as_expected {
        failures.push(format!("expected: {:?}", image.outcome));
    }
    images::clean_up(&scene);
    let mut line = if started {
        "started".to_owned()
    } else {
        let why = out.lines().rev().find(|l| !l.trim().is_empty());
        format!("refused: {}", why.unwrap_or("without a word"))
    };
    line.push_str(note);
    if !failures.is_empty() {
        let _ = write!(line, "\n{out}");
    }
    Tried { line, failures }
}

/// Adds an optional socket of the driver below /var/run, which is a link in many images.
fn add_socket(place: &RuncBundle) {
    let mut inventory = place.inventory();
    let socket = place.path("host/socket");
    fs::write(&socket, "").unwrap();
    inventory.driver.as_mut().unwrap().files.push(DriverFile {
        kind: FileKind::Socket,
        path: "/var/run/nvidia-persistenced/socket".into(),
        host_path: socket,
        capabilities: Capabilities::ALL,
        soname: None,
        links: Vec::new(),
        need: gpu_host::Need::Required,
    });
    place.store(&inventory);
}

/// Applies `work` to all of `todo`, in many threads because a start is mostly waiting.
fn in_parallel<T: Sync, R: Send>(todo: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((at, one)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, todo.get(n)?)))
                {
                    let result = work(one);
                    done.lock().unwrap().insert(at, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

fn try_all(images: &[Image]) {
    if !can_run() {
        return;
    }
    let filter = std::env::var("HOSTILE_IMAGES").unwrap_or_default();
    let by_name = images.iter().any(|i| i.name == filter);
    let mut todo: Vec<(&Image, Below, Way)> = Vec::new();
    for (n, image) in images.iter().enumerate() {
        if by_name && image.name != filter {
            continue;
        }
        todo.extend(WAYS.map(|way| (image, Below::Runc, way)));
        if Below::available().contains(&Below::Crun) {
            let crun = WAYS.map(|way| (image, Below::Crun, way));
            let is_whole = by_name || filter == "all";
            let some = if is_whole { 0..3 } else { n % 3..n % 3 + 1 };
            todo.extend_from_slice(&crun[some]);
        }
    }
    let done = in_parallel(&todo, |(image, below, way)| try_one(image, *way, *below));
    let (mut escapes, mut failures) = (0, Vec::new());
    for ((image, below, way), tried) in todo.iter().zip(done) {
        println!(
            "{} {} by {way:?}, {below:?}: {}",
            image.name, image.cve, tried.line
        );
        escapes += usize::from(tried.failures.iter().any(|f| !f.starts_with("expected")));
        let about = |f: &String| format!("{} by {way:?}, {below:?}: {f}", image.name);
        failures.extend(tried.failures.iter().map(about));
    }
    println!(
        "images tried: {} in {} containers, escapes: {escapes}",
        images.len(),
        todo.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn images_for_known_cves_change_nothing_on_the_host() {
    try_all(cves::CVES);
}

#[test]
fn other_hostile_images_change_nothing_on_the_host() {
    try_all(images::IMAGES);
}

/// Shows that the images can do harm at all: with a hook that has the flaws of NVIDIA's, in the same
/// containers and with the same checks.
#[test]
fn a_naive_hook_lets_the_images_harm_the_host() {
    if !can_run() {
        return;
    }
    let harmless = naive::harmless([cves::CVES, images::IMAGES]);
    assert!(harmless.is_empty(), "{}", harmless.join("\n"));
}

/// Writes to `HOSTILE_EXPORT`, for `testenv/scenarios/hostile`: the images as an engine imports them,
/// the canary, and a table of name, outcome, CVE and variables.
#[test]
#[ignore = "writes the images for other engines"]
fn export() {
    let out = PathBuf::from(std::env::var_os("HOSTILE_EXPORT").unwrap());
    let variable = |name: &str| std::env::var(name).unwrap();
    fs::create_dir_all(&out).unwrap();
    let tar = |dir: &Path, name: &str| {
        let made = Command::new("tar")
            .args(["--warning=no-file-ignored", "--numeric-owner", "-C"])
            .arg(dir)
            .arg("-cf")
            .arg(out.join(name))
            .arg(".")
            .status();
        assert!(made.unwrap().success());
    };
    let canary = tempfile::tempdir().unwrap();
    fs::write(canary.path().join("ld.so.cache"), "sings").unwrap();
    canary::make(canary.path());
    tar(canary.path(), "canary.tar");
    let mut table = String::new();
    let mut scripts = String::new();
    for image in cves::CVES.iter().chain(images::IMAGES) {
        // Images that need an edited config.json, or that a tar cannot hold, are not exported.
        if image.config.is_some() {
            continue;
        }
        let place = RuncBundle::new(image.name);
        let scene = Scene {
            rootfs: place.path("bundle/rootfs"),
            canary: "/var/lib/canary".into(),
            libraries: variable("HOSTILE_LIBRARIES"),
            version: variable("HOSTILE_VERSION"),
        };
        (image.make)(&scene);
        tar(&scene.rootfs, &format!("{}.tar", image.name));
        let env: Vec<String> = image.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let _ = writeln!(
            table,
            "{}\t{:?}\t{}\t{}",
            image.name,
            image.outcome,
            if image.cve.is_empty() { "-" } else { image.cve },
            env.join(" ")
        );
        scripts = script(&scene);
    }
    fs::write(out.join("table"), table).unwrap();
    fs::write(out.join("script"), scripts).unwrap();
}
