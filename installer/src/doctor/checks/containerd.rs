//! Checks of containerd as an engine of its own: its files, their schema and its runtimes.

use std::path::PathBuf;

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::engine_states;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::edit::meaning::TomlMeaning;
use crate::engines::containerd::edits::Place;
use crate::engines::containerd::files::Files;
use crate::engines::containerd::schema::{self, Schema};
use crate::engines::containerd::view::View;
use crate::engines::containerd::{self, settings};
use crate::model::setup_options::SetupOptions;

pub const CHECKS: Checks = &[
    ("containerd-toml", toml),
    ("containerd-versions", versions),
    ("containerd-unread", unread),
    ("containerd-cri-off", cri_off),
    ("containerd-hidden", hidden),
    ("containerd-runtime-gone", runtime_gone),
    ("containerd-runtime-type", runtime_type),
    ("containerd-cgroup-driver", cgroup_driver),
    ("containerd-not-imported", not_imported),
    ("containerd-default-unknown", default_unknown),
    ("containerd-default-hidden", default_hidden),
];

pub const REMEDIES: Remedies = &[
    ("containerd-runtime-gone", take_place),
    ("containerd-cgroup-driver", same_driver),
    ("containerd-not-imported", remove_or_import),
];

/// Directories where people and tools put drop-ins, whether or not they are imported
/// (toolkit #1404).
const DROP_INS: [&str; 2] = ["/etc/containerd/conf.d", "/etc/containerd/config.d"];

/// Calls `then` with containerd's files if they can be read and share one schema.
fn viewed<T>(
    look: &HostFacts,
    then: impl FnOnce(&Place, &Files, &Schema, &View) -> Option<T>,
) -> Option<T> {
    let (place, files) = look.containerd()?;
    let files = look.ok(files)?;
    let schema = look.ok(Schema::of(files, place.version))?;
    let view = View::new(files, &schema, place.merges);
    then(place, files, &schema, &view)
}

fn toml(look: &HostFacts) -> Option<String> {
    look.invalid(look.containerd()?.1)
}

fn versions(look: &HostFacts) -> Option<String> {
    let (place, files) = look.containerd()?;
    Schema::of(look.ok(files)?, place.version)
        .err()
        .map(|e| e.to_string())
}

fn unread(look: &HostFacts) -> Option<String> {
    let (place, files) = look.containerd()?;
    schema::is_unread(look.ok(files)?, place.version).then(|| {
        format!(
            "{} has no version, and containerd is {}.{}",
            place.root.display(),
            place.version.0,
            place.version.1
        )
    })
}

fn cri_off(look: &HostFacts) -> Option<String> {
    let (place, files) = look.containerd()?;
    let is_off = schema::is_off(look.ok(files)?) && containerd::has_kubelet(look.host);
    is_off.then(|| {
        format!(
            "disabled_plugins in {} names cri, and a kubelet is here",
            place.root.display()
        )
    })
}

fn hidden(look: &HostFacts) -> Option<String> {
    viewed(look, |place, files, schema, view| {
        let last = view.last_file()?;
        let has = files.root().is_some_and(|r| schema::has_cri(r, schema));
        (!place.merges && has && last.path != files.root).then(|| {
            format!(
                "{} hides what {} says of CRI",
                last.path.display(),
                files.root.display()
            )
        })
    })
}

/// Warnings about runtimes whose program is gone. `programs-gone` reports that our own is.
fn dangling(look: &HostFacts) -> Option<Vec<String>> {
    let ours = SetupOptions::default().runtime_path.display().to_string();
    let findings = viewed(look, |_, _, _, view| {
        Some(settings::dangling(look.host, view))
    })?;
    let others = findings.into_iter().filter(|s| !s.contains(&ours));
    Some(others.collect())
}

fn runtime_gone(look: &HostFacts) -> Option<String> {
    evidence(dangling(look)?)
}

fn take_place(look: &HostFacts, usual: Remedy) -> Remedy {
    usual.taking_places(&dangling(look).unwrap_or_default())
}

fn runtime_type(look: &HostFacts) -> Option<String> {
    viewed(look, |_, _, _, view| {
        let lacks = view.runtimes().into_iter().filter(|name| {
            // containerd itself supplies the type of the built-in runc where files are merged.
            *name != "runc"
                && view
                    .get(&["containerd", "runtimes", name, "runtime_type"])
                    .is_none()
        });
        evidence(
            lacks
                .map(|name| format!("runtime {name:?} has no runtime_type"))
                .collect(),
        )
    })
}

/// A runtime's SystemdCgroup; `None` if there is no such runtime.
fn systemd_cgroup(view: &View, name: &str) -> Option<bool> {
    view.get(&["containerd", "runtimes", name])?;
    let value = view.get(&["containerd", "runtimes", name, "options", "SystemdCgroup"]);
    Some(value.and_then(|v| v.item.as_bool()).unwrap_or(false))
}

