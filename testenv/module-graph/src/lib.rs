//! Which file of a crate imports from which other, read from its source, and the circles in that.
//!
//! A file is a module. `mod` and `pub use` are no imports by themselves: a folder's mod.rs lists its
//! files and shows their names to others, and whoever uses such a name imports the file that has it.
//! Tests are left out; what ships is what a reader has to follow.
#![forbid(unsafe_code)]

mod circles;
mod layers;
mod modules;
mod page;
mod paths;
mod resolve;
mod rooms;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

pub use circles::circles;
pub use layers::{Crate, read as read_layers};
pub use page::rewritten;
pub use rooms::rooms;
pub use uses::{Uses, uses};

/// Of each module, by its path within the crate (`rootfs::owner`), those that it imports from.
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
