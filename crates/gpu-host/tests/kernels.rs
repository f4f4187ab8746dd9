//! The table of kernels in docs/security.md is that of the code.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use gpu_host::kernel::{CALLS, WAYS};

const BEGIN: &str = "<!-- begin: made from crates/gpu-host/src/os/kernel.rs, UPDATE_DOCS=1 cargo test -p gpu-host --test kernels -->\n";
const END: &str = "<!-- end -->\n";

fn tables() -> String {
    let mut text = String::from("\n| way | needs | for |\n|---|---|---|\n");
    for way in WAYS {
        writeln!(text, "| {} | {} | {} |", way.name, way.since, way.needs).unwrap();
    }
    text += "\n| used where it is to be had | since | instead |\n|---|---|---|\n";
    for call in CALLS {
        writeln!(
            text,
            "| `{}` | {} | {} |",
            call.name, call.since, call.instead
        )
        .unwrap();
    }
    text + "\n"
}

/// `UPDATE_DOCS=1 cargo test -p gpu-host --test kernels` writes the tables anew.
#[test]
fn the_page_has_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    assert!(
        page == wanted || std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/security.md is not what the table says; UPDATE_DOCS=1 writes it anew"
    );
}
