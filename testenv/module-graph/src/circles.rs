//! Circles in a graph: sets of modules that all lead to each other.

use std::collections::BTreeSet;

use crate::Graph;

/// The circles of a graph, each as the sorted names of its modules.
pub fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut unvisited: BTreeSet<&String> = graph.keys().collect();
    let mut circles = Vec::new();
    while let Some(first) = unvisited.pop_first() {
        let from_first = reachable(graph, first);
        if !from_first.contains(first) {
            continue;
        }
        let circle: Vec<String> = from_first
            .iter()
            .filter(|other| reachable(graph, other).contains(first))
            .map(|other| (*other).clone())
            .collect();
        for name in &circle {
            unvisited.remove(name);
        }
        circles.push(circle);
    }
    circles
}

/// Every module that imports lead to from this one; itself only if they lead back.
fn reachable<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a String> {
    let mut modules = BTreeSet::new();
    let mut open: Vec<&String> = graph.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if modules.insert(next) {
            open.extend(graph.get(next).into_iter().flatten());
        }
    }
    modules
}
