//! Renders the state of the host as text for people and as the document of `detect --json`.

use std::fmt::Write;
use std::path::PathBuf;

use gpu_host::{Inventory, cgroup, distro, init, kernel, platform};
use serde_json::json;

use super::host_state;
use crate::engines::engine::{DaemonState, Facts};
use crate::engines::run_by;
use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::host::{Host, not_known};
use crate::model::change::{Change, MergeKind};
use crate::model::host_state::HostState;
use crate::model::toolkit_traces::OtherToolkits;
use crate::setup::status::{EngineStatus, HostStatus, SetupState};
use crate::setup::{driver_answer, gpu_files};
use crate::terminal::screen::Screen;

/// The document of `detect --json`, for a support bundle.
pub fn document_of(host: &Host) -> Result<serde_json::Value, Error> {
    Ok(HostStatus::of(host)?.document(host))
}

impl HostStatus {
    /// The document of `detect --json`.
    pub fn document(&self, host: &Host) -> serde_json::Value {
        let mut document = document(host, &self.inventory, &self.engines, &self.foreign);
        let state = &self.state;
        document["restarts_due"] = json!(state.due);
        document["engines_down"] = json!(state.down);
        document["restarts_not_known"] = json!(state.not_known);
        document["interrupted_run"] = json!(state.interrupted);
        document["record"] = match &self.unknown {
            Some(e) => json!({"msg": e.to_string(), "fix": e.fix()}),
            None => serde_json::Value::Null,
        };
        document["without_root"] = json!(self.without_root);
        document
    }

    /// The last line: what a user should run to know the rest. Empty if nothing is missing.
    pub fn rest(&self, command: Invocation, screen: Screen) -> String {
        if self.without_root.is_empty() {
            return String::new();
        }
        screen.paragraph("", 0, &not_whole(command))
    }

    /// The state as text for people.
    pub fn text(&self, host: &Host, screen: Screen) -> String {
        let Self {
            inventory,
            engines,
            foreign,
            lacks,
            state,
            unknown,
            without_root: _,
        } = self;
        let mut out = format!("\n{}", host_lines(host, screen));
        if let Some(unknown) = unknown {
            out.push_str(&labelled(screen, "Record", &unknown.to_string()));
            let fix = unknown.fix().unwrap_or_default();
            out.push_str(&labelled(screen, "", &fix));
        }
        if let Some(run) = &state.interrupted {
            let journal = run.journal.display();
            out.push_str(&labelled(
                screen,
                "Run",
                &format!("{} ({journal})", run.what),
            ));
            out.push_str(&labelled(screen, "", &run.fix));
        }
        out.push_str(&labelled(screen, "Driver", &driver(host, inventory)));
        if let Some(mismatch) = gpu_files::mismatch(host, inventory) {
            out.push_str(&labelled(screen, "", &mismatch));
        }
        for remark in driver_answer::remarks(inventory) {
            out.push_str(&labelled(screen, "", &remark));
        }
        out.push_str(&engine_lines(host, engines, lacks, state, screen));
        if engines.iter().any(|e| !e.setup.outdated().is_empty()) {
            for (n, line) in outdated(lacks).iter().enumerate() {
                let label = if n == 0 { "Outdated" } else { "" };
                out.push_str(&labelled(screen, label, line));
            }
        }
        for (n, line) in foreign.lines().iter().enumerate() {
            let label = if n == 0 { "Others" } else { "" };
            out.push_str(&labelled(screen, label, line));
        }
        out.push('\n');
        out
    }
}

/// The line below a result that lacks what only root may know.
pub fn not_whole(command: Invocation) -> String {
    format!("Not everything is known without root: {command}")
}

/// The files of the GPUs' description that are missing or outdated, one on each line.
fn outdated(lacks: &[Change]) -> Vec<String> {
    let (links, files): (Vec<_>, Vec<_>) = lacks.iter().partition(|c| c.kind == MergeKind::Link);
    let mut lines: Vec<String> = files
        .iter()
        .map(|c| match c.before {
            None => format!("{} is missing", c.path.display()),
            Some(_) => format!("{} is not of this driver", c.path.display()),
        })
        .collect();
    match links.as_slice() {
        [] => {}
        [one] => lines.push(format!("{} is missing", one.path.display())),
        [first, ..] => lines.push(format!(
            "{} links are missing, {} the first",
            links.len(),
            first.path.display()
        )),
    }
    lines
}

