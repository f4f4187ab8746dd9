//! The container image, made from the host's own files: the probe, its loader and C library, and the libraries that
//! the driver's need besides. In the format of `docker save`, which Docker, Podman and containerd all load.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::command::{find, run};

pub(crate) const NAME: &str = "docker.io/library/gpu-run:probe";
pub(crate) const PROBE: &str = "/gpu-probe";

/// Libraries that graphics drivers and the driver's programs link to. The Vulkan and EGL loaders come from the image
/// too, not from the driver.
const LIBRARIES: [&str; 18] = [
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "libX11.so.6",
    "libXext.so.6",
    "libX11-xcb.so.1",
    "libxcb.so.1",
    "libdrm.so.2",
    "libgbm.so.1",
    "libvulkan.so.1",
    "libEGL.so.1",
    "libGLdispatch.so.0",
    "libOpenGL.so.0",
    "libwayland-client.so.0",
];

/// Copies the image's files from the host into `root`.
pub(crate) fn lay_out(root: &Path, probe: &Path) -> Result<(), String> {
    let prefix = |path: &Path| format!("{}: ", path.display());
    let mut files = dependencies(probe)?;
    for path in cached_libraries() {
        files.extend(dependencies(&path).unwrap_or_default());
        files.insert(path);
    }
    let put = |from: &Path, to: &Path| -> Result<(), String> {
        let to = root.join(to.strip_prefix("/").unwrap_or(to));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|e| prefix(parent) + &e.to_string())?;
        }
        // By content: on the host the name is often a link.
        fs::copy(from, &to)
            .map(drop)
            .map_err(|e| prefix(from) + &e.to_string())
    };
    put(probe, Path::new(PROBE))?;
    let mut directories = BTreeSet::new();
    for file in &files {
        put(file, file)?;
        directories.extend(file.parent().map(Path::to_owned));
    }
    for dir in ["etc", "dev", "proc", "sys", "tmp", "run"] {
        fs::create_dir_all(root.join(dir)).map_err(|e| format!("{dir}: {e}"))?;
    }
    let list: Vec<String> = directories
        .iter()
        .map(|d| format!("{}\n", d.display()))
        .collect();
    fs::write(root.join("etc/ld.so.conf"), list.concat()).map_err(|e| e.to_string())?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/gpu-probe\n").map_err(|e| e.to_string())?;
    if let Some(ldconfig) = find("ldconfig") {
        let outcome = run(
            Command::new(ldconfig).arg("-r").arg(root),
            Duration::from_secs(20),
        );
        if !outcome.is_success() {
            return Err(format!("ldconfig for the image: {}", outcome.failure()));
        }
    }
    Ok(())
}

/// The loader and all libraries that a program needs, as listed by its loader.
fn dependencies(file: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let loader = loader()?;
    let outcome = run(
        Command::new(&loader).arg("--list").arg(file),
        Duration::from_secs(10),
    );
    if !outcome.is_success() {
        return Err(format!(
            "what {} needs: {}",
            file.display(),
            outcome.failure()
        ));
    }
    let mut paths = BTreeSet::from([loader]);
    for line in outcome.out.lines() {
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, or the loader's path alone.
        let path = line
            .rsplit("=> ")
            .next()
            .unwrap_or_default()
            .split(" (")
            .next()
            .unwrap_or_default()
            .trim();
        if path.starts_with('/') {
            paths.insert(path.into());
        }
    }
    Ok(paths)
}

/// The dynamic loader of this program. The probe has the same one, since both are built together.
fn loader() -> Result<PathBuf, String> {
    let names = match std::env::consts::ARCH {
        "aarch64" => ["/lib/ld-linux-aarch64.so.1", "/lib64/ld-linux-aarch64.so.1"],
        _ => ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2"],
    };
    let loader = names.into_iter().map(PathBuf::from).find(|p| p.exists());
    loader.ok_or_else(|| {
        "this host has no loader of glibc, which the driver's libraries need".to_owned()
    })
}

/// Where this host has the libraries of `LIBRARIES`, by its loader cache.
fn cached_libraries() -> Vec<PathBuf> {
    let Some(ldconfig) = find("ldconfig") else {
        return Vec::new();
    };
    let listed = run(Command::new(ldconfig).arg("-p"), Duration::from_secs(10)).out;
    let kind = if std::env::consts::ARCH == "aarch64" {
        "AArch64"
    } else {
        "x86-64"
    };
    let path_of = |name: &&str| {
        let line = listed
            .lines()
            .find(|l| l.trim().starts_with(&format!("{name} (")) && l.contains(kind))?;
        Some(PathBuf::from(line.split("=> ").nth(1)?.trim()))
    };
    LIBRARIES.iter().filter_map(path_of).collect()
}

/// Writes the image as an archive that engines load.
pub(crate) fn archive(root: &Path, to: &Path) -> Result<(), String> {
    write_archive(root, to).map_err(|e| format!("the image's archive: {e}"))
}

fn write_archive(root: &Path, to: &Path) -> std::io::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    layer.mode(tar::HeaderMode::Deterministic);
    layer.follow_symlinks(false);
    layer.append_dir_all(".", root)?;
    let layer = layer.into_inner()?;
    let digest = hex(&Sha256::digest(&layer));
    let architecture = if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        "amd64"
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": [PROBE], "Env": ["PATH=/usr/bin:/bin", "NVIDIA_DRIVER_CAPABILITIES=all"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    })
    .to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest =
        json!([{"Config": config_name, "RepoTags": [NAME], "Layers": [format!("{digest}.tar")]}]);
    let mut archive = tar::Builder::new(File::create(to)?);
    let mut put = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, content)
    };
    put("manifest.json", manifest.to_string().as_bytes())?;
    put(&config_name, config.as_bytes())?;
    put(&format!("{digest}.tar"), &layer)?;
    archive.finish()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