/// What SystemdCgroup is for runc, and the runtimes for GPUs for which it is not.
fn other_drivers(look: &HostFacts) -> Option<(bool, Vec<String>)> {
    viewed(look, |_, _, _, view| {
        let runc = systemd_cgroup(view, "runc")?;
        let is_for_gpus = |name: &&str| name.starts_with("nvidia");
        let differs = |name: &&str| systemd_cgroup(view, name).is_some_and(|v| v != runc);
        let names = view.runtimes().into_iter().filter(is_for_gpus);
        let names = names.filter(differs).map(str::to_owned);
        Some((runc, names.collect()))
    })
}

fn cgroup_driver(look: &HostFacts) -> Option<String> {
    let (runc, names) = other_drivers(look)?;
    let findings = names.into_iter();
    evidence(
        findings
            .map(|name| format!("SystemdCgroup is {runc} for runc and {} for {name}", !runc))
            .collect(),
    )
}

/// gpusetup writes the options of its own runtime alone, and where that has taken the place of another one, not even those.
fn same_driver(look: &HostFacts, usual: Remedy) -> Remedy {
    let Some((runc, names)) = other_drivers(look) else {
        return usual;
    };
    let is_ours = |name: &String| *name == SetupOptions::default().runtime_name;
    let was_theirs = look
        .receipt()
        .into_iter()
        .flat_map(|r| &r.changes)
        .any(|c| {
            let before = c.before.as_deref().unwrap_or_default();
            c.path.starts_with("/etc/containerd") && before.contains("nvidia-container-runtime")
        });
    usual
        .in_words(format!(
            "Set SystemdCgroup = {runc} in the options of {}, then restart containerd.",
            names.join(" and ")
        ))
        .by_command_if(!was_theirs && names.iter().all(is_ours))
}

/// Files with a runtime for GPUs that the daemon does not read.
fn unread_files(look: &HostFacts) -> Option<Vec<PathBuf>> {
    let (_, files) = look.containerd()?;
    // The files as the daemon reads them, including our drop-in.
    let read = look.ok(look.ok(files)?.after(look.host, None, &[]))?;
    let mut findings = Vec::new();
    for path in DROP_INS.iter().flat_map(|d| look.entries(d)) {
        let is_toml = path.extension().is_some_and(|e| e == "toml");
        if !is_toml || read.read.iter().any(|f| f.path == path) {
            continue;
        }
        let text = look.text(&path).unwrap_or_default();
        if text.contains("runtimes.nvidia") || text.contains("nvidia-container-runtime") {
            findings.push(path);
        }
    }
    Some(findings)
}

fn not_imported(look: &HostFacts) -> Option<String> {
    let findings = unread_files(look)?.into_iter();
    evidence(
        findings
            .map(|path| format!("{} is imported by nothing", path.display()))
            .collect(),
    )
}

/// Where containerd has a runtime nvidia already, a setup would leave the file as it is.
fn remove_or_import(look: &HostFacts, usual: Remedy) -> Remedy {
    let state = engine_states::named(look, "containerd");
    let mut ways = state.into_iter().flat_map(|state| &state.ways);
    if !ways.any(|way| !way.is_cdi && way.lacks.is_none()) {
        return usual;
    }
    let files = unread_files(look).unwrap_or_default();
    let files: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    usual
        .in_words("Remove it: containerd has a runtime nvidia without it. Or import it, if it is the one to use.")
        .by(format!("rm {}", files.join(" ")))
}

fn default_hidden(look: &HostFacts) -> Option<String> {
    viewed(look, |place, _, _, view| {
        let table = settings::default_table(view, place.version)?;
        let path = table.file.path.display();
        Some(format!(
            "{path} has a table default_runtime, which containerd takes before default_runtime_name"
        ))
        .filter(|_| view.text(&["containerd", "default_runtime_name"]).is_some())
    })
}

fn default_unknown(look: &HostFacts) -> Option<String> {
    viewed(look, |_, files, _, view| {
        let name = view.text(&["containerd", "default_runtime_name"])?;
        let is_known = name == "runc" || view.runtimes().contains(&name);
        // Our drop-in is not among the files of the view, so look into it separately.
        let in_ours = files
            .drop_in(containerd::edits::DROP_IN)
            .is_some_and(|path| {
                let text = look.ok(files.text_or_read(look.host, &path)).flatten();
                let ours = text.as_deref().and_then(TomlMeaning::of_text);
                let has = |cri: &schema::Cri| {
                    let at = [cri, &["containerd", "runtimes", name][..]].concat();
                    ours.as_ref().is_some_and(|o| o.get(&at).is_some())
                };
                schema::TABLES.iter().any(has)
            });
        (!is_known && !in_ours).then(|| {
            format!("default_runtime_name is {name:?}, and no runtime of that name is there")
        })
    })
}

/// The default runtime and its SystemdCgroup, for the check of kubelet.
pub fn default_systemd_cgroup(look: &HostFacts) -> Option<(String, bool)> {
    viewed(look, |_, _, _, view| {
        let name = view
            .text(&["containerd", "default_runtime_name"])
            .unwrap_or("runc");
        Some((name.to_owned(), systemd_cgroup(view, name)?))
    })
}
