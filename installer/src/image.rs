//! The built-in image that `verify` runs: one static program, no registry needed.
//!
//! In the layout of `docker save` (manifest.json, moby `image/tarexport`), which docker,
//! podman and containerd all load.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Its name.
pub const NAME: &str = "gpusetup.local/probe:1";

/// The image as a tar archive, with `program` in it.
pub fn build(program: &[u8]) -> io::Result<Vec<u8>> {
    let layer = layer(program)?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/gpu-container-probe"], "Env": ["PATH=/usr/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    }))?;
    let name = format!("{}.json", hex(&config));
    let manifest = serde_json::to_vec(&json!([
        {"Config": name, "RepoTags": [NAME], "Layers": ["layer/layer.tar"]}
    ]))?;
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [
        ("layer/layer.tar", &layer),
        (name.as_str(), &config),
        ("manifest.json", &manifest),
    ] {
        file(&mut archive, path, content, 0o644)?;
    }
    archive.into_inner()
}

fn layer(program: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for dir in [
        "dev", "etc", "proc", "sys", "tmp", "usr", "usr/bin", "usr/lib",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if dir == "tmp" { 0o1777 } else { 0o755 });
        header.set_size(0);
        archive.append_data(&mut header, format!("{dir}/"), io::empty())?;
    }
    file(&mut archive, "gpu-container-probe", program, 0o755)?;
    archive.into_inner()
}

fn file<W: Write>(
    archive: &mut tar::Builder<W>,
    path: impl AsRef<Path>,
    content: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_makes_the_same_image() {
        let image = build(b"program").unwrap();
        assert_eq!(image, build(b"program").unwrap());
        let mut names = Vec::new();
        for entry in tar::Archive::new(&image[..]).entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        assert_eq!(names.len(), 3);
        assert_eq!(names[2], "manifest.json");
    }
}
