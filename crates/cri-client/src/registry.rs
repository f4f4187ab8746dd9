//! Serves one image archive to the engine as a registry on the loopback address, because CRI cannot import an
//! archive. Every engine pulls from 127.0.0.0/8 without TLS unless configured otherwise (CRI-O
//! internal/storage/image.go, containerd `MatchLocalhost`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Time limit for an engine that connects and sends nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// Maximum bytes of a request's line and headers.
const REQUEST: u64 = 64 << 10;

/// The name of the image below the address.
const IMAGE: &str = "/gpusetup/probe:1";

/// Whether an image has a name under which it was served by this program, in this run or an earlier one.
pub(crate) fn has_served(name: &str) -> bool {
    name.starts_with("127.0.0.1:") && name.ends_with(IMAGE)
}

/// Serves until the process ends. Returns the name under which the engine pulls the image.
pub(crate) fn serve(archive: &Path) -> io::Result<String> {
    let image = Arc::new(ServedImage::read(archive)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let name = format!("127.0.0.1:{}{IMAGE}", listener.local_addr()?.port());
    std::thread::Builder::new().spawn(move || {
        for stream in listener.incoming().flatten() {
            let image = Arc::clone(&image);
            // The engine reports a connection that is refused or cut.
            let _ = std::thread::Builder::new().spawn(move || drop(image.answer(&stream)));
        }
    })?;
    Ok(name)
}

struct ServedImage {
    /// By digest.
    blobs: HashMap<String, Vec<u8>>,
    manifest: String,
}

impl ServedImage {
    fn read(archive: &Path) -> io::Result<Self> {
        let mut blobs = HashMap::new();
        let mut manifest = None;
        for entry in tar::Archive::new(File::open(archive)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if path == "index.json" {
                let index: Value = serde_json::from_slice(&content)?;
                manifest = index["manifests"][0]["digest"].as_str().map(str::to_owned);
            } else if let Some(hash) = path.strip_prefix("blobs/sha256/") {
                blobs.insert(format!("sha256:{hash}"), content);
            }
        }
        let manifest = manifest.filter(|digest| blobs.contains_key(digest));
        let manifest = manifest.ok_or_else(|| io::Error::other("it is no OCI image archive"))?;
        Ok(Self { blobs, manifest })
    }

    /// Answers the requests of one connection (distribution-spec, "Pulling manifests" and "Pulling
    /// blobs").
    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            let mut request = (&mut reader).take(REQUEST);
            if request.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut header = String::new();
            while request.read_line(&mut header)? > 2 {
                header.clear();
            }
            let mut words = line.split_whitespace();
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let (status, kind, body) = self.find(path);
            let digest = match path.rsplit_once('/') {
                Some((_, last)) if last.starts_with("sha256:") => last,
                _ => &self.manifest,
            };
            let mut writer = stream;
            write!(
                writer,
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                 Docker-Content-Digest: {digest}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\r\n",
                body.len()
            )?;
            if method == "GET" {
                writer.write_all(body)?;
            }
        }
    }

    fn find(&self, path: &str) -> (&'static str, &'static str, &[u8]) {
        let missing = ("404 Not Found", "application/json", &b"{}"[..]);
        if path == "/v2/" || path == "/v2" {
            return ("200 OK", "application/json", b"{}");
        }
        // containerd adds `?ns=` if mirrors are configured.
        let path = path.split('?').next().unwrap_or(path);
        let Some((rest, reference)) = path.rsplit_once('/') else {
            return missing;
        };
        let digest = if reference == "1" {
            &self.manifest
        } else {
            reference
        };
        let kind = match rest {
            "/v2/gpusetup/probe/manifests" if digest == self.manifest => MANIFEST,
            "/v2/gpusetup/probe/blobs" => "application/octet-stream",
            _ => return missing,
        };
        self.blobs
            .get(digest)
            .map_or(missing, |blob| ("200 OK", kind, blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("image.tar");
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        let mut put = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content).unwrap();
        };
        put("blobs/sha256/aa", b"manifest");
        put("blobs/sha256/bb", b"layer");
        put("index.json", br#"{"manifests":[{"digest":"sha256:aa"}]}"#);
        tar.into_inner().unwrap();
        path
    }

    fn get(name: &str, requests: &[&str]) -> String {
        let (address, _) = name.split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        for request in requests {
            write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_image_is_found_by_tag_and_by_digest_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let name = serve(&archive(dir.path())).unwrap();
        let get = |requests: &[&str]| get(&name, requests);
        let both = get(&[
            "GET /v2/gpusetup/probe/manifests/1",
            "GET /v2/gpusetup/probe/blobs/sha256:bb?ns=127.0.0.1",
        ]);
        assert!(
            both.contains("manifest") && both.ends_with("layer"),
            "{both}"
        );
        assert!(both.contains("Docker-Content-Digest: sha256:aa"), "{both}");
        assert!(get(&["GET /v2/"]).starts_with("HTTP/1.1 200"));
        let head = get(&["HEAD /v2/gpusetup/probe/manifests/sha256:aa"]);
        assert!(
            head.contains("Content-Length: 8") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        for other in [
            "GET /v2/gpusetup/probe/manifests/sha256:bb",
            "GET /v2/other/blobs/sha256:bb",
            "GET /../etc/passwd",
        ] {
            assert!(get(&[other]).starts_with("HTTP/1.1 404"), "{other}");
        }
    }

    #[test]
    fn what_is_no_image_archive_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"").unwrap();
        assert!(
            serve(&path)
                .unwrap_err()
                .to_string()
                .contains("no OCI image")
        );
    }
}
