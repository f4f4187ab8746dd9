//! Tests the mask with every form of a secret in every kind of file, one at a time.
#![allow(clippy::cast_possible_truncation)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use planting::{MadeUp, Place, encoded, forms, parts, places};
use proptest::prelude::*;

use super::*;

#[path = "../../../tests/secrets/planting.rs"]
mod planting;

fn is_in(secret: &str, text: &str) -> bool {
    parts(secret).into_iter().any(|part| text.contains(part))
}

/// The forms whose secret was not masked in one place, each with the way it was written and the
/// masked file.
fn leaks_in(nth: usize, place: &Place, forms: &[String], seed: u64) -> Vec<(String, String)> {
    // Trying every form in every way takes minutes, so each form is tried in one way only. The
    // archive's test uses all of them, with many forms in one file.
    let in_all = std::env::var_os("ALL_WAYS").is_some();
    let mut found = Vec::new();
    for (at, way) in place.ways.iter().enumerate() {
        for (n, form) in forms.iter().enumerate() {
            if !in_all && (n + nth) % place.ways.len() != at {
                continue;
            }
            let (filled, secrets) = MadeUp::new(seed + n as u64).fill(form);
            // Long texts are logs, whose lines do not depend on each other.
            let before = if place.text.len() < 600 {
                place.text.trim_start()
            } else {
                ""
            };
            let text = format!("{before}{}\n", encoded(way, &filled));
            let masked = mask_file(Path::new(&place.path), &text);
            if secrets.iter().any(|s| is_in(s, &masked)) {
                let of_file = &masked[masked.len().saturating_sub(260)..];
                let line = format!("{} by {way:?}: {of_file}", place.path);
                found.push((form.clone(), line));
            }
        }
    }
    found
}

