//! Builds the image that `verify` runs: one static program, no registry needed.
//!
//! The archive is an OCI image layout (image-spec, image-layout.md) and also has the layout of
//! `docker save`, like the archives that Docker writes from 25.0 on. Docker before 25.0 and Podman
//! load it by its manifest.json (moby `image/tarexport`), containerd by its index.json.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The image's name.
pub const NAME: &str = "gpusetup.local/probe:1";
/// The program in it.
pub const PROGRAM: &str = "/gpu-container-probe";
/// The argument that makes the program wait for a line on standard input and then look again.
pub const AGAIN: &str = "again";
/// The argument that makes the program stay until it is killed.
pub const STAY: &str = "stay";

/// A program or a library for the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its path, relative to the image's root.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
}

/// The image as a tar archive, with `program` in it, and `others`.
pub fn build(program: &[u8], others: &[ImageFile]) -> io::Result<Vec<u8>> {
    let layer = layer(program, others)?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let platform = json!({"architecture": architecture, "os": "linux"});
    // The default command is for a sandbox that runs from this image; all other containers name their command.
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [PROGRAM], "Cmd": [STAY], "Env": ["PATH=/usr/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut in_index = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    in_index["platform"] = platform;
    // The name in the form that containerd and Docker read, and in the form of the specification.
    in_index["annotations"] = json!({
        "io.containerd.image.name": NAME,
        "org.opencontainers.image.ref.name": NAME.rsplit(':').next(),
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [in_index],
    }))?;
    let docker_manifest = serde_json::to_vec(&json!([
        {"Config": blob(&config), "RepoTags": [NAME], "Layers": [blob(&layer)]}
    ]))?;
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [
        ("oci-layout", &br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        (&blob(&layer), &layer),
        (&blob(&config), &config),
        (&blob(&manifest), &manifest),
        ("index.json", &index),
        ("manifest.json", &docker_manifest),
    ] {
        file(&mut archive, path, content, 0o644)?;
    }
    archive.into_inner()
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(content))
}

/// Its path in the layout.
fn blob(content: &[u8]) -> String {
    format!("blobs/sha256/{}", hex(content))
}

fn layer(program: &[u8], others: &[ImageFile]) -> io::Result<Vec<u8>> {
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
    file(
        &mut archive,
        PROGRAM.trim_start_matches('/'),
        program,
        0o755,
    )?;
    for other in others {
        file(&mut archive, &other.path, &other.content, 0o755)?;
    }
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
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn files(image: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(image).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        files
    }

    #[test]
    fn the_same_program_makes_the_same_image() {
        assert_eq!(
            build(b"program", &[]).unwrap(),
            build(b"program", &[]).unwrap()
        );
        assert_ne!(
            build(b"program", &[]).unwrap(),
            build(b"another", &[]).unwrap()
        );
    }

    /// index.json and manifest.json name the same configuration and layer, and every digest is
    /// right.
    #[test]
    fn index_and_manifest_name_the_same_blobs() {
        let files = files(&build(b"program", &[]).unwrap());
        let parsed = |name: &str| -> Value { serde_json::from_slice(&files[name]).unwrap() };
        let led_to = |descriptor: &Value| {
            let path = descriptor["digest"].as_str().unwrap().replace(':', "/");
            let path = format!("blobs/{path}");
            let content = &files[&path];
            assert_eq!(descriptor["digest"], digest(content));
            assert_eq!(descriptor["size"].as_u64(), Some(content.len() as u64));
            path
        };
        let index = parsed("index.json");
        let manifest = parsed(&led_to(&index["manifests"][0]));
        let docker = parsed("manifest.json");
        assert_eq!(docker[0]["Config"], led_to(&manifest["config"]));
        assert_eq!(docker[0]["Layers"][0], led_to(&manifest["layers"][0]));
        let name = &index["manifests"][0]["annotations"]["io.containerd.image.name"];
        assert_eq!(*name, docker[0]["RepoTags"][0]);
        assert_eq!(parsed("oci-layout")["imageLayoutVersion"], "1.0.0");
    }
}
