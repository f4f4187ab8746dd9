//! Circles in a graph: sets of modules that all lead to each other.

use std::collections::BTreeSet;

use crate::Graph;

/// Each as the names of its modules, in order.
pub fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut left: BTreeSet<&String> = graph.keys().collect();
    let mut found = Vec::new();
    while let Some(first) = left.pop_first() {
        let there = reached(graph, first);
        if !there.contains(first) {
            continue;
        }
        let circle: Vec<String> = there
            .iter()
            .filter(|other| reached(graph, other).contains(first))
            .map(|other| (*other).clone())
            .collect();
        for name in &circle {
            left.remove(name);
        }
        found.push(circle);
    }
    found
}

/// All that imports lead to from there; itself only where they lead back.
fn reached<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = graph.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(graph.get(next).into_iter().flatten());
        }
    }
    found
}
