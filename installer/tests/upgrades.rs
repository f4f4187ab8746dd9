//! Tests hosts that a gpusetup without checksums (schema 1, commit b07101d) has set up, or on which
//! it was interrupted. The present one can plan, upgrade, recover and undo there, and says what it
//! cannot check. The older one refuses a file of the present one and says what to do.
//!
//! The files of the older one are recorded in `older/`, made with
//! `GPUSETUP_OLDER=/path/to/that/gpusetup GPUSETUP_RECORD=1`. With only the first variable the
//! tests run that program itself.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::Value;
use skips::Need;

use fixture::engines::{ENGINES, Engine, copy, state, tree};

const STATE: &str = "var/lib/gpusetup";
/// The recorded ones of [`ENGINES`], by the start of their names. They write different kinds of
/// files.
const RECORDED: [(&str, &str); 2] = [
    ("Docker 20.10", "docker"),
    ("Docker and a CDI spec", "adopted"),
];

/// The older program, if it is here.
fn older() -> Option<PathBuf> {
    std::env::var_os("GPUSETUP_OLDER").map(PathBuf::from)
}

fn run(program: &Path, root: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.arg("--root").arg(root).args(args);
    command.output().unwrap()
}

fn gpusetup(root: &Path, args: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_gpusetup")), root, args)
}

fn engine(name: &str) -> &'static Engine {
    ENGINES.iter().find(|e| e.name.starts_with(name)).unwrap()
}

