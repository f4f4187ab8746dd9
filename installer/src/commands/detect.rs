//! `gpusetup detect`: what is here.

use std::fmt::Write;

use gpu_host::{Inventory, cgroup, distro, init, kernel};
use serde_json::json;

use crate::cli::Common;
use crate::engines::{self, Engine, Wanted};
use crate::error::Error;
use crate::host::Host;
use crate::plan;
use crate::report;

pub fn run(host: &Host, common: &Common) -> Result<u8, Error> {
    let inventory = plan::inventory(host)?;
    let mut engines = engines::detect(host);
    let has_spec = inventory.driver.is_some() && plan::described(host, &inventory)?.is_empty();
    for engine in &mut engines {
        match engine.changes(host, &Wanted::default()) {
            Ok(changes) => engine.facts_mut().configured = changes.is_empty() && has_spec,
            Err(e) => engine.facts_mut().notes.push(e.to_string()),
        }
    }
    if common.json {
        report::result(&format!("{}\n", document(host, &inventory, &engines)));
    } else {
        report::result(&text(host, &inventory, &engines));
    }
    Ok(0)
}

fn document(host: &Host, inventory: &Inventory, engines: &[Box<dyn Engine>]) -> serde_json::Value {
    let root = host.root();
    let facts: Vec<_> = engines.iter().map(|e| e.facts()).collect();
    json!({
        "schema": 1,
        "distribution": distro::detect(root),
        "kernel": kernel::release(root),
        "cgroup": cgroup::version(root),
        "init": init::detect(root),
        "driver": inventory.driver.as_ref().map(|d| json!({"version": d.version, "cuda": d.cuda, "files": d.files.len()})),
        "gpus": inventory.gpus,
        "engines": facts,
    })
}

fn text(host: &Host, inventory: &Inventory, engines: &[Box<dyn Engine>]) -> String {
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
    if init::detect(root) == init::Init::Systemd {
        host_line.push("systemd".into());
    }
    let mut out = format!("\n  Host     {}\n", host_line.join(", "));
    // Writing to a String cannot fail.
    if let Some(why) = &distro.unsupported {
        let _ = writeln!(out, "           not supported: {why}");
    }
    let _ = writeln!(out, "  Driver   {}", driver(host, inventory));
    let mut label = "Engines";
    for engine in engines {
        let f = engine.facts();
        let name = format!("{} {}", f.name, f.version.as_deref().unwrap_or(""));
        let running = match f.running {
            Some(true) => "running",
            Some(false) => "stopped",
            None => "",
        };
        let state = match (f.configured, f.notes.first()) {
            (true, _) => "configured",
            (false, Some(note)) => note,
            (false, None) => "not configured",
        };
        let _ = writeln!(out, "  {label:<8} {name:<26} {running:<8} {state}");
        label = "";
    }
    if engines.is_empty() {
        let _ = writeln!(out, "  Engines  none");
    }
    out.push('\n');
    out
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
