//! The rooms of a crate: the files and folders beside its lib.rs or main.rs, and which of them import from which.

use std::collections::BTreeSet;

use crate::Graph;

/// The graph of the rooms. The crate's first file is a room of its own, under the empty name.
pub fn rooms(graph: &Graph) -> Graph {
    let mut rooms = Graph::new();
    for (module, imported) in graph {
        let room = room(module);
        let targets: &mut BTreeSet<String> = rooms.entry(room.to_owned()).or_default();
        let others = imported.iter().map(|target| self::room(target));
        targets.extend(others.filter(|other| *other != room).map(str::to_owned));
    }
    rooms
}

fn room(module: &str) -> &str {
    module.split_once("::").map_or(module, |(first, _)| first)
}
