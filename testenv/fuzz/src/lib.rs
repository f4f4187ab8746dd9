//! The fuzz targets: every parser that reads a file we did not write. `testenv/fuzz/run` runs libFuzzer on each;
//! `tests/replay.rs` runs the seeds and earlier crashes through them, on any toolchain.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gpu_host::{Inventory, Options, PciAddress, Root, Source, discover, distro, ldcache};
use gpu_inject::oci::ContainerView;
use gpu_inject::plan::requirements;
use gpu_inject::policy::Policy;
use gpu_inject::request::Request;
use gpu_inject::{Edits, Library, oci};
use gpusetup::fuzzing;
use serde_json::{Value, json};

/// A parser with the name of its corpus.
pub struct Target {
    /// Also its directory below `corpus/`.
    pub name: &'static str,
    /// Runs one input; panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("json-edit", |b| with_two(b, fuzzing::json)),
    target("toml-edit", |b| with_two(b, fuzzing::toml)),
    target("systemd-unit", |b| fuzzing::unit(tree(), b)),
    target("os-release", os_release),
    target("dpkg-status", |b| drop(fuzzing::dpkg_status(tree(), b))),
    target("ld-cache-read", |b| drop(ldcache::parse(b))),
    target("ld-cache-write", ld_cache_write),
    target("elf", |b| _ = gpu_host::fuzzing::elf(b)),
    target("cuda-compat", cuda_compat),
    target("cdi-spec", cdi_spec),
    target("oci-config", oci_config),
    target("oci-state", |b| {
        drop(gpu_inject::oci::ContainerState::parse(b));
    }),
    target("container-path", container_path),
    target("request", request),
    target("requirements", requirement),
    target("policy", policy),
    target("state", |b| {
        let (a, b) = halves(b);
        fuzzing::state(a, &String::from_utf8_lossy(b));
    }),
    target("proc", proc),
    target("cgroups", |b| {
        with_two(b, |a, b| drop(gpu_inject::fuzzing::cgroups(a, b)));
    }),
    target("pci-address", pci_address),
    target("doctor-explain", fuzzing::explain),
    target("plan", |b| {
        let (json, rest) = halves(b);
        let (toml, unit) = halves(rest);
        fuzzing::plan(tree(), json, toml, unit);
    }),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The target with this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

/// Splits an input that holds two files, at a byte that text files do not have.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|b| *b == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

fn with_two(bytes: &[u8], run: impl Fn(&str, &str)) {
    let (a, b) = halves(bytes);
    run(&String::from_utf8_lossy(a), &String::from_utf8_lossy(b));
}

/// A tree that targets write their input to: below `GPUSETUP_FUZZ_TREE`, where the caller can remove it, or in the
/// directory for temporary files.
fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let below = std::env::var_os("GPUSETUP_FUZZ_TREE").map(PathBuf::from);
        tempfile::tempdir_in(below.unwrap_or_else(std::env::temp_dir))
            .unwrap_or_else(|e| panic!("no directory to fuzz in: {e}"))
            .keep()
    })
}

/// Removes the tree; for the last user of it.
pub fn clean_up() {
    let _ = std::fs::remove_dir_all(tree());
}

fn root() -> Root {
    fuzzing::root(tree())
}

fn os_release(bytes: &[u8]) {
    fuzzing::put(tree(), "etc/os-release", bytes);
    let os = distro::detect(&root());
    assert!(!os.id.is_empty() && !os.pretty_name.is_empty());
}

fn library() -> Library {
    Library {
        path: "/usr/lib/libcuda.so.1".into(),
        soname: "libcuda.so.1".into(),
        compat32: false,
    }
}

fn ld_cache_write(bytes: &[u8]) {
    // A cache of which the loader would use a part is refused.
    let Ok(made) = gpu_inject::rootfs_edits::ld_cache::with_libraries(bytes, &[library()]) else {
        return;
    };
    // Names in an image need not be UTF-8, and are kept as they are.
    let read = ldcache::read(&made);
    let ours = library().path;
    assert!(
        read.is_ok_and(|all| all.entries().any(|e| e.path == ours.as_os_str().as_bytes())),
        "what was written cannot be read"
    );
}

/// A libcuda of an image, with any content.
fn cuda_compat(bytes: &[u8]) {
    fuzzing::put(tree(), "compat/libcuda.so.575.57.08", bytes);
    gpu_inject::fuzzing::cuda_compat(tree(), "550.54.15");
}

fn cdi_spec(bytes: &[u8]) {
    let Ok(spec) = cdi::Spec::parse(bytes) else {
        return;
    };
    for text in [spec.to_yaml(), spec.to_json()].into_iter().flatten() {
        assert_eq!(
            cdi::Spec::parse(text.as_bytes()).ok().as_ref(),
            Some(&spec),
            "{text}"
        );
    }
    let files = [("a.yaml".into(), 0, Ok(bytes.to_vec()))];
    let registry = cdi::Registry::from_files(files);
    let names: Vec<_> = registry.devices().into_keys().collect();
    let _ = registry.edits(&names);
}

