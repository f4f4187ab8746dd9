//! Tests install, install and undo with random configuration files. Install only adds the settings
//! that the plan names, the second install changes nothing, undo restores every byte, and what the
//! user changes between install and undo stays.
//!
//! `GPUSETUP_RANDOM=10000 cargo test -p gpusetup --test random` tries that many files.
#![allow(clippy::unwrap_used)]

#[path = "random/configs.rs"]
mod configs;
mod fixture;

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use configs::{FORMS, json, toml};
use fixture::Tree;

const VERSIONS: [(&str, &str); 3] = [
    ("20.10.24", "1.6.20"),
    ("26.1.5", "1.7.24"),
    ("28.5.2", "2.1.9"),
];
const JSON: &str = "etc/docker/daemon.json";
const TOML: &str = "etc/containerd/config.toml";

/// How often each form occurred: a form that never occurs is not tested.
static SEEN: Mutex<BTreeMap<&str, u32>> = Mutex::new(BTreeMap::new());

fn count(what: &'static str) {
    *SEEN.lock().unwrap().entry(what).or_default() += 1;
}

/// What `after` has in addition to `before`; an error if a part of `before` is missing.
fn added(before: &Value, after: &Value, at: &str, found: &mut Vec<String>) -> Result<(), String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let now = after.get(key).ok_or(format!("{at}.{key} is gone"))?;
                added(value, now, &format!("{at}.{key}"), found)?;
            }
            found.extend(
                after
                    .keys()
                    .filter(|k| !before.contains_key(*k))
                    .map(|k| format!("{at}.{k}")),
            );
            Ok(())
        }
        (before, after) if before == after => Ok(()),
        _ => Err(format!("{at} was {before} and is {after}")),
    }
}

fn as_value(path: &str, text: &str) -> Value {
    if path == JSON {
        return serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    }
    let table: ::toml::Table = text.parse().unwrap_or_else(|e| panic!("{e}: {text}"));
    serde_json::to_value(table).unwrap()
}

/// Whether a path of keys is one that install says it adds.
fn is_ours(path: &str) -> bool {
    const CRI: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
    let in_cri = CRI.iter().any(|cri| {
        let at = format!(".plugins.{cri}");
        let Some(rest) = path.strip_prefix(&at) else {
            return at.starts_with(path);
        };
        let runtimes = ".containerd.runtimes";
        rest == ".enable_cdi"
            || runtimes.starts_with(rest)
            || rest.starts_with(".containerd.runtimes.nvidia")
            || rest.starts_with(".containerd.runtimes.runc")
    });
    let in_docker = [
        ".features",
        ".features.cdi",
        ".runtimes",
        ".runtimes.nvidia",
    ];
    in_cri || in_docker.contains(&path)
}

fn install_and_undo_restore_the_tree(
    json: &str,
    toml: &str,
    edit: u32,
    (docker, containerd): (&str, &str),
) -> Result<(), TestCaseError> {
    let tree = Tree::new(docker, containerd);
    let files = [(JSON, json), (TOML, toml)];
    for (path, text) in files {
        tree.write(path, text);
    }
    let before = tree.state();
    let out = tree.run(&["install", "--yes", "--all-or-nothing"]);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.code() == Some(1) {
        // A file that cannot be edited safely is refused, and then nothing may have changed.
        prop_assert!(stderr.contains("fix:"), "{stderr}");
        // This refusal would be a shortcoming of the editor.
        prop_assert!(!stderr.contains("without changing other keys"), "{stderr}");
        prop_assert_eq!(tree.state(), before);
        count("refused");
        return Ok(());
    }
    prop_assert_eq!(out.status.code(), Some(0), "{}", stderr);
    for (form, is_in) in FORMS {
        if files.iter().any(|(path, text)| is_in(path, text)) {
            count(form);
        }
    }
    for (path, text) in files {
        let mut paths = Vec::new();
        let now = tree.read(path);
        let is_added = added(&as_value(path, text), &as_value(path, &now), "", &mut paths);
        prop_assert_eq!(is_added, Ok(()), "{}", now);
        prop_assert!(paths.iter().all(|p| is_ours(p)), "{paths:?}");
        for line in text.lines() {
            // In an inline table, our part may be on the same line.
            let comment = line.find("# ").map_or("", |at| line[at..].trim_end());
            prop_assert!(now.contains(comment), "{comment:?} is not in {now}");
        }
    }
    let installed = tree.state();
    prop_assert_eq!(tree.code(&["install", "--yes"]), 0);
    prop_assert_eq!(tree.state(), installed.clone());
    prop_assert_eq!(tree.code(&["undo", "--yes"]), 0);
    prop_assert_eq!(tree.state(), before);

    // Install once more; this time the user edits the files before undo.
    prop_assert_eq!(tree.code(&["install", "--yes"]), 0);
    prop_assert_eq!(tree.state(), installed);
    let mut wanted = Vec::new();
    for (path, text) in files {
        let now = tree.read(path);
        let Some(edited) = configs::edited(path, text, &now, edit) else {
            wanted.push(text.to_owned());
            continue;
        };
        count(if path == JSON {
            "JSON edited since"
        } else {
            "TOML edited since"
        });
        tree.write(path, &edited.now);
        wanted.push(edited.before);
    }
    let out = tree.run(&["undo", "--yes"]);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    prop_assert_eq!(out.status.code(), Some(0), "{}", stderr);
    for ((path, _), wanted) in files.into_iter().zip(wanted) {
        prop_assert_eq!(tree.read(path), wanted, "{}", path);
    }
    Ok(())
}

#[test]
fn random_configs_are_restored_byte_for_byte() {
    let cases = std::env::var("GPUSETUP_RANDOM")
        .map_or(200, |v| v.parse().expect("GPUSETUP_RANDOM is a number"));
    std::thread::scope(|scope| {
        for (n, versions) in VERSIONS.into_iter().enumerate() {
            scope.spawn(move || {
                let config = Config {
                    cases: cases / 3 + 1,
                    failure_persistence: None,
                    ..Config::default()
                };
                // The same number of cases always gives the same files; another number, others.
                let mut seed = [u8::try_from(n).unwrap(); 32];
                seed[..4].copy_from_slice(&cases.to_le_bytes());
                let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
                let result = TestRunner::new_with_rng(config, rng).run(
                    &(json(), toml(), any::<u32>()),
                    |(json, toml, edit)| {
                        install_and_undo_restore_the_tree(&json, &toml, edit, versions)
                    },
                );
                assert!(result.is_ok(), "{versions:?}: {}", result.unwrap_err());
            });
        }
    });
    let counts = SEEN.lock().unwrap();
    println!("{cases} configs: {counts:?}");
    let refused = counts.get("refused").copied().unwrap_or(0);
    assert!(refused < cases / 3, "{refused} of {cases} were refused");
    for (form, _) in FORMS {
        let times = counts.get(form).copied().unwrap_or(0);
        assert!(
            times >= cases / 100,
            "{form}: in {times} of {cases} configs"
        );
    }
}
