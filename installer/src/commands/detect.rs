//! `gpusetup detect`: what is here.

use std::fmt::Write;
use std::path::Path;

use gpu_host::{Inventory, cgroup, distro, init, kernel, platform};
use gpu_inject::generate::SPEC_PATH;
use serde_json::json;

use crate::cli::Common;
use crate::engines::{self, Engine, Engines, Facts, NEEDS_SPEC, Wanted};
use crate::error::Error;
use crate::foreign::{self, Foreign};
use crate::host::Host;
use crate::plan;
use crate::report;
use crate::screen::Screen;

/// What is here.
pub struct Seen {
    inventory: Inventory,
    engines: Engines,
    foreign: Foreign,
}

pub fn run(host: &Host, common: &Common) -> Result<u8, Error> {
    let seen = Seen::of(host)?;
    if common.json {
        report::result(&format!("{}\n", seen.document(host)));
    } else {
        report::result(&seen.text(host, Screen::output(common.plain)));
    }
    Ok(0)
}

/// What `--json` prints, for a support bundle.
pub fn document_of(host: &Host) -> Result<serde_json::Value, Error> {
    Ok(Seen::of(host)?.document(host))
}

impl Seen {
    fn document(&self, host: &Host) -> serde_json::Value {
        document(host, &self.inventory, &self.engines, &self.foreign)
    }

    /// Looks.
    pub fn of(host: &Host) -> Result<Self, Error> {
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
        Ok(Self {
            inventory,
            engines,
            foreign,
        })
    }

    /// What to do next, in a line; `None` where nothing can be done from here.
    pub fn next(&self) -> Option<&'static str> {
        self.inventory.driver.as_ref()?;
        let mut ours = self.engines.iter().filter(|e| e.is_ours()).peekable();
        ours.peek()?;
        Some(if ours.all(|e| e.facts().configured || !e.is_reached()) {
            "All set up. If something is wrong: gpusetup doctor. Back to before: sudo gpusetup undo."
        } else {
            "Next: gpusetup plan shows what would change, sudo gpusetup install does it."
        })
    }

    /// As people read it.
    pub fn text(&self, host: &Host, screen: Screen) -> String {
        let Self {
            inventory,
            engines,
            foreign,
        } = self;
        let mut out = format!("\n{}", host_lines(host, screen));
        out.push_str(&labelled(screen, "Driver", &driver(host, inventory)));
        if let Some(mismatch) = mismatch(host, inventory) {
            out.push_str(&labelled(screen, "", &mismatch));
        }
        out.push_str(&engine_lines(engines, screen));
        for (n, line) in foreign.lines().iter().enumerate() {
            let label = if n == 0 { "Others" } else { "" };
            out.push_str(&labelled(screen, label, line));
        }
        out.push('\n');
        out
    }
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

/// Where what stands behind a label begins.
const INDENT: usize = 11;

fn labelled(screen: Screen, label: &str, text: &str) -> String {
    screen.paragraph(&format!("  {label:<8} "), INDENT, text)
}

fn host_lines(host: &Host, screen: Screen) -> String {
    let root = host.root();
    let distro = distro::detect(root);
    let mut words = vec![distro.pretty_name.clone()];
    words.extend(kernel::release(root).map(|k| format!("kernel {k}")));
    words.push(match cgroup::version(root) {
        cgroup::Version::V1 => "cgroup v1".into(),
        cgroup::Version::Hybrid => "cgroup v1 (hybrid)".into(),
        cgroup::Version::V2 => "cgroup v2".into(),
        cgroup::Version::Unknown => "no cgroups".into(),
    });
    match init::detect(root) {
        init::Init::Systemd => words.push("systemd".into()),
        init::Init::OpenRc => words.push("OpenRC".into()),
        init::Init::Other => {}
    }
    words.extend(platform::detect(root).words());
    let mut out = labelled(screen, "Host", &words.join(", "));
    if let Some(why) = &distro.unsupported {
        out.push_str(&labelled(screen, "", &format!("not supported: {why}")));
        for line in distro.instead.iter().flat_map(|i| i.lines()) {
            // To be copied, so as it is.
            out.push_str(&format!("{:INDENT$}  {line}\n", ""));
        }
    }
    if let Some(warning) = &distro.warning {
        out.push_str(&labelled(screen, "", warning));
    }
    out
}

fn engine_lines(engines: &[Box<dyn Engine>], screen: Screen) -> String {
    let name = |f: &Facts| {
        let version = f.version.as_deref().unwrap_or_default();
        format!("{} {version}", f.name).trim_end().to_owned()
    };
    let widths = engines.iter().map(|e| name(e.facts()).chars().count());
    let column = widths.max().unwrap_or_default();
    let mut out = String::new();
    let mut label = "Engines";
    for engine in engines {
        let f = engine.facts();
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
        let first = format!("  {label:<8} {:<column$}  {running:<7}  ", name(f));
        let indent = first.chars().count();
        out.push_str(&screen.paragraph(&first, indent, state));
        // Below the name where little room is left beside it.
        let indent = if screen.room(indent) < 40 {
            INDENT + 2
        } else {
            indent
        };
        for note in more {
            out.push_str(&screen.paragraph(&" ".repeat(indent), indent, note));
        }
        label = "";
    }
    if engines.is_empty() {
        out.push_str(&labelled(screen, "Engines", "none"));
    }
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
