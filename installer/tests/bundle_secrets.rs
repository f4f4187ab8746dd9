//! Tests with secrets of every form in every kind of file that a bundle collects that none gets
//! into the archive, and that what a maintainer needs does.
//!
//! The forms and places are data (`secrets/`). The secrets are generated from a seed, so that a
//! scanner of this repository finds none.
#![allow(clippy::unwrap_used)]

#[path = "secrets/planting.rs"]
mod planting;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aho_corasick::AhoCorasick;
use flate2::read::GzDecoder;
use planting::{MadeUp, Place, encoded, forms, parts, places};
use serde_json::{Value, json};
use tar::Archive;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// One secret, and where it was planted.
struct Planted {
    secret: String,
    form: String,
    place: String,
}

/// Plants some forms in every place in every way, and once in a text that gpusetup replaced.
fn plant(root: &Path, forms: &[String], places: &[Place], made_up: &mut MadeUp) -> Vec<Planted> {
    let mut planted = Vec::new();
    let mut changes = Vec::new();
    for place in places {
        let mut text = place.text.trim_start().to_owned();
        for (way, form) in place
            .ways
            .iter()
            .flat_map(|w| forms.iter().map(move |f| (w, f)))
        {
            let (filled, secrets) = made_up.fill(form);
            text.push_str(&format!("{}\n", encoded(way, &filled)));
            planted.extend(secrets.into_iter().map(|secret| Planted {
                secret,
                form: form.clone(),
                place: format!("{} by {way:?}", place.path),
            }));
        }
        write(root, &place.path, &text);
        changes.push(json!({
            "path": format!("/{}", place.path), "before": text, "after": text, "mode": 420,
            "why": "x", "kind": {"kind": "own"},
        }));
    }
    let receipt = json!({
        "schema": 1, "version": "1", "directories": [], "services": [], "changes": changes,
    });
    write(root, "var/lib/gpusetup/receipt.json", &receipt.to_string());
    planted
}

/// Names and contents of the archive of a tree, and the program's document.
fn archive(root: &Path) -> (Vec<(String, String)>, Value) {
    let packed = root.with_extension("tar.gz");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpusetup"));
    command.arg("--root").arg(root);
    command.args(["bundle", "--json", "-o"]).arg(&packed);
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let mut archive = Archive::new(GzDecoder::new(fs::File::open(packed).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    (
        entries.collect(),
        serde_json::from_slice(&out.stdout).unwrap(),
    )
}

/// How many forms share one tree: a bundle for each would take minutes.
const TOGETHER: usize = 40;

/// Which of the secrets are in the text. They are searched for all at once: one by one, the text
/// would be read ten thousand times.
fn found_in<'a>(planted: &'a [Planted], text: &str) -> Vec<&'a Planted> {
    let needles = planted
        .iter()
        .flat_map(|p| parts(&p.secret).into_iter().map(move |part| (p, part)));
    let (owners, needles): (Vec<_>, Vec<_>) = needles.unzip();
    let search = AhoCorasick::new(needles).unwrap();
    let hits = search.find_overlapping_iter(text);
    let patterns: BTreeSet<usize> = hits.map(|hit| hit.pattern().as_usize()).collect();
    patterns.into_iter().map(|n| owners[n]).collect()
}

/// The forms whose secret got into the archive, each with its places.
fn leaks(list: &str, seed: u64) -> Vec<String> {
    let places = places();
    let forms = forms(list);
    let chunks: Vec<(u64, &[String])> = (seed..).zip(forms.chunks(TOGETHER)).collect();
    let next = AtomicUsize::new(0);
    let found: Mutex<BTreeMap<String, BTreeSet<String>>> = Mutex::default();
    // Each chunk gets a tree of its own.
    let work = || {
        while let Some((seed, some)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("host");
            let planted = plant(&root, some, &places, &mut MadeUp::new(*seed));
            let (all, _) = archive(&root);
            let all: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
            for p in found_in(&planted, &all.join("\n")) {
                let mut leaks = found.lock().unwrap();
                leaks
                    .entry(p.form.clone())
                    .or_default()
                    .insert(p.place.clone());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let found = found.into_inner().unwrap();
    println!("{} of {} forms come through", found.len(), forms.len());
    let line = |(form, ways): (String, BTreeSet<String>)| {
        format!("{form:?} in {} ways: {}", ways.len(), ways.first().unwrap())
    };
    found.into_iter().map(line).collect()
}

/// Proves that the search finds a whole secret and either half of a long one.
#[test]
fn planted_secrets_are_found() {
    let planted = |secret: &str| Planted {
        secret: secret.into(),
        form: String::new(),
        place: String::new(),
    };
    let all = [planted("velvet-otter-copper"), planted("Otter1234!")];
    for (text, found) in [
        ("x velvet-otter-copper x", &["velvet-otter-copper"][..]),
        ("xvelvet-otx", &["velvet-otter-copper"]),
        ("xter-copperx", &["velvet-otter-copper"]),
        ("xOtter1234!x", &["Otter1234!"]),
        ("Otter12345", &[]),
        (
            "velvet-ot ter-copper Otter1234!",
            &["velvet-otter-copper", "Otter1234!"],
        ),
    ] {
        let mut secrets: Vec<&str> = found_in(&all, text)
            .iter()
            .map(|p| p.secret.as_str())
            .collect();
        secrets.dedup();
        assert_eq!(secrets, found, "{text}");
    }
}

#[test]
fn every_form_of_a_secret_is_masked_in_every_kind_of_file() {
    let found = leaks(include_str!("secrets/forms.txt"), 1);
    assert!(found.is_empty(), "{}:\n{}", found.len(), found.join("\n"));
}

#[test]
fn facts_that_a_maintainer_needs_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("host");
    let places = places();
    for place in &places {
        write(&root, &place.path, place.text.trim_start());
    }
    let (all, _) = archive(&root);
    let mut missing = Vec::new();
    for place in &places {
        let file = all.iter().find(|(name, _)| name.ends_with(&place.path));
        let (_, text) = file.unwrap_or_else(|| panic!("no {}", place.path));
        for words in &place.needs {
            if !text.contains(words) {
                missing.push(format!("{}: no {words:?} in\n{text}", place.path));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
