//! Plans what a run does with an engine's default runtime: makes ours the default, leaves it as earlier runs made it, or
//! takes it back.

use crate::edit::meaning::TomlMeaning;
use crate::edit::{json, revert};
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::edit_error::EditError;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::{DefaultRequest, DefaultRuntime, SetupOptions};
use crate::transaction::change_io;
use crate::transaction::receipt::Receipt;

/// By which key Docker, containerd and CRI-O name their default runtime.
const KEYS: [&str; 3] = ["default-runtime", "default_runtime_name", "default_runtime"];

/// What the run does with the engine's default runtime; `None` if ours neither was nor becomes the default.
pub fn state(
    receipt: &Receipt,
    engine: &dyn Engine,
    request: DefaultRequest,
) -> Option<DefaultRuntime> {
    let options = receipt.asked.get(&engine.facts().name);
    // An older gpusetup recorded "not the default" at a later run without the flag, and left the key in the file.
    let is_ours = options.is_some_and(|o| o.default_runtime)
        || of_engine(receipt, engine).any(|change| keys(change).next().is_some());
    match request {
        DefaultRequest::Set => Some(DefaultRuntime::Set),
        DefaultRequest::Keep if is_ours => Some(DefaultRuntime::Kept),
        DefaultRequest::TakeBack if is_ours => Some(DefaultRuntime::TakenBack),
        DefaultRequest::Keep | DefaultRequest::TakeBack => None,
    }
}

/// What the user should know about it.
pub fn remark(engine: &dyn Engine, state: DefaultRuntime) -> Option<String> {
    let (name, ours) = (&engine.facts().name, SetupOptions::default().runtime_name);
    match state {
        DefaultRuntime::Set => None,
        DefaultRuntime::Kept => Some(format!(
            "{name}: runtime {ours:?} stays the default, as an earlier run has made it; {} takes that back",
            Invocation::NoDefaultRuntime
        )),
        DefaultRuntime::TakenBack => Some(format!(
            "{name}: runtime {ours:?} is no longer the default of new containers; those that have its name recorded keep it"
        )),
    }
}

fn of_engine<'a>(receipt: &'a Receipt, engine: &'a dyn Engine) -> impl Iterator<Item = &'a Change> {
    let changes = receipt.changes.iter();
    changes.filter(|c| c.after.is_some() && engine.owns(&c.path))
}

/// The keys of a change by which it has made ours the default. A file that is wholly ours has none: it is written anew.
fn keys(change: &Change) -> impl Iterator<Item = &Vec<String>> {
    let keys = match &change.kind {
        MergeKind::Json { keys } | MergeKind::Toml { keys } => keys.as_slice(),
        _ => &[],
    };
    keys.iter().filter(|path| is_default(path))
}

fn is_default(path: &[String]) -> bool {
    path.last().is_some_and(|key| KEYS.contains(&key.as_str()))
}

/// Adds to the engine's changes that the default is what it was before gpusetup.
pub fn take_back(
    host: &Host,
    receipt: &Receipt,
    engine: &dyn Engine,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    for done in of_engine(receipt, engine) {
        let keys: Vec<Vec<String>> = keys(done).cloned().collect();
        if keys.is_empty() {
            continue;
        }
        let planned = changes.iter_mut().find(|c| c.path == done.path);
        let current = match engine.text_of(&done.path) {
            Some(text) => Some(text.to_owned()),
            None => change_io::current(host, done)?,
        };
        let text = planned
            .as_ref()
            .map_or(current.clone(), |change| change.after.clone());
        // A file that is gone names no default.
        let Some(text) = text else { continue };
        let after = match revert::revert_keys(done, &text, &keys) {
            Ok(after) => after,
            // It names another default by now, which is the user's.
            Err(EditError::Conflict(_)) => text.clone(),
            Err(e) => return Err(Error::ChangedSince(vec![still(done, &e.to_string())])),
        };
        if names_ours(&after, &done.kind) {
            let why = "it names our runtime as the default at another place by now";
            return Err(Error::ChangedSince(vec![still(done, why)]));
        }
        if after == text {
            continue;
        }
        let kind = match &done.kind {
            MergeKind::Json { .. } => MergeKind::Json { keys },
            _ => MergeKind::Toml { keys },
        };
        let why = "take the default runtime back".to_owned();
        match planned {
            Some(change) => {
                change.after = Some(after);
                change.why = format!("{}; {why}", change.why);
            }
            None => changes.push(Change {
                path: done.path.clone(),
                before: current,
                after: Some(after),
                mode: done.mode,
                why,
                kind,
            }),
        }
    }
    Ok(())
}

fn still(done: &Change, why: &str) -> String {
    format!("{}: {why}", done.path.display())
}

/// Whether the text names our runtime as the default, at any key path: tools move keys.
fn names_ours(text: &str, kind: &MergeKind) -> bool {
    fn is_there(meaning: &TomlMeaning, ours: &TomlMeaning) -> bool {
        meaning.members().into_iter().flatten().any(|(key, value)| {
            KEYS.contains(&key.as_str()) && value == ours || is_there(value, ours)
        })
    }
    let ours = SetupOptions::default().runtime_name;
    if matches!(kind, MergeKind::Json { .. }) {
        let value = json::parse(text).ok();
        return value.is_some_and(|value| value["default-runtime"] == ours.as_str());
    }
    let ours = TomlMeaning::Text(ours);
    TomlMeaning::of_text(text).is_some_and(|meaning| is_there(&meaning, &ours))
}
