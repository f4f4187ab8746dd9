//! `module-graph FILE…`: prints the circles of each crate, given by its lib.rs or main.rs, and the imports that close them.
//! `module-graph --page`: writes the rooms of all crates and their imports into docs/architecture.md.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use module_graph::{circles, graph, read_layers, rewritten, rooms};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = if arguments == ["--page"] {
        write_page()
    } else {
        arguments.iter().try_for_each(|root| show_circles(root))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("module-graph: {e}");
            ExitCode::FAILURE
        }
    }
}

fn write_page() -> Result<(), Box<dyn Error>> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let listed = read_layers(&top.join("testenv/module-graph/layers.toml"))?;
    let mut crates = Vec::new();
    for one in &listed {
        crates.push((one, rooms(&graph(&top.join(&one.root))?)));
    }
    let path = top.join("docs/architecture.md");
    let page = std::fs::read_to_string(&path)?;
    let page =
        rewritten(&page, &crates).ok_or("docs/architecture.md lacks the marks of the graph")?;
    Ok(std::fs::write(path, page)?)
}

fn show_circles(root: &str) -> Result<(), Box<dyn Error>> {
    let graph = graph(Path::new(root))?;
    let circles = circles(&graph);
    println!("{root}: {} modules, {} circles", graph.len(), circles.len());
    for circle in circles {
        println!("  {} modules:", circle.len());
        for module in &circle {
            let inner = graph[module].iter().filter(|to| circle.contains(to));
            let inner: Vec<&str> = inner.map(|to| shown(to)).collect();
            println!("    {} -> {}", shown(module), inner.join(", "));
        }
    }
    Ok(())
}

fn shown(module: &str) -> &str {
    if module.is_empty() { "crate" } else { module }
}
