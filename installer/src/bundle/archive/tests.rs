//! Tests of the archive: secrets planted in every file that is collected, and hostile file names.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use flate2::read::GzDecoder;
use tar::Archive;

use super::*;
use crate::bundle::collect;
use crate::host::{Host, RECEIPT};
use crate::model::change::{Change, MergeKind};
use crate::transaction::receipt::Receipt;
use crate::transaction::state_file;

/// Files with their content. `«»` enclose the secrets, which must not get into the archive.
const PLANTED: &[(&str, &str)] = &[
    (
        "etc/docker/daemon.json",
        "{\"proxies\": {\"http-proxy\": \"http://joe:«Planted-01»@proxy:3128\"}, \"log-driver\": \"journald\"}",
    ),
    (
        "root/.docker/config.json",
        "{\"auths\": {\"nvcr.io\": {\"auth\": \"«UGxhbnRlZC0wMg»==\"}}, \"HttpHeaders\": {\"X-Mine\": \"«Planted-03»\"},\n \"proxies\": {\"default\": {\"httpsProxy\": \"http://u:«Planted-04»@p\"}}}",
    ),
    (
        "etc/default/docker",
        "export REGISTRY_TOKEN=\"«Planted-05»\"\nhttp_proxy=http://u:«Planted-06»@p/\n",
    ),
    (
        "etc/containerd/config.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"nvcr.io\".auth]\n  username = \"$oauthtoken\"\n  password = \"«Planted-07»\"\n  identitytoken = \"«Planted-08»\"\n",
    ),
    (
        "etc/containerd/certs.d/r.example/hosts.toml",
        "[host.\"https://r.example\".header]\n  X-Anything = [\"«Planted-09»\"]\n",
    ),
    (
        "etc/crio/crio.conf.d/10-x.conf",
        "# GET https://u:«Planted-10»@registry/\n[crio.runtime]\ndefault_env = [\n  \"NGC_API_KEY=«Planted-11»\",\n]\n",
    ),
    (
        "etc/containers/containers.conf",
        "[engine]\nenv = [\"https_proxy=http://u:«Planted-12»@p\"]\n",
    ),
    (
        "etc/rancher/k3s/config.yaml",
        "token: «Planted-13»\nagent-token: >-\n  «Planted-14»\nnode-name: a\n",
    ),
    (
        "etc/rancher/k3s/registries.yaml",
        "configs:\n  r.example:\n    auth:\n      username: u\n      password: «Planted-15»\n",
    ),
    (
        "etc/k0s/k0s.yaml",
        "spec:\n  storage:\n    secretKey: '«Planted-16»'\n",
    ),
    (
        "etc/systemd/system/docker.service",
        "[Service]\nEnvironment=\"DB=«Planted-17»\" OTHER=«Planted-18»\nExecStart=/usr/sbin/dockerd --cluster-token «Planted-19»\n",
    ),
    (
        "etc/systemd/system/docker.service.d/proxy.conf",
        "[Service]\nEnvironment=HTTP_PROXY=http://u:«Planted-20»@p\n",
    ),
    (
        "etc/cdi/x.yaml",
        "cdiVersion: 0.5.0\nkind: a.b/c\ncontainerEdits:\n  env: [\"LICENSE_TOKEN=«Planted-21»\"]\n",
    ),
    (
        "etc/nvidia-container-runtime/config.toml",
        "# -----BEGIN PRIVATE KEY-----\n# «Planted-22»\n# -----END PRIVATE KEY-----\n",
    ),
    (
        "proc/cmdline",
        "quiet ci.password=«Planted-23» root=/dev/vda\n",
    ),
    (
        "etc/modprobe.d/nvidia.conf",
        "# token «glpat-Planted24abcdefgh»\noptions nvidia NVreg_ModifyDeviceFiles=0\n",
    ),
    (
        "var/log/gpusetup.log",
        "pull https://u:«Planted-25»@r/ Authorization: Bearer «Planted-26-bearer»\nMII\n«Planted27»\n-----END RSA PRIVATE KEY-----\n",
    ),
    (
        "var/log/nvidia-container-runtime.log",
        "{\"env\": [\"AWS_SECRET_ACCESS_KEY=«Planted-28»\"], \"jwt\": \"«eyJhbGciOiJIUzI1NiJ9.eyJQbGFudGVkMjki.c2ln»\"}\n",
    ),
    (
        "var/lib/gpusetup/receipt.json",
        r#"{"schema":1,"version":"1","changes":[{"path":"/etc/docker/daemon.json","before":"{\"proxies\":{\"http-proxy\":\"http://u:«Planted-30»@p\"}}","after":"{\"auth\": \"«Planted-31»\"}","mode":420,"why":"x","kind":{"kind":"own"}}],"directories":[],"services":[]}"#,
    ),
];

