//! The graph of all crates as a part of a page, between two marks.

use std::fmt::Write as _;

use crate::Graph;
use crate::layers::Crate;

const BEGIN: &str = "<!-- module-graph: written by `cargo run -p module-graph -- --page` -->\n";
const END: &str = "<!-- module-graph: end -->";

/// The page with that part anew; `None` where it lacks the marks.
pub fn rewritten(page: &str, crates: &[(&Crate, Graph)]) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", tables(crates)))
}

fn tables(crates: &[(&Crate, Graph)]) -> String {
    let mut text = String::new();
    for (of, rooms) in crates.iter().filter(|(_, rooms)| rooms.len() > 2) {
        let _ = write!(
            text,
            "\n`{}`\n\n| layer | room | imports from |\n|---|---|---|\n",
            of.name
        );
        for (at, layer) in of.layers.iter().enumerate() {
            let mut sorted: Vec<&String> = layer.iter().collect();
            sorted.sort();
            for room in sorted {
                let imported = rooms.get(room).into_iter().flatten();
                let imported: Vec<&str> = imported.map(|target| shown(target)).collect();
                let _ = writeln!(
                    text,
                    "| {} | {} | {} |",
                    at + 1,
                    shown(room),
                    imported.join(", ")
                );
            }
        }
    }
    text.push('\n');
    text
}

fn shown(room: &str) -> &str {
    if room.is_empty() {
        "(first file)"
    } else {
        room
    }
}
