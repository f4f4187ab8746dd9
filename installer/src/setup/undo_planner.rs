//! Plans `undo`: what we added is removed, wherever it stands now; what the user changed since
//! stays; and files that are made anew at boot are never put back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::edit::revert::revert;
use crate::engines::activation::{Activated, Activation};
use crate::engines::docker::runtime_entry;
use crate::engines::engine::Engine;
use crate::engines::{self, down};
use crate::error::Error;
use crate::error::edit_error::EditError;
use crate::host::Host;
use crate::model::change::{Change, ChangeVerb, MergeKind};
use crate::model::host_state::HostState;
use crate::model::toolkit_traces::OtherToolkits;
use crate::setup::made_anew;
use crate::setup::moved_edits::{self, MovedEdits};
use crate::setup::{due, history, leftovers};
use crate::transaction::change_io;
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;

/// The plan of an undo; `None` if gpusetup has changed nothing here.
pub fn plan(host: &Host) -> Result<Option<(Plan, Receipt)>, Error> {
    let Some(receipt) = Receipt::load(host)? else {
        return Ok(None);
    };
    let detected = engines::detect(host);
    let edits = MovedEdits::of(&receipt.changes);
    let mut changes = Vec::new();
    let mut conflicts = Vec::new();
    let users = |c: &&Change| !made_anew::is(c);
    for done in receipt.changes.iter().rev().filter(users) {
        let known = detected.iter().find_map(|e| e.text_of(&done.path));
        match back(&edits, done, current(host, known, done)?) {
            Ok(change) => changes.push(change),
            Err(e) => conflicts.push(e.of_file(done)),
        }
    }
    if !conflicts.is_empty() {
        return Err(Error::ChangedSince(conflicts));
    }
    changes.extend(moved(host, &detected, &edits, &changes));
    let (anew, warnings) = made_anew::changes(host, &receipt)?;
    changes.extend(anew);
    let left = leftovers::after(host, &detected, &changes)?;
    let left = left.iter().map(|place| {
        format!("{place}; gpusetup did not write that, so undo leaves it and ends with exit code 3")
    });
    let remarks = receipt.remark().into_iter().chain(warnings).chain(left);
    let warnings = remarks.collect();
    changes.retain(Change::is_needed);
    let engines = detected
        .into_iter()
        .map(|engine| {
            let its: Vec<Change> = changes
                .iter()
                .filter(|c| engine.owns(&c.path))
                .cloned()
                .collect();
            let activation = match still_in_effect(host, &*engine, &receipt, &its) {
                None => engine.activation(host, &its),
                Some(how) => restart_without(host, &*engine, &receipt).because(&how),
            };
            let activation = as_before(host, &*engine, &receipt, activation);
            (engine, activation)
        })
        .filter(|(_, activation)| *activation != Activation::None)
        .collect();
    host.ensure_fully_readable()?;
    let plan = Plan {
        changes,
        engines,
        wanted: None,
        default_runtime: BTreeMap::new(),
        gpus: 0,
        warnings,
        unchecked: receipt.unchecked.clone(),
        foreign: OtherToolkits::default(),
        state: HostState::default(),
        skipped: Vec::new(),
        unread: BTreeMap::new(),
    };
    Ok(Some((plan, receipt)))
}

/// The change that takes out again what an earlier run did to a file.
fn back(edits: &MovedEdits, done: &Change, current: Option<String>) -> Result<Change, Conflict> {
    let after = reverted(edits, done, current.as_deref())?;
    Ok(Change {
        before: current,
        after,
        why: match done.verb() {
            ChangeVerb::Create => "was not there before",
            ChangeVerb::Remove => "was there before",
            ChangeVerb::Edit => "take our part out",
        }
        .into(),
        ..done.clone()
    })
}

/// The changes that take out of one engine's files what earlier runs have written; `None` if there are none, or if some
/// of it cannot be taken out.
pub fn taken_out(host: &Host, receipt: &Receipt, engine: &dyn Engine) -> Option<Vec<Change>> {
    let edits = MovedEdits::of(&receipt.changes);
    let its = receipt.changes.iter().rev();
    let its = its.filter(|c| engine.owns(&c.path) && !made_anew::is(c));
    let changes = its.map(|done| {
        let current = current(host, engine.text_of(&done.path), done).ok()?;
        back(&edits, done, current).ok()
    });
    let changes: Vec<Change> = changes.collect::<Option<_>>()?;
    let needed: Vec<Change> = changes.into_iter().filter(Change::is_needed).collect();
    (!needed.is_empty()).then_some(needed)
}

/// How a running engine still uses what gpusetup wrote, although nothing of it is left in its files, so that this undo
/// does not change them.
fn still_in_effect(
    host: &Host,
    engine: &dyn Engine,
    receipt: &Receipt,
    changes: &[Change],
) -> Option<String> {
    let is_running = host.is_live() && down::why(host, engine).is_none();
    if !changes.is_empty() || !is_running || !history::is_edited(receipt, engine) {
        return None;
    }
    let service = engine.daemon_service(host)?;
    due::still_runs_with_ours(host, engine, receipt, &service)
}

/// What makes an engine run without what gpusetup has written to its files.
fn restart_without(host: &Host, engine: &dyn Engine, receipt: &Receipt) -> Activation {
    let its = receipt.changes.iter().filter(|c| engine.owns(&c.path));
    let back = its.map(|c| Change {
        before: c.after.clone(),
        after: c.before.clone(),
        ..c.clone()
    });
    engine.activation(host, &back.collect::<Vec<_>>())
}

