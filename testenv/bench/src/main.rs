//! Measures what starting containers with GPUs costs: with our programs, with the bare low-level runtime and with any
//! other, in turn on the same bundles. `docs/performance.md` describes how.
#![forbid(unsafe_code)]

mod bars;
mod bundle;
mod case;
mod counts;
mod direct;
mod docs;
mod figures;
mod host;
mod images;
mod life;
mod machine;
mod measure;
mod options;
mod paired;
mod plot;
mod program;
mod protocol;
mod table;
mod trace;
mod worker;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::figures::Figures;
use crate::options::{Options, Run};

fn main() -> ExitCode {
    let done = match Options::parse() {
        Options::Run(run) => measured(&run),
        Options::Paired(run) => paired::measured(&run),
        Options::Host { options } => serde_json::from_str(&options)
            .map_err(|e| e.to_string())
            .and_then(|options| worker::serve(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("start-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn measured(run: &Run) -> Result<(), String> {
    let figures = match &run.from {
        Some(path) => {
            let text = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?
        }
        None => measure::all(run)?,
    };
    print!("{}", table::text(&figures));
    show(run, &figures)?;
    let missing = figures.missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("missing: {}", missing.join("; ")))
}

fn show(run: &Run, figures: &Figures) -> Result<(), String> {
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    if let Some(path) = &run.json {
        write(path, &docs::json(figures)?)?;
    }
    if let Some(path) = &run.svg {
        write(path, &plot::svg(figures))?;
    }
    if let Some(dir) = &run.docs {
        let page = dir.join("performance.md");
        let text = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
        write(&page, &docs::rewritten(&text, figures)?)?;
        write(&dir.join("performance.svg"), &plot::svg(figures))?;
    }
    Ok(())
}