fn document(
    host: &Host,
    inventory: &Inventory,
    engines: &[EngineStatus],
    foreign: &OtherToolkits,
) -> serde_json::Value {
    let root = host.root();
    let engines: Vec<_> = engines.iter().map(|e| engine_document(host, e)).collect();
    json!({
        "schema": 1,
        "distribution": distro::detect(root),
        "kernel": kernel::release(root),
        "cgroup": cgroup::version(root),
        "init": init::detect(root),
        "platform": platform::detect(root),
        "driver": inventory.driver.as_ref().map(|d| json!({"version": d.version, "cuda": d.cuda, "files": d.files.len()})),
        "driver_mismatch": gpu_files::mismatch(host, inventory),
        "gpus": inventory.gpus,
        "gpus_left_out": inventory.disputed,
        "nvml_silence": inventory.nvml_silence,
        "engines": engines,
        "foreign": foreign,
    })
}

fn engine_document(host: &Host, of: &EngineStatus) -> serde_json::Value {
    let facts = of.engine.facts();
    let run_by = run_by::of(host, &*of.engine);
    json!({
        "name": facts.name,
        "standing": facts.management,
        "version": facts.version,
        "running": facts.daemon.runs(),
        "config": facts.config,
        "run_by": run_by.known(),
        "run_by_unknown": run_by.unknown(),
        "configured": of.setup == SetupState::Configured,
        "configured_unknown": match &of.setup {
            SetupState::Unknown(why) => Some(why),
            _ => None,
        },
        "outdated": of.setup.outdated(),
        "notes": of.notes,
        "running_unknown": match &facts.daemon {
            DaemonState::Unknown(why) => Some(why),
            _ => None,
        },
    })
}

/// The column where the text after a label begins.
const INDENT: usize = 11;

pub(super) fn labelled(screen: Screen, label: &str, text: &str) -> String {
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
            // A command to copy, so it is not wrapped.
            out.push_str(&format!("{:INDENT$}  {line}\n", ""));
        }
    }
    if let Some(warning) = &distro.warning {
        out.push_str(&labelled(screen, "", warning));
    }
    out
}

fn engine_lines(
    host: &Host,
    engines: &[EngineStatus],
    lacks: &[Change],
    state: &HostState,
    screen: Screen,
) -> String {
    let name = |f: &Facts| {
        let version = f.version.as_deref().unwrap_or_default();
        format!("{} {version}", f.name).trim_end().to_owned()
    };
    let widths = engines
        .iter()
        .map(|e| name(e.engine.facts()).chars().count());
    let column = widths.max().unwrap_or_default();
    let mut out = String::new();
    let mut label = "Engines";
    for EngineStatus {
        engine,
        setup,
        notes,
    } in engines
    {
        let f = engine.facts();
        let is_down = state.down.iter().any(|d| d.engine == f.name);
        let running = match f.daemon {
            _ if is_down => "failing",
            DaemonState::Runs => "running",
            DaemonState::Stopped => "stopped",
            DaemonState::Unknown(_) => "unknown",
            DaemonState::Unasked => "",
        };
        // If the engine has no file to set up, its first note is its state.
        let (words, more) = match (setup, notes.split_first()) {
            (SetupState::Configured, _) => ("configured".into(), notes.as_slice()),
            (SetupState::Unknown(why), _) => {
                let why = not_known::why_not_known(host, why);
                (format!("whether it is set up is {why}"), notes.as_slice())
            }
            (SetupState::Outdated(files), _) => (state_of_outdated(files, lacks), notes.as_slice()),
            (SetupState::New, _) if !engine.is_ours() => ("left alone".into(), notes.as_slice()),
            (SetupState::New, Some((note, more))) if f.config.is_none() => (note.clone(), more),
            (SetupState::New, _) => ("not configured".into(), notes.as_slice()),
        };
        let first = format!("  {label:<8} {:<column$}  {running:<7}  ", name(f));
        let indent = first.chars().count();
        out.push_str(&screen.paragraph(&first, indent, &words));
        // If little room is left beside the name, the notes go below it.
        let indent = if screen.room(indent) < 40 {
            INDENT + 2
        } else {
            indent
        };
        for note in host_state::notes(state, &f.name).iter().chain(more) {
            out.push_str(&screen.paragraph(&" ".repeat(indent), indent, note));
        }
        label = "";
    }
    if engines.is_empty() {
        out.push_str(&labelled(screen, "Engines", "none"));
    }
    out
}

/// Names the outdated files that belong to this engine. Those that all engines share are listed
/// once, below the engines.
fn state_of_outdated(files: &[PathBuf], lacks: &[Change]) -> String {
    let is_own = |p: &&PathBuf| lacks.iter().all(|c| c.path != **p);
    let own = files.iter().filter(is_own);
    let own: Vec<String> = own.map(|p| p.display().to_string()).collect();
    if own.is_empty() {
        "out of date".into()
    } else {
        format!("out of date: {}", own.join(", "))
    }
}

fn driver(host: &Host, inventory: &Inventory) -> String {
    let Some(driver) = &inventory.driver else {
        let installed = gpu_host::installed_version(host.root(), &host.driver_root);
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
