//! Tests `--default-runtime` and `--no-default-runtime` in every engine that can have another default, on directory
//! trees: a later install leaves the default as it is, it can be taken back, and undo returns to the files from before.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::Tree;
use serde_json::Value;

const CONTAINERD: &str = "etc/containerd/config.toml";
const CRIO: &str = "etc/crio/crio.conf";

/// A host with Docker and this containerd, whose configuration has this text.
fn containerd(version: &str, text: &str) -> Tree {
    let tree = Tree::new("26.1.5", version);
    if !text.is_empty() {
        tree.write(CONTAINERD, text);
    }
    tree
}

fn crio(text: &str) -> Tree {
    let tree = fixture::engines::crio();
    if !text.is_empty() {
        tree.write(CRIO, text);
    }
    tree
}

fn trees() -> Vec<(&'static str, Tree)> {
    let named = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"site\"\n\
        [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.site]\nruntime_type = \"io.containerd.runc.v2\"\n";
    vec![
        ("containerd 1.7 without a file", containerd("1.7.24", "")),
        ("containerd 1.7", containerd("1.7.24", "version = 2\n")),
        ("containerd 1.7 with a default", containerd("1.7.24", named)),
        ("containerd 2.1", containerd("2.1.0", "version = 3\n")),
        ("CRI-O", crio("")),
        (
            "CRI-O with a file",
            crio("[crio.runtime]\nlog_level = \"info\"\n"),
        ),
    ]
}

/// What the document of `--json` says, for every engine.
fn said(tree: &Tree, args: &[&str]) -> Vec<String> {
    let out = tree.run(&[args, &["--json"]].concat());
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let states = document["default_runtime"]
        .as_object()
        .unwrap_or_else(|| panic!("{document}"));
    states
        .values()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect()
}

/// The engines' files, without those that describe GPUs and gpusetup's own state.
fn files(tree: &Tree) -> Vec<(std::path::PathBuf, (u32, String))> {
    let state = tree.state();
    state
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("/etc/") || path.starts_with("etc"))
        .collect()
}

#[test]
fn every_engine_keeps_the_default_until_it_is_taken_back() {
    for (what, tree) in trees() {
        let before = tree.state();
        assert_eq!(tree.code(&["install", "--yes"]), 0, "{what}");
        let without = files(&tree);
        assert_eq!(said(&tree, &["plan"]), Vec::<String>::new(), "{what}");
        assert_eq!(
            tree.code(&["install", "--yes", "--default-runtime"]),
            0,
            "{what}"
        );
        let with = files(&tree);
        assert_ne!(with, without, "{what}");
        let kept = said(&tree, &["plan"]);
        assert!(
            !kept.is_empty() && kept.iter().all(|s| s == "kept"),
            "{what}: {kept:?}"
        );
        for _ in 0..2 {
            assert_eq!(tree.code(&["install", "--yes"]), 0, "{what}");
            assert_eq!(
                files(&tree),
                with,
                "{what}: a later install changed the default"
            );
        }
        assert_eq!(tree.code(&["plan", "--no-default-runtime"]), 2, "{what}");
        assert_eq!(
            tree.code(&["install", "--yes", "--no-default-runtime"]),
            0,
            "{what}"
        );
        for (path, (_, text)) in files(&tree) {
            assert!(
                !text.contains("default-runtime\": \"nvidia")
                    && !text.contains("default_runtime_name = \"nvidia")
                    && !text.contains("default_runtime = \"nvidia"),
                "{what}: {}: {text}",
                path.display()
            );
        }
        assert_eq!(tree.code(&["plan"]), 0, "{what}");
        assert_eq!(said(&tree, &["plan"]), Vec::<String>::new(), "{what}");
        assert_eq!(tree.code(&["undo", "--yes"]), 0, "{what}");
        assert_eq!(tree.state(), before, "{what}");
    }
}

/// Undo right after it, without taking the default back first.
#[test]
fn undo_takes_the_default_back_too() {
    for (what, tree) in trees() {
        let before = tree.state();
        for flag in [&["--default-runtime"][..], &[], &["--default-runtime"]] {
            assert_eq!(
                tree.code(&[&["install", "--yes"], flag].concat()),
                0,
                "{what}"
            );
        }
        assert_eq!(tree.code(&["undo", "--yes"]), 0, "{what}");
        assert_eq!(tree.state(), before, "{what}");
    }
}

#[test]
fn both_flags_are_bad_usage() {
    let tree = containerd("2.1.0", "");
    let code = tree.code(&["plan", "--default-runtime", "--no-default-runtime"]);
    assert_eq!(code, 4);
}
