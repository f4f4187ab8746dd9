//! Tests on small crates what counts as an import.
#![allow(clippy::unwrap_used)]

use std::fs;

use module_graph::{Graph, circles, graph};

fn of(files: &[(&str, &str)]) -> Graph {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    graph(&dir.path().join("lib.rs")).unwrap()
}

fn imports(graph: &Graph, module: &str) -> Vec<String> {
    graph[module].iter().cloned().collect()
}

#[test]
fn a_name_is_of_the_file_that_has_it() {
    let graph = of(&[
        ("lib.rs", "mod a; mod b; pub use b::One;"),
        (
            "a.rs",
            "use crate::One; use crate::b::inner::Two; fn f(_: One, _: Two) {}",
        ),
        ("b/mod.rs", "pub mod inner; pub use inner::One;"),
        (
            "b/inner.rs",
            "pub(crate) struct One; pub(in crate::b) struct Two;",
        ),
    ]);
    assert_eq!(imports(&graph, "a"), ["b::inner"]);
    assert!(imports(&graph, "").is_empty() && imports(&graph, "b").is_empty());
    assert!(circles(&graph).is_empty());
}

#[test]
fn a_folder_that_uses_its_files_and_is_used_by_them_is_a_circle() {
    let graph = of(&[
        ("lib.rs", "mod b;"),
        (
            "b/mod.rs",
            "mod inner; use inner::one; pub struct Two; fn f() { one() }",
        ),
        (
            "b/inner.rs",
            "use super::Two; pub fn one() { let _ = Two; }",
        ),
    ]);
    assert_eq!(circles(&graph), [["b", "b::inner"]]);
}

#[test]
fn imports_are_found_in_code_and_macros_and_not_in_tests() {
    let graph = of(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        (
            "a.rs",
            "fn f() { println!(\"{}\", crate::b::X); } mod t {} fn g() { use crate::c::Y; let _ = Y; }
             #[cfg(test)] mod tests { use crate::d::Z; }",
        ),
        ("b.rs", "pub const X: u8 = super::c::Y;"),
        ("c.rs", "pub const Y: u8 = 1;"),
        ("d.rs", "pub const Z: u8 = crate::a::W;"),
    ]);
    assert_eq!(imports(&graph, "a"), ["b", "c"]);
    assert_eq!(imports(&graph, "b"), ["c"]);
    assert_eq!(imports(&graph, "d"), ["a"]);
    assert!(circles(&graph).is_empty());
}

#[test]
fn a_function_hides_no_module_of_its_name() {
    let graph = of(&[
        (
            "lib.rs",
            "mod host; mod a; fn host() -> host::Host { host::Host }",
        ),
        ("host.rs", "pub struct Host;"),
        ("a.rs", "use crate::host::Host; fn f(_: Host) {}"),
    ]);
    assert_eq!(imports(&graph, "a"), ["host"]);
    assert!(circles(&graph).is_empty());
}