fn secrets() -> Vec<&'static str> {
    let texts = PLANTED.iter();
    texts
        .flat_map(|(_, text)| text.split('«').skip(1))
        .map(|part| part.split('»').next().unwrap())
        .collect()
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn planted() -> (tempfile::TempDir, Bundle) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in PLANTED {
        write(dir.path(), path, &text.replace(['«', '»'], ""));
    }
    let host = Host::open(dir.path(), Path::new("/")).unwrap();
    let bundle = collect::collect(&host);
    (dir, bundle)
}

/// Names and contents of the files in an archive.
fn unpacked(packed: &[u8]) -> Vec<(String, String)> {
    let mut archive = Archive::new(GzDecoder::new(packed));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    entries.collect()
}

#[test]
fn no_planted_secret_is_in_the_archive() {
    let (_dir, bundle) = planted();
    let packed = pack(&Masked::of(&bundle), "b").unwrap();
    for (name, text) in unpacked(&packed) {
        for secret in secrets() {
            assert!(!text.contains(secret), "{secret} is in {name}:\n{text}");
        }
        assert!(!text.contains("Planted"), "in part in {name}:\n{text}");
    }
}

/// Proves that the test above would notice a secret.
#[test]
fn without_the_mask_every_planted_secret_is_in_the_archive_and_in_the_page() {
    let (_dir, bundle) = planted();
    let all = unpacked(&pack(&Masked::not(bundle), "b").unwrap());
    let (_, page) = &all[0];
    for secret in secrets() {
        let texts: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
        assert!(texts[1..].iter().any(|t| t.contains(secret)), "{secret}");
        assert!(page.contains(secret), "{secret} in the page");
    }
    for (path, _) in PLANTED {
        let is_there = |(name, _): &(String, String)| name.ends_with(path);
        assert!(
            path.ends_with("receipt.json") || all.iter().any(is_there),
            "{path}"
        );
    }
}

#[test]
fn text_without_secrets_stays_readable() {
    let (_dir, bundle) = planted();
    let all = unpacked(&pack(&Masked::of(&bundle), "b").unwrap());
    for (file, words) in [
        ("daemon.json", "\"log-driver\": \"journald\""),
        ("k3s/config.yaml", "node-name: a"),
        ("modprobe.d/nvidia.conf", "NVreg_ModifyDeviceFiles=0"),
        (
            "docker.service",
            "ExecStart=/usr/sbin/dockerd --cluster-token",
        ),
        ("hosts.toml", "[host.\"https://r.example\".header]"),
    ] {
        let (_, text) = all.iter().find(|(name, _)| name.ends_with(file)).unwrap();
        assert!(text.contains(words), "{file}: {text}");
    }
}

#[test]
fn text_and_names_from_a_hostile_host_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let script = "<script>alert(1)</script>\"'&\u{202e}";
    let name = "etc/cdi/<img src=x onerror=alert(1)>\n\"..yaml";
    write(dir.path(), name, script);
    write(
        dir.path(),
        "var/log/gpusetup.log",
        &format!("</pre>{script}\0\n</pre> <script> alert </script>\n"),
    );
    write(
        dir.path(),
        "etc/os-release",
        "ID=x\nPRETTY_NAME=\"<b>bold</b>\"\n",
    );
    write(
        dir.path(),
        "etc/systemd/system/docker.service",
        "\u{ff}\n</code><svg/onload=x>",
    );
    let host = Host::open(dir.path(), Path::new("/")).unwrap();
    let bundle = Masked::of(&collect::collect(&host));
    let all = unpacked(&pack(&bundle, "b").unwrap());
    let (_, page) = &all[0];
    for tag in [
        "<script",
        "<img",
        "<b>",
        "<svg/",
        "</pre>&lt;script&gt;alert(1)&lt;/script&gt;\"'&",
    ] {
        assert!(!page.contains(tag), "{tag}");
    }
    // The mask leaves the words of a sentence and the punctuation around them.
    assert!(page.contains("&lt;script&gt; alert &lt;/script&gt;"));
    for (name, _) in &all {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-+@*/".contains(c);
        assert!(
            name.starts_with("b/") && !name.contains("/../") && name.chars().all(fits),
            "{name}"
        );
    }
    // Nothing makes a browser load anything.
    for attribute in ["src=", "http://", "https://", "url(", "@import"] {
        let ours = page.replace("src=&lt;", "").replace("src=<mark>&lt;", "");
        assert!(!ours.contains(attribute), "{attribute}");
    }
}