fn oci_config(bytes: &[u8]) {
    let Ok(config) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let view = ContainerView::new(&config);
    let _ = (
        view.annotations().count(),
        view.is_privileged(),
        view.root_path(),
    );
    let _ = Request::read(view, &Policy::default());
    let edits = Edits {
        env: vec![("NVIDIA_VISIBLE_DEVICES".into(), "void".into())],
        additional_gids: vec![44],
        libraries: vec![library()],
        ..Edits::default()
    };
    let mut edited = config.clone();
    if oci::apply_to_value(&mut edited, &edits, Path::new("/usr/bin/gpu-container")).is_err() {
        assert_eq!(edited, config, "an error, yet something was changed");
        return;
    }
    let mut again = edited.clone();
    let done = oci::apply_to_value(&mut again, &edits, Path::new("/usr/bin/gpu-container"));
    assert!(done.is_ok() && again == edited, "a second edit changes it");
}

fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let env: Vec<&str> = text.split('\n').collect();
    let config = json!({"process": {"env": env}, "mounts": [
        {"source": "/dev/null", "destination": text},
    ]});
    let all = Policy {
        accept_mounts: true,
        ..Policy::default()
    };
    for policy in [Policy::default(), all] {
        let Ok(request) = Request::read(ContainerView::new(&config), &policy) else {
            continue;
        };
        let _ = gpu_inject::plan::plan(&inventory(), &request, &policy);
    }
}

/// A host with one GPU. What the file leaves out is as in an empty inventory.
fn inventory() -> Inventory {
    let whole = || -> serde_json::Result<Inventory> {
        let mut whole = serde_json::to_value(Inventory::default())?;
        let document: Value = serde_json::from_str(include_str!("inventory.json"))?;
        for (key, value) in document.as_object().into_iter().flatten() {
            whole[key] = value.clone();
        }
        serde_json::from_value(whole)
    };
    whole().unwrap_or_else(|e| panic!("inventory.json: {e}"))
}

/// A path in a root with links of every kind: the kernel's openat2 and our walk for kernels without it must lead to
/// the same place.
fn container_path(bytes: &[u8]) {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let root = tree().join("root");
        let _ = std::fs::create_dir_all(root.join("a/b/c"));
        let _ = std::fs::write(root.join("f"), "");
        for (link, target) in [
            ("u", ".."),
            ("r", "/"),
            ("l", "l"),
            ("d", "none"),
            ("a/p", "../../../a/b"),
            ("a/b/q", "/a/p/c"),
            ("t", "f"),
            ("x", "y"),
            ("y", "x/a"),
        ] {
            let _ = std::os::unix::fs::symlink(target, root.join(link));
        }
        root
    });
    let text = String::from_utf8_lossy(bytes);
    if let Some([kernel, ours]) = gpu_inject::fuzzing::resolve(root, Path::new(&*text)) {
        assert_eq!(kernel, ours, "{text:?}");
    }
}

fn requirement(bytes: &[u8]) {
    let inventory = inventory();
    let gpus: Vec<_> = inventory.gpus.iter().collect();
    let text = String::from_utf8_lossy(bytes).into_owned();
    let _ = requirements::ensure_met(&[text], &inventory, &gpus);
}

fn policy(bytes: &[u8]) {
    let _ = Policy::from_toml(&String::from_utf8_lossy(bytes), Path::new("/config.toml"));
}

fn proc(bytes: &[u8]) {
    let (version, rest) = halves(bytes);
    let (information, rest) = halves(rest);
    let (access, params) = halves(rest);
    let at =
        |path: &str, content| fuzzing::put(tree(), &format!("proc/driver/nvidia/{path}"), content);
    at("version", version);
    at("gpus/0000:3b:00.0/information", information);
    at("capabilities/gpu0/mig/gi1/access", access);
    at("capabilities/gpu0/mig/gi1/ci0/access", access);
    let _ = discover(&Options::new(root()));
    fuzzing::put(tree(), "proc/devices", params);
    fuzzing::put(tree(), "proc/driver/nvidia-caps/mig-minors", information);
    fuzzing::put(tree(), "list.csv", information);
    fuzzing::put(
        tree(),
        "usr/lib/wsl/drivers/x.inf_amd64_0/x.inf",
        information,
    );
    fuzzing::put(
        tree(),
        "usr/lib/wsl/drivers/x.inf_amd64_0/libcuda.so.1.1",
        b"",
    );
    for source in [Source::Tegra, Source::Wsl] {
        let _ = discover(&Options {
            source: Some(source),
            csv_files: vec!["/list.csv".into()],
            ..Options::new(root())
        });
    }
    let params = String::from_utf8_lossy(params);
    let masked = gpu_inject::driver_params::masked_params(&params);
    assert!(
        !masked
            .lines()
            .any(|l| l.starts_with("ModifyDeviceFiles: 1"))
    );
}

fn pci_address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(address) = text.parse::<PciAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
}
