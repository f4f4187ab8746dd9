//! The crates of this workspace: no circles, no upward imports, and a page that shows them as they are.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use module_graph::{Crate, Graph, circles, graph, read_layers, rewritten, rooms};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Each with the graph of its modules, read once for all tests.
fn crates() -> &'static [(Crate, Graph)] {
    static CRATES: LazyLock<Vec<(Crate, Graph)>> = LazyLock::new(read_crates);
    &CRATES
}

fn read_crates() -> Vec<(Crate, Graph)> {
    let listed = read_layers(&top().join("testenv/module-graph/layers.toml")).unwrap();
    let read = |one: Crate| {
        let graph = graph(&top().join(&one.root)).unwrap();
        (one, graph)
    };
    listed.into_iter().map(read).collect()
}

#[test]
fn no_import_leads_back() {
    let circles_of = crates()
        .iter()
        .map(|(one, graph)| (&one.name, circles(graph)));
    let wrong: Vec<String> = circles_of
        .filter(|(_, circles)| !circles.is_empty())
        .map(|(name, circles)| format!("{name}: {circles:?}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "cargo run -p module-graph -- FILE shows the imports\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_import_leads_upward() {
    let faults: Vec<String> = crates()
        .iter()
        .flat_map(|(one, graph)| one.faults(&rooms(graph)))
        .collect();
    assert!(
        faults.is_empty(),
        "testenv/module-graph/layers.toml:\n{}",
        faults.join("\n")
    );
}

#[test]
fn an_upward_import_is_a_fault() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let one = Crate {
        name: "small".to_owned(),
        root: String::new(),
        layers: vec![names(&["", "a"]), names(&["b", "gone"]), names(&["b"])],
    };
    let imports = [("", &["a"][..]), ("a", &["b"]), ("b", &[]), ("c", &["a"])];
    let mut rooms: Graph = imports
        .into_iter()
        .map(|(room, imported)| {
            (
                room.to_owned(),
                imported.iter().map(|to| (*to).to_owned()).collect(),
            )
        })
        .collect();
    let expected = [
        r#"small: there is no room "gone""#,
        r#"small: 2 layers name the room "b""#,
        r#"small: 0 layers name the room "c""#,
    ];
    assert_eq!(one.faults(&rooms), expected);

    let one = Crate {
        layers: vec![names(&["", "a"]), names(&["b"]), names(&["c"])],
        ..one
    };
    assert_eq!(
        one.faults(&rooms),
        ["small: c imports from a, which is above it"]
    );
    rooms.insert("c".to_owned(), BTreeSet::new());
    assert!(one.faults(&rooms).is_empty());
}

#[test]
fn the_page_shows_the_graph_as_it_is() {
    let page = std::fs::read_to_string(top().join("docs/architecture.md")).unwrap();
    let crates: Vec<(&Crate, Graph)> = crates()
        .iter()
        .map(|(one, graph)| (one, rooms(graph)))
        .collect();
    let expected = rewritten(&page, &crates).expect("docs/architecture.md has the marks");
    assert!(
        page == expected,
        "docs/architecture.md is not up to date: cargo run -p module-graph -- --page"
    );
}

/// Every crate that ships is listed: in a crate that is not, no circle would be noticed.
#[test]
fn each_shipped_crate_is_listed() {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(top().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.push(top().join("installer"));
    let listed: Vec<PathBuf> = crates()
        .iter()
        .map(|(one, _)| top().join(&one.root))
        .collect();
    for folder in folders
        .iter()
        .filter(|folder| folder.join("Cargo.toml").exists())
    {
        assert!(
            listed.iter().any(|root| root.starts_with(folder)),
            "{} is not listed",
            folder.display()
        );
    }
}

/// In a crate whose files are no longer read, no circle would be noticed.
#[test]
fn each_crate_is_read_whole() {
    for (one, graph) in crates() {
        let mut files = 0;
        let mut open = vec![top().join(&one.root).parent().unwrap().to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    files += usize::from(path.extension().is_some_and(|e| e == "rs"));
                }
            }
        }
        let modules = graph.len();
        // Tests in files of their own, and second programs in the same folder, are left out.
        assert!(
            modules * 10 >= files * 7,
            "{}: {modules} of {files}",
            one.name
        );
    }
}

/// Each step of the walks names a file and a function that exist.
#[test]
fn the_walks_name_functions_that_are_there() {
    let page = std::fs::read_to_string(top().join("docs/architecture.md")).unwrap();
    let (_, rest) = page.split_once("\n## Four walks\n").unwrap();
    let walks = rest.split("\n## ").next().unwrap();
    let mut steps = 0;
    let mut wrong = Vec::new();
    for line in walks.lines() {
        let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let is_step = line.starts_with(|c: char| c.is_ascii_digit());
        let [file, function, ..] = quoted[..] else {
            assert!(!is_step, "a step without file and function: {line}");
            continue;
        };
        if !is_step {
            continue;
        }
        steps += 1;
        let text = std::fs::read_to_string(top().join(file)).unwrap_or_default();
        let declared = [format!("fn {function}("), format!("fn {function}<")];
        if !declared.iter().any(|words| text.contains(words)) {
            wrong.push(format!("{file}: no function {function}"));
        }
    }
    assert!(steps >= 40, "only {steps} steps were found");
    assert!(
        wrong.is_empty(),
        "docs/architecture.md, Four walks:\n{}",
        wrong.join("\n")
    );
}

/// A file of more than 400 lines, its tests not counted, says at its head why it is not two.
#[test]
fn a_long_file_says_why() {
    let mut open: Vec<PathBuf> = ["crates", "installer/src", "testenv", "examples"]
        .map(|dir| top().join(dir))
        .to_vec();
    let (mut files, mut wrong) = (0, Vec::new());
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !["tests", "target"].contains(&name) {
                    open.push(path);
                }
                continue;
            }
            if path.extension().is_none_or(|e| e != "rs") || name.contains("tests.rs") {
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let head = text.lines().take_while(|line| line.starts_with("//!"));
            let says_why = head
                .clone()
                .any(|line| line.contains("Longer than 400 lines"));
            let lines = before_tests.lines().count();
            if lines > 400 && !says_why {
                wrong.push(format!("{}: {lines} lines, and no reason", path.display()));
            }
        }
    }
    assert!(files > 300, "only {files} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Documentation is not searched for examples where `doctest = false` stands, so it must have none there: nobody would
/// notice that they are not run.
#[test]
fn no_example_is_left_out() {
    let mut open = ["crates", "installer", "testenv"]
        .map(|dir| top().join(dir))
        .to_vec();
    let (mut crates, mut wrong) = (0, Vec::new());
    while let Some(dir) = open.pop() {
        let entries = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        let is_searched = |path: &PathBuf| path.is_dir() && !path.ends_with("target");
        open.extend(entries.filter(is_searched));
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
        if !manifest.contains("doctest = false") {
            continue;
        }
        crates += 1;
        let mut sources = vec![dir.join("src")];
        while let Some(dir) = sources.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    sources.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let is_fence = |line: &&str| {
                    let line = line.trim_start();
                    (line.starts_with("///") || line.starts_with("//!")) && line.contains("```")
                };
                wrong.extend(
                    text.lines()
                        .find(is_fence)
                        .map(|_| path.display().to_string()),
                );
            }
        }
    }
    assert!(crates > 8, "only {crates} crates say doctest = false");
    assert!(
        wrong.is_empty(),
        "examples that are not run: {}",
        wrong.join(", ")
    );
}