/// Applies a recorded change of the older program to a file.
fn make(root: &Path, change: &Value) {
    let path = root.join(change["path"].as_str().unwrap().trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match change["after"].as_str() {
        None => fs::remove_file(path).unwrap(),
        Some(target) if change["kind"]["kind"] == "link" => symlink(target, path).unwrap(),
        Some(text) => fs::write(path, text).unwrap(),
    }
}

/// Trees as the older program leaves them, each with a name.
fn trees_left(engine: &Engine, dir: &str) -> Vec<(&'static str, tempfile::TempDir)> {
    let kinds = [
        ("receipt", "receipt.json"),
        ("half-way", "journal.json"),
        ("done", "journal.json"),
    ];
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older");
    let trees = kinds.into_iter().map(|(what, file)| {
        let recorded = data.join(format!("{dir}-{what}.json"));
        if let Some(older) = older() {
            let install = engine.install();
            let tree = match what {
                "receipt" => {
                    let tree = tree(engine);
                    assert!(run(&older, tree.path(), &install).status.success());
                    tree
                }
                "half-way" => engine.killed(&older, &install, Some(2)),
                _ => engine.killed(&older, &install, None),
            };
            if std::env::var_os("GPUSETUP_RECORD").is_some() {
                fs::copy(tree.path().join(STATE).join(file), recorded).unwrap();
            }
            return (what, tree);
        }
        let tree = tree(engine);
        let text = fs::read_to_string(recorded).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let changes = document["changes"].as_array().unwrap();
        let made = if what == "half-way" {
            changes.len() / 2
        } else {
            changes.len()
        };
        changes[..made].iter().for_each(|c| make(tree.path(), c));
        fs::create_dir_all(tree.path().join(STATE)).unwrap();
        fs::write(tree.path().join(STATE).join(file), text).unwrap();
        (what, tree)
    });
    trees.collect()
}

/// A command's document, which must name the files without a checksum.
fn remarked(out: &Output, what: &str) -> Value {
    let document: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{what}: {e}: {}", String::from_utf8_lossy(&out.stderr)));
    assert!(
        !document["unchecked"].as_array().unwrap().is_empty(),
        "{what}: {document}"
    );
    document
}

fn is_said(out: &Output) -> bool {
    [&out.stdout, &out.stderr].iter().any(|stream| {
        let words: Vec<String> = String::from_utf8_lossy(stream)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        words.join(" ").contains("have no checksum")
    })
}

#[test]
fn a_setup_by_an_older_gpusetup_is_upgraded_and_undone() {
    if !skips::has(&[Need::Root]) {
        return;
    }
    for (name, dir) in RECORDED {
        let engine = engine(name);
        let untouched = state(tree(engine).path());
        let [(_, set_up), (_, half_way), (_, done)] = trees_left(engine, dir).try_into().unwrap();

        let looks = gpusetup(set_up.path(), &["plan", "--json"]);
        assert!(matches!(looks.status.code(), Some(0 | 2)), "{name}");
        remarked(&looks, name);
        assert!(is_said(&looks), "{name}");
        for args in [&["plan"][..], &["undo", "--dry-run"]] {
            assert!(is_said(&gpusetup(set_up.path(), args)), "{name}: {args:?}");
        }

        // Undo without an upgrade.
        let as_it_is = copy(set_up.path());
        let out = gpusetup(as_it_is.path(), &["undo", "--yes", "--json"]);
        assert_eq!(out.status.code(), Some(0), "{name}");
        remarked(&out, name);
        assert_eq!(state(as_it_is.path()), untouched, "{name}");

        // Upgrade by a run that writes: what the older one recorded remains unchecked.
        let more = [
            "install",
            "--yes",
            "--default-runtime",
            "--existing",
            "adopt",
        ];
        let out = gpusetup(set_up.path(), &more);
        assert_eq!(out.status.code(), Some(0), "{name}: {out:?}");
        let receipt = set_up.path().join(STATE).join("receipt.json");
        let text = fs::read_to_string(&receipt).unwrap();
        let receipt: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(receipt["schema"], 2);
        let entries = receipt["content"]["changes"].as_array().unwrap();
        let is_unchecked = |e: &&Value| e["before-sha256"].is_null() && e["after-sha256"].is_null();
        assert!(entries.iter().any(|e| is_unchecked(&e)), "{name}");
        remarked(&gpusetup(set_up.path(), &["plan", "--json"]), name);
        let out = gpusetup(set_up.path(), &["undo", "--yes", "--json"]);
        remarked(&out, name);
        assert_eq!(state(set_up.path()), untouched, "{name}");

        // A run that died half-way.
        let out = gpusetup(half_way.path(), &["recover", "--json"]);
        assert_eq!(out.status.code(), Some(0), "{name}: {out:?}");
        remarked(&out, name);
        assert!(is_said(&out), "{name}");
        assert_eq!(state(half_way.path()), untouched, "{name}");

        // A run that was done except for recording it, recovered by `recover` and by `undo`.
        let met = copy(done.path());
        let out = gpusetup(done.path(), &["recover", "--json"]);
        assert_eq!(out.status.code(), Some(0), "{name}: {out:?}");
        for tree in [done, met] {
            let out = gpusetup(tree.path(), &["undo", "--yes", "--json"]);
            remarked(&out, name);
            assert_eq!(state(tree.path()), untouched, "{name}");
        }
    }
}

/// The fields of a receipt at b07101d.
#[derive(Deserialize)]
#[allow(dead_code)]
struct OlderRecord {
    schema: u32,
    version: String,
    changes: Vec<Value>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct OlderJournal {
    schema: u32,
    changes: Vec<Value>,
    directories: Vec<PathBuf>,
}

#[test]
fn an_older_gpusetup_refuses_and_names_a_fix() {
    if !skips::has(&[Need::Root, Need::Strace]) {
        return;
    }
    let engine = engine("Docker 20.10");
    let program = Path::new(env!("CARGO_BIN_EXE_gpusetup"));
    let way_out = "run `gpusetup undo` there before you go back to an older one";
    let receipt = engine.installed();
    let text = fs::read_to_string(receipt.path().join(STATE).join("receipt.json")).unwrap();
    let why = serde_json::from_str::<OlderRecord>(&text).err().unwrap();
    assert!(why.to_string().contains(way_out), "{why}");
    let journal = engine.killed(program, &engine.install(), None);
    let text = fs::read_to_string(journal.path().join(STATE).join("journal.json")).unwrap();
    let why = serde_json::from_str::<OlderJournal>(&text).err().unwrap();
    assert!(why.to_string().contains(way_out), "{why}");

    let Some(older) = older() else { return };
    let commands: [&[&str]; 6] = [
        &["plan"],
        &["install", "--yes"],
        &["undo", "--yes"],
        &["undo", "--dry-run"],
        &["recover"],
        &["cdi", "refresh"],
    ];
    for (tree, file) in [(receipt, "receipt.json"), (journal, "journal.json")] {
        for command in commands {
            let before = state(tree.path());
            let out = run(&older, tree.path(), command);
            let stderr = String::from_utf8_lossy(&out.stderr).replace('\n', " ");
            assert_eq!(state(tree.path()), before, "{file}, {command:?}: {stderr}");
            println!("{file}, {command:?}: {:?} {stderr}", out.status.code());
        }
    }
}