/// What brings an engine back to the state before: one that does not run is not started, and one
/// that gpusetup started is stopped, unless containers run in it by now.
fn as_before(
    host: &Host,
    engine: &dyn Engine,
    receipt: &Receipt,
    activation: Activation,
) -> Activation {
    if down::why(host, engine).is_some() {
        return activation.at_start(down::NEXT_START);
    }
    if let Some(why) = down::by_another(host, engine) {
        return activation.at_start(&why);
    }
    let Some(service) = engine.daemon_service(host) else {
        return activation;
    };
    if !receipt.has_started(host, &service) || !engine.is_idle(host) {
        return activation;
    }
    Activation::Stop(Activated {
        unit_changes: activation.activated().is_some_and(|of| of.unit_changes),
        service,
        effect: "it did not run before gpusetup started it".into(),
    })
}

/// Leaves each Docker that loses our runtime one of the same name that is plain runc. Returns the files.
pub fn leave_runtime(host: &Host, plan: &mut Plan) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for change in &mut plan.changes {
        if !matches!(change.kind, MergeKind::Json { .. }) {
            continue;
        }
        if let Some(text) = runtime_entry::with_plain_runc(change)? {
            change.after = Some(text);
            change.why = format!("{}; leave a runtime that is plain runc", change.why);
            files.push(change.path.clone());
        }
    }
    plan.changes.retain(Change::is_needed);
    host.ensure_fully_readable()?;
    Ok(files)
}

/// Whether a Docker has a runtime of our runtime's name afterwards: one of another tool that we had taken over, or one
/// that is left.
pub fn keeps_runtime(plan: &Plan) -> bool {
    let mut changes = plan.changes.iter();
    changes.any(|c| {
        matches!(c.kind, MergeKind::Json { .. }) && runtime_entry::has_entry(c.after.as_deref())
    })
}

/// Why a file cannot be reverted.
struct Conflict(EditError);

impl Conflict {
    /// The problem as a line of the message: the file, what is wrong with it, and which part of it is ours.
    fn of_file(&self, done: &Change) -> String {
        let path = done.path.display();
        let (MergeKind::Json { keys } | MergeKind::Toml { keys }) = &done.kind else {
            return format!("{path}: {}", self.0);
        };
        if matches!(self.0, EditError::Conflict(_)) {
            return format!("{path}: {}", self.0);
        }
        let keys: Vec<String> = keys.iter().map(|k| k.join(".")).collect();
        format!(
            "{path}: {}; what gpusetup set in it is {}",
            self.0,
            keys.join(", ")
        )
    }
}

/// The text that a file should have after the undo; `None` if it should not exist.
fn reverted(
    edits: &MovedEdits,
    done: &Change,
    current: Option<&str>,
) -> Result<Option<String>, Conflict> {
    let wanted = edits.to_take_out(done, current);
    let done = &wanted;
    let text = match revert(done, current) {
        Ok(text) => text,
        Err(e) => match current.and_then(|text| edits.taken_out(&done.path, text, true)) {
            // A file that we wrote and to which a user has added something.
            Some(text) if done.kind == MergeKind::Own => Some(text),
            Some(text) => revert(done, Some(&text)).map_err(Conflict)?,
            None => return Err(Conflict(e)),
        },
    };
    let Some(text) = text else { return Ok(None) };
    // Settings that were moved within the file, to another schema or under another name.
    let text = edits.taken_out(&done.path, &text, true).unwrap_or(text);
    let is_gone = done.kind == MergeKind::Own && done.before.is_none() && done.after.is_some();
    Ok(Some(text).filter(|text| !is_gone || !moved_edits::is_empty(text)))
}

/// Changes to files that an engine reads and that gpusetup did not write, if a user has copied our settings there.
fn moved(
    host: &Host,
    engines: &[Box<dyn Engine>],
    edits: &MovedEdits,
    known: &[Change],
) -> Vec<Change> {
    let mut changes = BTreeMap::<PathBuf, Change>::new();
    for path in leftovers::files(host, engines) {
        // Two names of one file are one change.
        let mut others = known.iter().chain(changes.values());
        if others.any(|c: &Change| is_same(host, &c.path, &path)) {
            continue;
        }
        let read = engines.iter().find_map(|e| e.text_of(&path));
        // A file that cannot be read is named at the end of the undo.
        let text = match read {
            Some(text) => Some(text.to_owned()),
            None => host.text(&path).ok().flatten(),
        };
        let Some(text) = text else { continue };
        if let Some(after) = edits.taken_out(&path, &text, false) {
            changes.insert(
                path.clone(),
                Change {
                    path,
                    before: Some(text),
                    after: Some(after),
                    mode: 0o644,
                    why: "take our part out, which was copied there".into(),
                    kind: MergeKind::Own,
                },
            );
        }
    }
    changes.into_values().collect()
}

fn is_same(host: &Host, one: &Path, other: &Path) -> bool {
    let real = |path: &Path| host.root().canonicalize(path).ok();
    one == other || real(one).is_some() && real(one) == real(other)
}

/// The current text of a change's file. `known` is that of the engine that has read it, if there is one.
fn current(host: &Host, known: Option<&str>, change: &Change) -> Result<Option<String>, Error> {
    match known.filter(|_| change.kind != MergeKind::Link) {
        Some(text) => Ok(Some(text.to_owned())),
        None => change_io::current(host, change),
    }
}
