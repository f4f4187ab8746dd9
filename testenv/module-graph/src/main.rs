//! `module-graph FILE…`: the circles of each crate, by its lib.rs or main.rs, and which import closes them.

use std::path::Path;
use std::process::ExitCode;

use module_graph::{circles, graph};

fn main() -> ExitCode {
    for root in std::env::args_os().skip(1) {
        let graph = match graph(Path::new(&root)) {
            Ok(graph) => graph,
            Err(e) => {
                eprintln!("module-graph: {e}");
                return ExitCode::FAILURE;
            }
        };
        let found = circles(&graph);
        println!(
            "{}: {} modules, {} circles",
            root.display(),
            graph.len(),
            found.len()
        );
        for circle in found {
            println!("  {} modules:", circle.len());
            for module in &circle {
                let inner = graph[module].iter().filter(|to| circle.contains(to));
                let inner: Vec<&str> = inner.map(|to| shown(to)).collect();
                println!("    {} -> {}", shown(module), inner.join(", "));
            }
        }
    }
    ExitCode::SUCCESS
}

fn shown(module: &str) -> &str {
    if module.is_empty() { "crate" } else { module }
}
