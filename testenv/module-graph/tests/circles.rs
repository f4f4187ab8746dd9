//! The crates of this workspace, which are to have no circles.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use module_graph::{circles, graph};

/// The first file of each crate, and how many of its modules are in circles still: a number that
/// only goes down.
const CRATES: [(&str, usize); 9] = [
    ("crates/cdi/src/lib.rs", 0),
    ("crates/gpu-host/src/lib.rs", 0),
    ("crates/gpu-inject/src/lib.rs", 0),
    ("crates/gpu-container/src/main.rs", 0),
    ("crates/libgpucontainer/src/lib.rs", 0),
    ("crates/probe-report/src/lib.rs", 0),
    ("installer/src/lib.rs", 7),
    ("testenv/bench/src/main.rs", 0),
    ("testenv/gpu-run/src/main.rs", 7),
];

#[test]
fn no_import_leads_back() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    for (root, known) in CRATES {
        let graph = graph(&top.join(root)).unwrap();
        let found = circles(&graph);
        let inside: usize = found.iter().map(Vec::len).sum();
        if inside > known {
            wrong.push(format!(
                "{root}: {inside} modules in circles, {known} were known: {found:?}"
            ));
        } else if inside < known {
            println!("{root}: {inside} modules in circles; {known} can be lowered");
        }
    }
    assert!(
        wrong.is_empty(),
        "cargo run -p module-graph -- FILE shows the imports\n{}",
        wrong.join("\n")
    );
}

/// Of a crate that nobody reads any more nothing would be found.
#[test]
fn each_crate_is_read_whole() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (root, _) in CRATES {
        let mut files = 0;
        let mut open = vec![top.join(root).parent().unwrap().to_owned()];
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
        let modules = graph(&top.join(root)).unwrap().len();
        // Tests in files of their own, and second programs in the same folder, are left out.
        assert!(modules * 10 >= files * 7, "{root}: {modules} of {files}");
    }
}
