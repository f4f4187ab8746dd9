//! The C API: the generated header, the exported symbols, and a C program that calls every function. Needs a C
//! compiler, binutils and pkg-config.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use skips::Need;

const HEADER: &str = "crates/libgpucontainer/include/gpucontainer.h";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn can_build() -> bool {
    skips::has(&[Need::CCompiler])
}

fn succeed(command: &mut Command) -> String {
    let out = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}\n{text}{stderr}");
    text
}

/// A tree with the library installed as on a host, built once for all tests of this file.
fn staged() -> &'static Path {
    static STAGED: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = STAGED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        succeed(
            Command::new(top().join("packaging/build-library.sh"))
                .arg(&bin)
                .env("PROFILE", "dev"),
        );
        succeed(
            Command::new(top().join("packaging/stage-library.sh"))
                .arg(dir.path())
                .arg(&bin)
                .env("LIBDIR", "/usr/lib/test"),
        );
        dir
    });
    dir.path()
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(top().join(HEADER)).unwrap();
    let lines = header
        .lines()
        .filter(|l| !l.starts_with("//") && !l.starts_with(' '));
    lines
        .filter_map(|l| {
            let (before, _) = l.split_once('(')?;
            let name = before.rsplit([' ', '*']).next()?;
            name.starts_with("gpc_").then(|| name.to_owned())
        })
        .collect()
}

/// `UPDATE_HEADER=1 cargo test -p libgpucontainer --test capi` regenerates the header.
#[test]
fn the_header_is_what_the_source_says() {
    let source = top().join("crates/libgpucontainer/src/capi/mod.rs");
    let config = top().join("crates/libgpucontainer/cbindgen.toml");
    let config = cbindgen::Config::from_file(config).unwrap();
    let builder = cbindgen::Builder::new()
        .with_config(config)
        .with_src(source);
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = top().join(HEADER);
    if std::env::var_os("UPDATE_HEADER").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap();
    assert!(
        made == committed,
        "run UPDATE_HEADER=1 cargo test -p libgpucontainer --test capi"
    );
}

#[test]
fn the_library_exports_exactly_the_headers_functions_with_a_version() {
    if !can_build() {
        return;
    }
    let library = staged().join("usr/lib/test/libgpucontainer.so.1.0.0");
    let symbols = succeed(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(&library),
    );
    let shown: BTreeSet<String> = symbols
        .lines()
        .filter_map(|l| l.split(' ').nth(2))
        .filter(|s| !s.starts_with("GPUCONTAINER_"))
        .map(str::to_owned)
        .collect();
    let wanted = declared()
        .into_iter()
        .map(|f| format!("{f}@@GPUCONTAINER_1.0"));
    assert_eq!(shown, wanted.collect());
    assert!(shown.len() > 30);
    let dynamic = succeed(Command::new("readelf").args(["-dW"]).arg(&library));
    assert!(
        dynamic.contains("soname: [libgpucontainer.so.1]"),
        "{dynamic}"
    );
    assert!(!dynamic.contains("TEXTREL"), "{dynamic}");
}

