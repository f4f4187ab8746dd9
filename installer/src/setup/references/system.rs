//! Finds what needs our packages in the system's part of the host: configuration of its engines, units, quadlets and
//! root's containers, and settings that an undo would restore.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reference::{Reference, ReferenceKind, References, Removal, add_containers, fix};
use super::search::{self, SearchKind};
use super::{containers, words};
use crate::engines::{self, docker};
use crate::error::invocation::Invocation;
use crate::host::local_files::LocalFiles;
use crate::host::{Host, RECEIPT};
use crate::model::package::Package;
use crate::setup::undo_planner;
use crate::transaction::receipt::Receipt;

/// The texts of files after an undo.
type Undone = BTreeMap<PathBuf, Option<String>>;

fn undone(host: &Host, removal: &Removal, after_undo: bool, references: &mut References) -> Undone {
    if !after_undo || !removal.has(Package::Gpusetup) && !removal.has(Package::GpuContainerToolkit)
    {
        return Undone::new();
    }
    let plan = match undo_planner::plan(host) {
        Ok(Some((plan, _))) => plan,
        Ok(None) => return Undone::new(),
        Err(e) => {
            references.add(Reference {
                kind: ReferenceKind::Undo,
                at: host.state(RECEIPT).display().to_string(),
                user: None,
                why: format!("`{}` cannot be run: {e}", Invocation::Undo),
                fix: e
                    .fix()
                    .unwrap_or_else(|| format!("mend that, then run `{}`", Invocation::Undo)),
            });
            return Undone::new();
        }
    };
    let undone: Undone = plan
        .changes
        .into_iter()
        .map(|c| (c.path, c.after))
        .collect();
    for (path, text) in &undone {
        let returned = text.as_deref().and_then(words::first_vendor_name);
        if let Some(name) = returned.filter(|_| !has_vendor_runtime(host)) {
            references.add(Reference {
                kind: ReferenceKind::Undo,
                at: path.display().to_string(),
                user: None,
                why: format!("an undo would give it back to {name}, which is not installed"),
                fix: format!(
                    "install nvidia-container-toolkit, then remove this package; or run `{}` and \
                     take that runtime out of the file",
                    Invocation::Undo
                ),
            });
        }
    }
    undone
}

/// Whether the vendor's own runtime is installed, as opposed to one of our programs under its name.
fn has_vendor_runtime(host: &Host) -> bool {
    let at = host.program("nvidia-container-runtime");
    let real = at.and_then(|path| host.root().canonicalize(path).ok());
    real.is_some_and(|path| !path.starts_with("/usr/lib/gpu-container"))
}

/// Root's configuration, units and containers.
pub fn add(
    host: &Host,
    files: &LocalFiles,
    removal: &Removal,
    after_undo: bool,
    references: &mut References,
) {
    let undone = undone(host, removal, after_undo, references);
    let mut places = search::of_system();
    let engines = engines::detect(host);
    // An engine's file, if a flag has moved it.
    let moved = engines.iter().flat_map(|e| e.reads());
    places.extend(moved.map(|path| (SearchKind::Configuration, path)));
    let receipt = Receipt::load(host).ok().flatten();
    let written = receipt
        .iter()
        .flat_map(|r| &r.changes)
        .map(|c| c.path.clone());
    let written: Vec<PathBuf> = written.collect();
    places.extend(
        written
            .iter()
            .map(|path| (SearchKind::Configuration, path.clone())),
    );
    let text = |path: &Path| match undone.get(path) {
        Some(after) => Ok(after.clone()),
        None => files.text(path),
    };
    let (matches, not_seen) = search::matches(files, &places, text, |_, place, text| {
        removal.missing_for(place, text)
    });
    references.add_not_seen(not_seen);
    for (path, word) in matches
        .into_iter()
        .filter(|(path, _)| !search::is_ours(path))
    {
        let is_set_up = written.contains(&path);
        references.add(Reference {
            kind: ReferenceKind::File,
            at: path.display().to_string(),
            user: None,
            why: format!("names {word}"),
            fix: fix(word, is_set_up, None),
        });
    }
    if removal.takes_devices() {
        let data = docker::system_data_root(host);
        let (containers, not_seen) = containers::of_root(host, files, data.as_deref());
        references.add_not_seen(not_seen);
        add_containers(containers, None, references);
    }
}