#[test]
fn archive_members_unpack_below_one_directory_and_have_unique_names() {
    assert_eq!(plain("/etc/../a b/./c"), "etc/a_b/c");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "etc/cdi/a b.yaml", "1");
    write(dir.path(), "etc/cdi/a_b.yaml", "2");
    let host = Host::open(dir.path(), Path::new("/")).unwrap();
    let bundle = Masked::of(&collect::collect(&host));
    let all = unpacked(&pack(&bundle, "b").unwrap());
    let specs: Vec<_> = all.iter().filter(|(n, _)| n.contains("cdi/")).collect();
    assert_eq!(specs.len(), 2);
    assert_ne!(specs[0].0, specs[1].0);
}

/// A log that is too large for the page is cut, and marked as cut.
#[test]
fn a_long_log_keeps_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut long = String::from("first\n");
    for n in 0..40_000 {
        long.push_str(&format!("line {n}\n"));
    }
    write(dir.path(), "var/log/gpusetup.log", &long);
    let host = Host::open(dir.path(), Path::new("/")).unwrap();
    let bundle = Masked::of(&collect::collect(&host));
    let log = &bundle.logs[0];
    assert!(log.cut && log.content.ends_with("line 39999\n") && !log.content.contains("first"));
    assert!(log.content.starts_with("line "), "{}", &log.content[..20]);
}

#[test]
fn the_timeline_uses_recorded_runs_or_else_file_times() {
    let dir = tempfile::tempdir().unwrap();
    let change = |path: &str| Change {
        path: path.into(),
        before: None,
        after: Some("ours".into()),
        mode: 0o644,
        why: path.into(),
        kind: MergeKind::Own,
    };
    let at = |path: &str, time: &str| (path.into(), time.to_owned());
    let receipt = Receipt {
        changes: ["/etc/late", "/etc/early", "/etc/old-receipt"]
            .map(change)
            .into(),
        written: [
            at("/etc/late", "2026-02-02T00:00:00Z"),
            at("/etc/early", "2026-01-01T00:00:00Z"),
        ]
        .into(),
        ..Receipt::default()
    };
    let host = Host::open(dir.path(), Path::new("/")).unwrap();
    state_file::store(&host, RECEIPT, &receipt).unwrap();
    for (name, text) in [
        ("late", "theirs"),
        ("early", "ours"),
        ("old-receipt", "ours"),
    ] {
        write(dir.path(), &format!("etc/{name}"), text);
    }
    let file = fs::File::options()
        .write(true)
        .open(dir.path().join("etc/old-receipt"));
    let january = SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_435_200);
    file.unwrap().set_modified(january).unwrap();
    let bundle = Masked::of(&collect::collect(&host));
    assert_eq!(bundle.unread, Vec::<String>::new());
    let order: Vec<&str> = bundle.changes.iter().map(|c| c.path.as_str()).collect();
    assert_eq!(order, ["/etc/early", "/etc/old-receipt", "/etc/late"]);
    let page = &unpacked(&pack(&bundle, "b").unwrap())[0].1;
    for said in [
        "<time datetime=\"2026-01-01T00:00:00Z\">",
        "last written <time datetime=\"2026-01-15T00:00:00Z\">",
        "changed since, last <time",
    ] {
        assert!(page.contains(said), "no {said}");
    }
}