/// Makes a host with two GPUs, one of them with a MIG slice, and returns the path of its config.toml.
fn host(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir.join("host")).unwrap();
    fs::write(dir.join("host/libcuda.so.1.2.3"), "a library").unwrap();
    let node = |name: &str, minor: u32| {
        let host_path = dir.join("host").join(name);
        // Only root can make a device node; the tests that use it are skipped without root.
        let kind = SFlag::S_IFCHR;
        let _ = mknod(
            &host_path,
            kind,
            Mode::from_bits_truncate(0o666),
            makedev(195, minor.into()),
        );
        json!({"path": format!("/dev/{name}"), "host_path": host_path, "major": 195,
            "minor": minor, "mode": 0o666, "uid": 0, "gid": 0})
    };
    let gpu = |index: u32, slices: serde_json::Value| {
        json!({"index": index, "minor": index, "uuid": format!("GPU-{index}aaa"), "name": null,
            "brand": null, "compute_capability": null, "pci": "0000:3b:00.0",
            "node": node(&format!("nvidia{index}"), index), "drm": [], "drm_links": [],
            "mig_enabled": slices != json!([]), "mig": slices})
    };
    let slice = json!([{"index": 0, "uuid": "MIG-1", "gpu_instance": 7, "compute_instance": 0,
        "profile": null, "nodes": [], "access_files": []}]);
    let mut inventory = serde_json::to_value(gpu_host::Inventory {
        schema: gpu_host::inventory::SCHEMA,
        driver: Some(gpu_host::Driver {
            version: "1.2.3".into(),
            cuda: Some((12, 4)),
            files: Vec::new(),
        }),
        ..gpu_host::Inventory::default()
    })
    .unwrap();
    inventory["gpus"] = json!([gpu(0, json!([])), gpu(1, slice)]);
    inventory["driver"]["files"] = json!([{"kind": "library",
        "path": "/usr/lib/libcuda.so.1.2.3", "host_path": dir.join("host/libcuda.so.1.2.3"),
        "capabilities": ["compute"], "soname": "libcuda.so.1", "links": []}]);
    let stored = dir.join("inventory.json");
    fs::write(&stored, inventory.to_string()).unwrap();
    let config = dir.join("config.toml");
    let text = format!("[gpu-container]\ninventory = \"{}\"\n", stored.display());
    fs::write(&config, text).unwrap();
    config
}

fn compiled(dir: &Path) -> PathBuf {
    let root = staged();
    let flags = succeed(
        Command::new("pkg-config")
            .args(["--cflags", "--libs", "gpucontainer"])
            .env("PKG_CONFIG_LIBDIR", root.join("usr/lib/test/pkgconfig"))
            .env("PKG_CONFIG_SYSROOT_DIR", root)
            .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
            .env("PKG_CONFIG_ALLOW_SYSTEM_LIBS", "1"),
    );
    let program = dir.join("capi");
    succeed(
        Command::new("cc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-o"])
            .arg(&program)
            .arg(top().join("crates/libgpucontainer/tests/capi.c"))
            .args(flags.split_whitespace()),
    );
    program
}

#[test]
fn a_c_program_uses_every_function() {
    if !can_build() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = host(dir.path());
    let program = compiled(dir.path());
    // With valgrind, if installed, any leak fails the test.
    let mut command = if skips::has(&[Need::Valgrind]) {
        let mut valgrind = Command::new("valgrind");
        valgrind.args([
            "-q",
            "--error-exitcode=99",
            "--leak-check=full",
            "--show-leak-kinds=all",
        ]);
        valgrind.arg("--errors-for-leak-kinds=definite,indirect,possible");
        valgrind.arg(program);
        valgrind
    } else {
        Command::new(program)
    };
    let output = succeed(
        command
            .arg(config)
            .args([dir.path().join("rootfs").to_str().unwrap(), "-1"])
            .env("LD_LIBRARY_PATH", staged().join("usr/lib/test")),
    );
    assert_eq!(
        output,
        format!("gpucontainer {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_c_program_gives_a_running_container_its_gpu() {
    if !can_build() || !skips::has(&[Need::Root, Need::Unshare]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let rootfs = dir.path().join("rootfs");
    fs::create_dir_all(rootfs.join("etc")).unwrap();
    let config = host(dir.path());
    let program = compiled(dir.path());
    // The shell's mount namespace serves as the container.
    let script = "unshare --mount sleep 60 & pid=$!
        while [ \"$(readlink /proc/$pid/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" ]; do :; done
        \"$1\" \"$2\" \"$3\" $pid && grep -o \"$3[^ ]*\" /proc/$pid/mountinfo
        code=$?; kill $pid; exit $code";
    let output = succeed(
        Command::new("sh")
            .args(["-c", script, "sh"])
            .args([&program, &config, &rootfs])
            .env("LD_LIBRARY_PATH", staged().join("usr/lib/test")),
    );
    for wanted in ["/dev/nvidia0\n", "/usr/lib/libcuda.so.1.2.3\n"] {
        let wanted = format!("{}{wanted}", rootfs.display());
        assert!(output.contains(&wanted), "{wanted} in {output}");
    }
    assert!(!output.contains("nvidia1"), "{output}");
    let ours = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!ours.contains(rootfs.to_str().unwrap()));
    assert!(rootfs.join("etc/ld.so.cache").exists());
}
