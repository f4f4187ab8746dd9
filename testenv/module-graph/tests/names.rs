//! What has to be unique or present for a reader who searches: a type's name means one type, and each file says in its first
//! line what it is for.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use module_graph::{read_layers, types};
use serde::Deserialize;

/// A row of shared-names.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    crates: Vec<String>,
    reason: String,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The modules of what ships that declare a type of each name.
fn declarations() -> BTreeMap<String, Vec<(String, String)>> {
    let listed = read_layers(&top().join("testenv/module-graph/layers.toml")).unwrap();
    let shipped = listed
        .iter()
        .filter(|one| !one.root.starts_with("testenv/"));
    let mut declarations: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for one in shipped {
        for (module, names) in types(&top().join(&one.root)).unwrap() {
            for name in names {
                let places = declarations.entry(name).or_default();
                places.push((one.name.clone(), module.clone()));
            }
        }
    }
    declarations
}

/// What is wrong with the names of these types, of which `shared` lists those that several types may have.
fn faults(
    declarations: &BTreeMap<String, Vec<(String, String)>>,
    shared: &BTreeMap<String, Shared>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, places) in declarations {
        let crates: Vec<&str> = places.iter().map(|(of, _)| of.as_str()).collect();
        let is_listed = shared
            .get(name)
            .is_some_and(|row| row.crates == crates && !row.reason.is_empty());
        if places.len() > 1 && !is_listed {
            faults.push(format!("{name} is declared in {places:?}"));
        }
    }
    for name in shared.keys() {
        if declarations.get(name).is_none_or(|places| places.len() < 2) {
            faults.push(format!("{name} is listed, but no two types have this name"));
        }
    }
    faults
}

#[test]
fn each_type_name_means_one_type() {
    let declarations = declarations();
    let count = declarations.len();
    assert!(count > 400, "only {count} types were read");
    let text = fs::read_to_string(top().join("testenv/module-graph/shared-names.toml")).unwrap();
    let shared: BTreeMap<String, Shared> = toml::from_str(&text).unwrap();
    let faults = faults(&declarations, &shared);
    assert!(
        faults.is_empty(),
        "rename the types, or give the reason in testenv/module-graph/shared-names.toml:\n{}",
        faults.join("\n")
    );
}

#[test]
fn a_name_of_two_types_is_a_fault_unless_listed_for_these_crates() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("lib.rs", "mod a; struct One; trait Two { type Three; }"),
        (
            "a.rs",
            "fn f() { enum Two {} } type Four = u8; #[cfg(test)] mod tests { struct One; } \
             mod inner { union Five { a: u8 } #[cfg(test)] struct One; } struct Three; struct S; \
             impl S { #[cfg(test)] fn f() { struct One; } }",
        ),
    ];
    for (path, text) in files {
        fs::write(dir.path().join(path), text).unwrap();
    }
    let mut declarations: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (module, names) in types(&dir.path().join("lib.rs")).unwrap() {
        for name in names {
            let places = declarations.entry(name).or_default();
            places.push(("small".to_owned(), module.clone()));
        }
    }
    let names: Vec<&str> = declarations.keys().map(String::as_str).collect();
    assert_eq!(names, ["Five", "Four", "One", "S", "Three", "Two"]);
    let fault = r#"Two is declared in [("small", ""), ("small", "a")]"#;
    assert_eq!(faults(&declarations, &BTreeMap::new()), [fault]);

    let list = |text: &str| toml::from_str(text).unwrap();
    let listed = list("[Two]\ncrates = ['small', 'small']\nreason = 'it has one'\n");
    assert!(faults(&declarations, &listed).is_empty());
    let without_reason = list("[Two]\ncrates = ['small', 'small']\nreason = ''\n");
    assert_eq!(faults(&declarations, &without_reason), [fault]);
    let for_another = list("[Two]\ncrates = ['small', 'other']\nreason = 'it has one'\n");
    assert_eq!(faults(&declarations, &for_another), [fault]);
    let stale = list(
        "[Two]\ncrates = ['small', 'small']\nreason = 'it has one'\n\
         [One]\ncrates = ['small', 'small']\nreason = 'it had one'\n",
    );
    assert_eq!(
        faults(&declarations, &stale),
        ["One is listed, but no two types have this name"]
    );
}

/// The first line of each file says what it is for; tests too.
#[test]
fn each_file_begins_with_what_it_is_for() {
    let mut open: Vec<PathBuf> = ["crates", "installer", "testenv", "examples"]
        .map(|dir| top().join(dir))
        .to_vec();
    let (mut files, mut wrong) = (0, Vec::new());
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    open.push(path);
                }
                continue;
            }
            if path.extension().is_none_or(|e| e != "rs") {
                continue;
            }
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap_or_default();
            let purpose = first.strip_prefix("//! ").unwrap_or_default();
            // A purpose takes more than a word, which the file's name would be.
            if purpose.split_whitespace().count() < 2 {
                wrong.push(format!("{}: {first:?}", path.display()));
            }
        }
    }
    assert!(files > 400, "only {files} files were read");
    assert!(
        wrong.is_empty(),
        "no `//! ` with the file's purpose:\n{}",
        wrong.join("\n")
    );
}
