//! `gpusetup detect`: what is here.

use std::fmt::Write;
use std::path::Path;

use gpu_host::{Inventory, cgroup, distro, init, kernel, platform};
use gpu_inject::generate::SPEC_PATH;
use serde_json::json;

use crate::cli::Common;
use crate::engines::{self, Engine, Engines, NEEDS_SPEC, Wanted};
use crate::error::Error;
use crate::foreign::{self, Foreign};
use crate::host::Host;
use crate::plan;
use crate::report;

pub fn run(host: &Host, common: &Common) -> Result<u8, Error> {
    let (inventory, engines, foreign) = found(host)?;
    if common.json {
        report::result(&format!(
            "{}\n",
            document(host, &inventory, &engines, &foreign)
        ));
    } else {
        report::result(&text(host, &inventory, &engines, &foreign));
    }
    Ok(0)
}

/// What `--json` prints, for a support bundle.
pub fn document_of(host: &Host) -> Result<serde_json::Value, Error> {
    let (inventory, engines, foreign) = found(host)?;
    Ok(document(host, &inventory, &engines, &foreign))
}

fn found(host: &Host) -> Result<(Inventory, Engines, Foreign), Error> {
    let inventory = plan::inventory(host)?;
    let mut engines = engines::detect(host);
    let foreign = Foreign::find(host);
    let has_spec = inventory.driver.is_some() && has_spec(host, &inventory)?;
    for engine in &mut engines {
        match engine.changes(host, &Wanted::default()) {
            Ok(changes) => {
                let set_up = engine.is_ours() && engine.is_reached();
                engine.facts_mut().configured = set_up && changes.is_empty() && has_spec;
            }
            Err(e) => engine.facts_mut().notes.push(e.to_string()),
        }
        let warnings = engine.warnings(host);
        let facts = engine.facts_mut();
        // A warning can be an error that was told already, with the engine's name before it.
        facts.notes.extend(
            warnings
                .into_iter()
                .filter(|w| !facts.notes.iter().any(|n| w.ends_with(n.as_str())))
                .collect::<Vec<_>>(),
        );
        facts
            .notes
            .retain(|note| !(facts.configured && note == NEEDS_SPEC));
    }
    Ok((inventory, engines, foreign))
}

/// Whether what describes the GPUs stands: ours, or what was left to another tool.
fn has_spec(host: &Host, inventory: &Inventory) -> Result<bool, Error> {
    let mut missing = plan::described(host, inventory)?;
    if foreign::spec_is_left(host)? {
        missing.retain(|c| c.path != Path::new(SPEC_PATH));
    }
    Ok(missing.is_empty())
}

fn document(
    host: &Host,
    inventory: &Inventory,
    engines: &[Box<dyn Engine>],
    foreign: &Foreign,
) -> serde_json::Value {
    let root = host.root();
    let facts: Vec<_> = engines.iter().map(|e| e.facts()).collect();
    json!({
        "schema": 1,
        "distribution": distro::detect(root),
        "kernel": kernel::release(root),
        "cgroup": cgroup::version(root),
        "init": init::detect(root),
        "platform": platform::detect(root),
        "driver": inventory.driver.as_ref().map(|d| json!({"version": d.version, "cuda": d.cuda, "files": d.files.len()})),
        "driver_mismatch": mismatch(host, inventory),
        "gpus": inventory.gpus,
        "engines": facts,
        "foreign": foreign,
    })
}

fn text(
    host: &Host,
    inventory: &Inventory,
    engines: &[Box<dyn Engine>],
    foreign: &Foreign,
) -> String {
    let root = host.root();
    let distro = distro::detect(root);
    let mut host_line = vec![distro.pretty_name.clone()];
    host_line.extend(kernel::release(root).map(|k| format!("kernel {k}")));
    host_line.push(match cgroup::version(root) {
        cgroup::Version::V1 => "cgroup v1".into(),
        cgroup::Version::Hybrid => "cgroup v1 (hybrid)".into(),
        cgroup::Version::V2 => "cgroup v2".into(),
        cgroup::Version::Unknown => "no cgroups".into(),
    });
    match init::detect(root) {
        init::Init::Systemd => host_line.push("systemd".into()),
        init::Init::OpenRc => host_line.push("OpenRC".into()),
        init::Init::Other => {}
    }
    host_line.extend(platform::detect(root).words());
    let mut out = format!("\n  Host     {}\n", host_line.join(", "));
    // Writing to a String cannot fail.
    if let Some(why) = &distro.unsupported {
        let _ = writeln!(out, "           not supported: {why}");
        for line in distro.instead.iter().flat_map(|i| i.lines()) {
            let _ = writeln!(out, "             {line}");
        }
    }
    if let Some(warning) = &distro.warning {
        let _ = writeln!(out, "           {warning}");
    }
    let _ = writeln!(out, "  Driver   {}", driver(host, inventory));
    if let Some(mismatch) = mismatch(host, inventory) {
        let _ = writeln!(out, "           {mismatch}");
    }
    let mut label = "Engines";
    for engine in engines {
        let f = engine.facts();
        let name = format!("{} {}", f.name, f.version.as_deref().unwrap_or(""));
        let running = match f.running {
            Some(true) => "running",
            Some(false) => "stopped",
            None => "",
        };
        // Where there is no file to set up, the first remark is all the state there is.
        let (state, more) = match f.notes.split_first() {
            _ if f.configured => ("configured", f.notes.as_slice()),
            _ if !engine.is_ours() => ("left alone", f.notes.as_slice()),
            Some((note, more)) if f.config.is_none() => (note.as_str(), more),
            _ => ("not configured", f.notes.as_slice()),
        };
        let _ = writeln!(out, "  {label:<8} {name:<26} {running:<8} {state}");
        for note in more {
            let _ = writeln!(out, "  {:<8} {:<26} {:<8} {note}", "", "", "");
        }
        label = "";
    }
    if engines.is_empty() {
        let _ = writeln!(out, "  Engines  none");
    }
    let mut label = "Others";
    for line in foreign.lines() {
        let _ = writeln!(out, "  {label:<8} {line}");
        label = "";
    }
    out.push('\n');
    out
}

/// Libraries that are not of the loaded module, so that no container would get a working driver.
fn mismatch(host: &Host, inventory: &Inventory) -> Option<String> {
    let options = gpu_host::Options {
        driver_root: host.driver_root.clone(),
        ..gpu_host::Options::new(host.root().clone())
    };
    gpu_host::mismatch(&options, inventory).map(|m| m.to_string())
}

fn driver(host: &Host, inventory: &Inventory) -> String {
    let Some(driver) = &inventory.driver else {
        let installed = gpu_host::discover::installed_version(host.root(), &host.driver_root);
        return installed.map_or("none".into(), |v| format!("{v}, installed but not loaded"));
    };
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for gpu in &inventory.gpus {
        let mut name = gpu.name.clone().unwrap_or_else(|| "GPU".into());
        if gpu.mig_enabled {
            let _ = write!(name, " in {} MIG slices", gpu.mig.len());
        }
        match kinds.iter_mut().find(|(n, _)| *n == name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((name, 1)),
        }
    }
    let kinds: Vec<String> = kinds
        .into_iter()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    let gpus = if kinds.is_empty() {
        "no GPU".into()
    } else {
        kinds.join(", ")
    };
    format!("{}, {gpus}", driver.version)
}
