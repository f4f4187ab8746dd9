//! Reads from the source of a crate which file imports from which other, and finds the circles in that graph.
//!
//! A file is a module. `mod` and `pub use` do not count as imports: a folder's mod.rs lists its files and re-exports their
//! names, and a file that uses such a name imports the file that defines it. Tests are left out, since a reader has to
//! follow what ships.
#![forbid(unsafe_code)]

mod circles;
mod layers;
mod modules;
mod page;
mod paths;
mod resolve;
mod rooms;
mod types;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

pub use circles::circles;
pub use layers::{Crate, read as read_layers};
pub use page::rewritten;
pub use rooms::rooms;
pub use types::types;
pub use uses::{Uses, uses};

/// The modules that each module imports from, by their paths within the crate (`rootfs::owner`).
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// The graph of the crate whose first file is `root`: its lib.rs or main.rs.
pub fn graph(root: &Path) -> io::Result<Graph> {
    let modules = modules::read(root)?;
    let mut graph = Graph::new();
    for (name, module) in &modules {
        let mut targets: BTreeSet<String> = module
            .paths
            .iter()
            .filter_map(|path| resolve::target(&modules, name, path))
            .collect();
        targets.remove(name);
        graph.insert(name.clone(), targets);
    }
    Ok(graph)
}
