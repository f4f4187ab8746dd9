//! Finds other tools that give containers GPUs, and resolves conflicts with them.
//!
//! Their runtimes in an engine's configuration are handled by that engine. Everything else is
//! handled here: CDI specs of our kind, the programs that write them, hooks, and tools that
//! configure engines themselves.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cdi::SPEC_DIRS;
use gpu_host::init;
use gpu_inject::generate::SPEC_PATH;
use gpu_inject::generate::host_files::{is_of_our_kind, is_ours};
use serde::Deserialize;

use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::Existing;
use crate::model::toolkit_traces::{OtherToolkits, ToolkitTrace, TraceKind};
use crate::transaction::receipt::Receipt;

const TABLE: &str = include_str!("other_toolkits.toml");
const UNIT_DIRS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The program that identifies their runtime entries.
const RUNTIME: &str = "nvidia-container-runtime";
/// The directory with our programs under the vendor's names.
const NAMES_DIR: &str = "/usr/lib/gpu-container/";
/// Our own program. `nvidia-ctk` was a link to it before the static program got that name.
const GPUSETUP: &str = "/usr/bin/gpusetup";

/// A row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceRow {
    is: TraceKind,
    at: String,
    #[serde(default)]
    does: String,
    #[serde(default)]
    starts: Vec<String>,
    #[allow(dead_code, reason = "for who reads the table, and its test")]
    source: String,
}

#[derive(Debug, Deserialize)]
struct ToolkitTable {
    trace: Vec<TraceRow>,
}