fn leaks(list: &str, seed: u64) -> Vec<String> {
    let (forms, places) = (forms(list), places());
    let next = AtomicUsize::new(0);
    let found: Mutex<BTreeMap<String, Vec<String>>> = Mutex::default();
    let work = || {
        while let Some((nth, place)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, places.get(n)?)))
        {
            for (form, line) in leaks_in(nth, place, &forms, seed) {
                found.lock().unwrap().entry(form).or_default().push(line);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let found = found.into_inner().unwrap();
    println!("{} of {} forms come through", found.len(), forms.len());
    let line = |(form, ways): (String, Vec<String>)| {
        format!("{form:?} in {} ways: {}", ways.len(), ways[0])
    };
    found.into_iter().map(line).collect()
}

#[test]
fn every_form_of_a_secret_is_masked_in_every_kind_of_file() {
    let found = leaks(include_str!("../../../tests/secrets/forms.txt"), 1);
    assert!(found.is_empty(), "{}:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_form_of_the_attack_is_masked() {
    let found = leaks(include_str!("../../../tests/secrets/attack.txt"), 7);
    assert!(found.is_empty(), "{}:\n{}", found.len(), found.join("\n"));
}

#[test]
fn facts_that_a_maintainer_needs_are_kept() {
    let mut missing = Vec::new();
    for place in places() {
        let masked = mask_file(Path::new(&place.path), place.text.trim_start());
        for words in place.needs.iter().filter(|w| !masked.contains(*w)) {
            missing.push(format!("{}: no {words:?} in\n{masked}", place.path));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn all(item: &toml_edit::Item, texts: &mut Vec<String>) {
    if let Some(text) = item.as_str() {
        texts.push(text.to_owned());
    } else if let Some(table) = item.as_table_like() {
        table.iter().for_each(|(_, item)| all(item, texts));
    } else if let Some(tables) = item.as_array_of_tables() {
        tables
            .iter()
            .flat_map(|t| t.iter())
            .for_each(|(_, item)| all(item, texts));
    }
}

/// gpusetup's own texts about problems contain no secrets and must not be masked.
#[test]
fn messages_of_doctor_are_kept() {
    let problems: toml_edit::DocumentMut = include_str!("../../../problems.toml").parse().unwrap();
    let mut texts = Vec::new();
    problems.iter().for_each(|(_, item)| all(item, &mut texts));
    assert!(texts.len() > 300, "{}", texts.len());
    let changed: Vec<String> = texts
        .iter()
        .map(|t| mask(t))
        .filter(|m| count(m) > 0)
        .collect();
    println!(
        "{} of {}:\n{}",
        changed.len(),
        texts.len(),
        changed.join("\n")
    );
    assert!(
        changed.len() * 40 < texts.len(),
        "{} of {}",
        changed.len(),
        texts.len()
    );
}

/// Texts in which `«»` enclose what must be masked.
const TEXTS: &[&str] = &[
    "{\"proxies\": {\"http-proxy\": \"http://«user:pa/ss»@proxy:3128\"}}",
    "proxy=http://«u:p,w»@h:1/x and http://open/",
    "{\"auths\": {\"nvcr.io\": {\"auth\": \"«JG9hdXRo»\"}}}",
    "{\"identitytoken\": \"«a\\\"b c»\", \"HttpHeaders\": {\"X-Meta\": \"«m»\"}}",
    "[plugins.x.registry.configs.\"r\".auth]\n  username = \"«u»\"\n  password = '«p w»'\n  other = \"«o»\"\n[debug]\n  level = \"info\"",
    "[host.\"https://r\".header]\n  X-Custom = [\"«c1»\", \"«c2»\"]\n",
    "authorization = [\n  \"Basic «abcdefgh»\",\n]",
    "  auth:\n    username: «u»\n    password: «p»\n    auth: «a»\n",
    "password: «two» «words»\nuser: x\n",
    "  - token: «a,b c»\n",
    "default_env = [\"NGC_API_KEY=«a,b»\", \"X=1\"]",
    "PASSWORD=«a;b,c&d\"e» after\n",
    "token: |\n  «line1»\n  «line2»\nnext: 1\n",
    "Environment=\"FOO=«a b»\" BAR=«c» \"PATH=/usr/bin\" BAZ='«d e»'\n",
    "Environment=PLAIN=«x» NVIDIA_VISIBLE_DEVICES=all \\\n  MORE=«y»\n",
    "Environment=HTTPS_PROXY=http://«u:p»@proxy\n",
    "Environment=FOO='«a»'«tail1» BAR=«x»\"«y z»\" \"BAZ=«q\\\"r»\"\n",
    "ExecStart=/usr/bin/k3s agent --token «K1» --node-name a --registry-password=«x»\n",
    "docker run -e KEY=«v» --env='DB=«w»' image",
    "-----BEGIN RSA PRIVATE KEY-----\n«MIIEabc»\n-----END RSA PRIVATE KEY-----\nafter",
    "«MIIEabc»\n«MIIEdef==»\n-----END PRIVATE KEY-----\nafter",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n«b3BlbnNz»",
    "client-key-data: «LS0tLS1CRUdJTiBSU0E»\n",
    "X «LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVkt»",
    "Authorization: Bearer «eyJhbGciOiJIUzI1NiJ9.eyJzdWIifQ.c2ln»",
    "pulled with «nvapi-0123456789abcdefXYZ» and «ghp_0123456789abcdefghij»",
    "level=error msg=\"login\" password=«hunter2» user=x",
    "Environment=\"X=«Aa,AAAa=»\"\n",
    "Environment=\"X=«#:A!!?!,»\"\n",
    "AWS_SECRET_ACCESS_KEY=«abc/def+g»\nAWS_ACCESS_KEY_ID=«AKIAIOSFODNN7EXAMPLE»",
];

#[test]
fn secrets_are_masked_and_the_text_beside_them_is_kept() {
    for marked in TEXTS {
        let text = marked.replace(['«', '»'], "");
        let masked = mask(&text);
        for secret in marked.split('«').skip(1) {
            let (secret, _) = secret.split_once('»').unwrap();
            // A secret of one or two letters can occur in any text by chance.
            assert!(
                secret.len() < 3 || !masked.contains(secret),
                "{secret:?} is still in {masked}"
            );
        }
        assert!(count(&masked) > 0, "{masked}");
        assert_eq!(mask(&masked), masked, "a second mask changes it");
    }
}

#[test]
fn text_without_secrets_is_kept() {
    for text in [
        "{\"passed\": [\"driver-missing\"], \"author\": \"x\", \"tlskey\": \"/etc/key.pem\"}",
        "image nvcr.io/nvidia/cuda@sha256:0123 docker://nvcr.io/x@sha256:0123",
        "Environment=\"PATH=/usr/lib/gpu-container/bin:/usr/bin\"\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"x\"\n",
        "  SystemdCgroup = true\n  BinaryName = \"/usr/bin/gpu-container-runtime\"\n",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.",
        "ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock\n",
    ] {
        assert_eq!(mask(text), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any text, such as half a file or a binary, is masked without a panic.
    #[test]
    fn any_text_can_be_masked(text in r#"([a-z]{0,6}|password|token|Environment=|://|@|"|'|\[|\]|\{|=|: |\n|\\\\|-----BEGIN PRIVATE KEY-----|«|\PC){0,40}"#) {
        let masked = mask(&text);
        prop_assert!(mask(&masked).len() <= masked.len() * 12 + 64);
        for name in ["a.json", "a.toml", "a.yaml", "a.service", "a", "a.log"] {
            let masked = mask_file(Path::new(name), &text);
            let lines = |t: &str| t.lines().count();
            prop_assert!(lines(&masked) <= lines(&text) + 1, "{:?}", masked);
        }
    }

    /// A password of any characters is masked in the usual places.
    #[test]
    fn any_password_is_masked(secret in "[A-Za-z0-9!#$%*+,.:;=?^_~/-]{8,24}") {
        for text in [
            format!("{{\"password\": \"{secret}\"}}"),
            format!("password = '{secret}'\n"),
            format!("  password: {secret}\n"),
            format!("http://user:{secret}@proxy:3128/"),
            format!("Environment=\"X={secret}\"\n"),
            format!("Environment=X={secret}\n"),
        ] {
            prop_assert!(!mask(&text).contains(&secret), "{} of {}", mask(&text), text);
            for name in ["a.json", "a.toml", "a.yaml", "a.service", "a", "a.log"] {
                let masked = mask_file(Path::new(name), &text);
                prop_assert!(!masked.contains(&secret), "{} of {} in {}", masked, text, name);
            }
        }
    }
}

/// The names in bundle.toml are where a maintainer looks and must not be masked.
#[test]
fn paths_and_units_of_the_bundle_are_kept() {
    let table: ::toml::Table = ::toml::from_str(include_str!("../../../bundle.toml")).unwrap();
    let names = table.values().flat_map(|list| list.as_array().unwrap());
    let names: Vec<&str> = names.map(|name| name.as_str().unwrap()).collect();
    assert!(names.len() > 50);
    for name in names {
        let name = name.replace("/*", "").replace('*', "");
        assert_eq!(mask(&name), name);
        if let Some(unit) = name.strip_suffix(".service") {
            let line = format!("2026-01-05T09:12:01+0000 {unit}[77]: ready");
            assert_eq!(mask(&line), line);
        }
    }
}

/// Error messages of engines and drivers must not be masked.
#[test]
fn known_error_messages_are_kept() {
    for line in [
        "exec: \"nvidia-container-runtime\": executable file not found in $PATH",
        "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
        "Get \"https://registry-1.docker.io/v2/\": net/http: request canceled",
        "no basic auth credentials",
        "service account token has expired",
    ] {
        assert_eq!(mask(line), line);
    }
}
