//! gpu-probe, which runs in the containers: prints which GPUs it sees, and makes them compute.

mod cuda;
mod enter;
mod ffi;
mod graphics;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use gpu_run::probe_output::Part;

const USAGE: &str = "\
usage: gpu-probe [enter ROOT] PART…
parts, each a line of JSON: nodes, add-vectors (by libcuda.so.1), vulkan, egl
no part: does nothing, for measuring a container's start
enter ROOT: prints `ready`, waits for a line, and goes on below ROOT in a mount namespace of its own";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gpu-probe: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let mut parts = arguments;
    if let [verb, root, rest @ ..] = arguments
        && verb == "enter"
    {
        enter::enter(Path::new(root))?;
        parts = rest;
    }
    for part in parts {
        let answer = match part.as_str() {
            "nodes" => Part::Nodes {
                names: nodes(Path::new("/dev")),
            },
            "add-vectors" => Part::Cuda(cuda::query()),
            "vulkan" => Part::Vulkan(graphics::vulkan()),
            "egl" => Part::Egl(graphics::egl()),
            _ => return Err(format!("{part:?} is unknown\n{USAGE}")),
        };
        println!(
            "{}",
            serde_json::to_string(&answer).map_err(|e| e.to_string())?
        );
    }
    Ok(())
}

/// The driver's device nodes, and WSL's.
fn nodes(dev: &Path) -> Vec<String> {
    let entries = fs::read_dir(dev).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.starts_with("nvidia") || n == "dxg")
        .collect();
    names.sort();
    names
}