/// How the conflicts are resolved.
#[derive(Debug, Default)]
pub struct ConflictResolution {
    /// Their files to remove, and our drop-ins that disable their units.
    pub changes: Vec<Change>,
    /// CDI is left to the other tool: our spec is not written.
    pub spec_is_theirs: bool,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Looks for other tools. Files that an engine has already read are not read again.
pub fn find(host: &Host, engines: &[Box<dyn Engine>]) -> OtherToolkits {
    let text = |path: &Path| {
        let known = engines.iter().find_map(|engine| engine.text_of(path));
        let read = || host.lossy_text(path);
        known.map(str::to_owned).or_else(read)
    };
    traces(host, table(), text)
}

fn traces(
    host: &Host,
    rows: Vec<TraceRow>,
    text: impl Fn(&Path) -> Option<String>,
) -> OtherToolkits {
    let mut traces = Vec::new();
    for trace in rows {
        let version = match trace.is {
            TraceKind::Package => host.package_version(&[&trace.at]),
            _ => None,
        };
        let is_there = match trace.is {
            TraceKind::Package => version.is_some(),
            TraceKind::Program => is_theirs(host, Path::new(&trace.at)),
            TraceKind::Toolkit => host
                .root()
                .read_dir(&trace.at)
                .is_ok_and(|entries| !entries.is_empty()),
            TraceKind::Hook => host.root().exists(&trace.at),
            TraceKind::Unit => is_started(host, &trace),
            TraceKind::Runtime | TraceKind::Spec => false,
        };
        let does = match trace.is {
            TraceKind::Runtime => {
                text(Path::new(&trace.at)).and_then(|text| runtime_in(host, &text))
            }
            _ => is_there.then(|| trace.does.clone()),
        };
        if let Some(does) = does {
            traces.push(ToolkitTrace {
                is: trace.is,
                at: trace.at,
                version,
                does,
            });
        }
    }
    traces.extend(specs(host));
    OtherToolkits::new(traces)
}

/// Resolves the conflicts according to the user's options.
pub fn resolve(
    others: &OtherToolkits,
    host: &Host,
    existing: Existing,
) -> Result<ConflictResolution, Error> {
    let mut way = ConflictResolution::default();
    let mut in_the_way: Vec<&ToolkitTrace> = others.of(TraceKind::is_in_the_way).collect();
    // A user who has set up this host beside a toolkit was warned then, and need not confirm it again.
    if existing == Existing::Refuse && Receipt::load(host)?.is_some() {
        let toolkits = in_the_way.extract_if(.., |f| f.is == TraceKind::Toolkit);
        way.warnings.extend(toolkits.map(ToolkitTrace::line));
    }
    match existing {
        Existing::Refuse if in_the_way.is_empty() => {}
        Existing::Refuse => {
            let lines = in_the_way.into_iter().map(ToolkitTrace::line);
            return Err(Error::OtherTools(lines.collect()));
        }
        Existing::Adopt => {
            for trace in in_the_way {
                match trace.is {
                    TraceKind::Unit => way.changes.push(held_back(host, trace)?),
                    TraceKind::Toolkit => way.warnings.push(trace.line()),
                    _ => way.changes.extend(taken_away(host, trace)?),
                }
            }
        }
        Existing::Leave => {
            way.spec_is_theirs = others.of(TraceKind::is_about_cdi).next().is_some();
            way.warnings.extend(
                in_the_way
                    .into_iter()
                    .map(|f| format!("left: {}", f.line())),
            );
        }
    }
    Ok(way)
}

/// Whether the spec that exists now, or after the next boot, was left to another tool. The receipt
/// lists our spec if a run adopted theirs or found none.
pub fn spec_is_left(host: &Host) -> Result<bool, Error> {
    let is_ours = Receipt::load(host)?
        .is_some_and(|r| r.changes.iter().any(|c| c.path == Path::new(SPEC_PATH)));
    if is_ours {
        return Ok(false);
    }
    let mut rows = table();
    rows.retain(|row| row.is.is_about_cdi());
    let others = traces(host, rows, |_| None);
    Ok(others.of(TraceKind::is_about_cdi).next().is_some())
}

fn table() -> Vec<TraceRow> {
    let table: ToolkitTable =
        toml::from_str(TABLE).expect("other_toolkits.toml is ours; a test reads it whole");
    table.trace
}

/// Whether a program exists and is not one of ours under another name.
fn is_theirs(host: &Host, path: &Path) -> bool {
    let real = host.root().canonicalize(path);
    real.is_ok_and(|real| !real.starts_with(NAMES_DIR) && real != Path::new(GPUSETUP))
}

/// Whether something starts the unit, and it is neither masked nor disabled by us.
fn is_started(host: &Host, trace: &TraceRow) -> bool {
    let root = host.root();
    if host.is_live() && init::detect(root) != init::Init::Systemd {
        return false;
    }
    let files = UNIT_DIRS.map(|dir| Path::new(dir).join(&trace.at));
    // The first file counts. A masked unit is a link to /dev/null; systemd treats an empty file the
    // same.
    let unit = files.iter().find(|f| root.symlink_metadata(f).is_ok());
    let is_masked = |unit: &PathBuf| {
        root.read_link(unit)
            .is_ok_and(|to| to == Path::new("/dev/null"))
            || root.read(unit).is_ok_and(|text| text.is_empty())
    };
    unit.is_some_and(|unit| !is_masked(unit))
        && trace.starts.iter().any(|s| root.exists(s))
        && !root.exists(drop_in(&trace.at))
}

fn drop_in(unit: &str) -> PathBuf {
    Path::new("/etc/systemd/system")
        .join(format!("{unit}.d"))
        .join("50-gpusetup.conf")
}

/// Adds a drop-in to their unit, so that it does nothing while gpusetup has something to undo here.
/// None of their files is edited, and once gpusetup is gone the unit works again.
fn held_back(host: &Host, trace: &ToolkitTrace) -> Result<Change, Error> {
    let path = drop_in(&trace.at);
    Ok(Change {
        before: host.text(&path)?,
        path,
        after: Some(format!(
            "# Written by gpusetup, which writes the CDI spec now; `{}` gives that back.\n\
             [Unit]\nConditionPathExists=!/var/lib/gpusetup/receipt.json\n",
            Invocation::Undo
        )),
        mode: 0o644,
        why: format!("hold it back: it {}", trace.does),
        kind: MergeKind::Own,
    })
}

/// Removes one of their files; undo restores it. A file at our own path is overwritten, not
/// removed.
fn taken_away(host: &Host, trace: &ToolkitTrace) -> Result<Option<Change>, Error> {
    if trace.at == SPEC_PATH {
        return Ok(None);
    }
    let path = PathBuf::from(&trace.at);
    let Some(before) = host.text(&path)? else {
        return Ok(None);
    };
    let mode = host.root().metadata(&path).map_or(0o644, |m| m.mode());
    Ok(Some(Change {
        path,
        before: Some(before),
        after: None,
        mode: mode & 0o7777,
        why: format!("another tool's: {}; undo gives it back", trace.does),
        kind: MergeKind::Own,
    }))
}

/// Describes the other toolkit's runtime in the text of an engine's file, if there is one.
fn runtime_in(host: &Host, text: &str) -> Option<String> {
    let lines = text.lines().filter(|l| !l.trim_start().starts_with('#'));
    let mut values = lines.flat_map(|l| l.split(['"', '\'']));
    let theirs = |v: &&str| {
        let name = Path::new(v).file_name().and_then(|n| n.to_str());
        name.is_some_and(|n| n == RUNTIME || n.starts_with("nvidia-container-runtime."))
            && !v.starts_with(NAMES_DIR)
    };
    let program = values.find(theirs)?;
    let at = if program.starts_with('/') {
        Some(PathBuf::from(program)).filter(|p| host.root().exists(p))
    } else {
        host.program(program)
    };
    // gpusetup-nvidia-compat installs our program under their name.
    if at.as_ref().is_some_and(|at| !is_theirs(host, at)) {
        return None;
    }
    let gone = if at.is_some() { "" } else { ", which is gone" };
    Some(format!("has the runtime {program}{gone}"))
}

/// CDI specs of other tools that define devices of our kind. [`Host::ensure_fully_readable`]
/// reports those that cannot be read.
fn specs(host: &Host) -> Vec<ToolkitTrace> {
    let mut traces = Vec::new();
    for dir in SPEC_DIRS {
        for name in host.root().read_dir(dir).unwrap_or_default() {
            let path = Path::new(dir).join(name);
            if !path.extension().is_some_and(|e| e == "json" || e == "yaml") {
                continue;
            }
            let Some(text) = host.lossy_text(&path) else {
                continue;
            };
            if is_of_our_kind(&text) && !is_ours(&text) {
                traces.push(ToolkitTrace {
                    is: TraceKind::Spec,
                    does: what_it_does(&path).into(),
                    at: path.display().to_string(),
                    version: None,
                });
            }
        }
    }
    traces
}

/// If two files in one directory define a device, engines drop it; if they are in two directories,
/// the later directory wins (CDI SPEC.md, "Location"; container-device-interface pkg/cdi/cache.go).
fn what_it_does(path: &Path) -> &'static str {
    if path == Path::new(SPEC_PATH) {
        "a CDI spec of nvidia.com/gpu, where ours is"
    } else if path.parent() == Path::new(SPEC_PATH).parent() {
        "a CDI spec of nvidia.com/gpu; beside ours, engines would drop the devices of both"
    } else {
        "a CDI spec of nvidia.com/gpu; ours would hide what is in it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_in_the_table_has_what_it_needs() {
        for trace in table() {
            assert!(!trace.source.is_empty(), "{trace:?}");
            assert_eq!(
                trace.is == TraceKind::Package,
                !trace.at.contains(['/', '.']),
                "{trace:?}"
            );
            assert_eq!(
                trace.is.is_in_the_way(),
                !trace.does.is_empty(),
                "{trace:?}"
            );
            assert_eq!(
                trace.is == TraceKind::Unit,
                !trace.starts.is_empty(),
                "{trace:?}"
            );
            // Specs are recognized by their content, not by a path in the table.
            assert_ne!(trace.is, TraceKind::Spec);
        }
    }
}
