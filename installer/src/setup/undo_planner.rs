//! Plans `undo`: what we added is removed, what the user changed since stays.

use crate::edit::revert::revert;
use crate::engines::activation::{Activated, Activation};
use crate::engines::engine::Engine;
use crate::engines::{self, down};
use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, ChangeVerb, MergeKind};
use crate::model::toolkit_traces::OtherToolkits;
use crate::transaction::change_io;
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;

/// The plan of an undo; `None` if gpusetup has changed nothing here.
pub fn plan(host: &Host) -> Result<Option<(Plan, Receipt)>, Error> {
    let Some(receipt) = Receipt::load(host)? else {
        return Ok(None);
    };
    let detected = engines::detect(host);
    let mut changes = Vec::new();
    let mut conflicts = Vec::new();
    for done in receipt.changes.iter().rev() {
        let current = current(host, &detected, done)?;
        match revert(done, current.as_deref()) {
            Ok(after) => changes.push(Change {
                before: current,
                after,
                why: match done.verb() {
                    ChangeVerb::Create => "was not there before",
                    ChangeVerb::Remove => "was there before",
                    ChangeVerb::Edit => "take our part out",
                }
                .into(),
                ..done.clone()
            }),
            Err(e) => conflicts.push(format!("{}: {e}", done.path.display())),
        }
    }
    if !conflicts.is_empty() {
        return Err(Error::ChangedSince(conflicts));
    }
    changes.retain(Change::is_needed);
    let engines = detected
        .into_iter()
        .map(|engine| {
            let its: Vec<Change> = changes
                .iter()
                .filter(|c| engine.owns(&c.path))
                .cloned()
                .collect();
            let activation = as_before(host, &*engine, &receipt, engine.activation(host, &its));
            (engine, activation)
        })
        .filter(|(_, activation)| *activation != Activation::None)
        .collect();
    host.ensure_fully_readable()?;
    let plan = Plan {
        changes,
        engines,
        wanted: None,
        gpus: 0,
        warnings: receipt.remark().into_iter().collect(),
        unchecked: receipt.unchecked.clone(),
        foreign: OtherToolkits::default(),
    };
    Ok(Some((plan, receipt)))
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
        return activation.at_start();
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

/// The current text of a change's file, from the engine that has read it, if there is one.
fn current(
    host: &Host,
    engines: &[Box<dyn Engine>],
    change: &Change,
) -> Result<Option<String>, Error> {
    let known = engines.iter().find_map(|e| e.text_of(&change.path));
    match known.filter(|_| change.kind != MergeKind::Link) {
        Some(text) => Ok(Some(text.to_owned())),
        None => change_io::current(host, change),
    }
}
