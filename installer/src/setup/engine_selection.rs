//! Selects the engines to set up: all managed engines of this host, or those that the user names.

use gpu_host::distro;
use gpu_inject::generate::{self, inventory_store};

use crate::engines;
use crate::engines::engine::{Engines, Management};
use crate::error::Error;
use crate::error::invocation::Invocation;
use crate::error::unsupported::Unsupported;
use crate::host::Host;
use crate::setup::leftovers;
use crate::transaction::receipt::Receipt;

/// The engines to set up, and remarks: on each unmanaged one, and on what earlier runs wrote for an
/// engine that is not installed any more.
pub fn chosen(
    host: &Host,
    only: &[String],
    receipt: &Receipt,
) -> Result<(Engines, Vec<String>), Error> {
    let mut detected = engines::detect(host);
    let gone = leftovers::without_engine(host, receipt, &detected).into_iter();
    let mut remarks: Vec<String> = gone
        .map(|place| format!("{place}: `{}` takes it out", Invocation::Undo))
        .collect();
    if detected.iter().any(|e| e.is_of_user()) {
        // A user sets up only their own engines; the system's are set up by root.
        let is_root_s = |o: &&String| {
            detected
                .iter()
                .any(|e| e.facts().name == **o && !e.is_of_user())
        };
        if let Some(other) = only.iter().find(is_root_s) {
            let engine = other.clone();
            return Err(Unsupported::EngineOfSystem { engine }.into());
        }
        detected.retain(|e| e.is_of_user());
    }
    let names: Vec<String> = detected.iter().map(|e| e.facts().name.clone()).collect();
    if let Some(missing) = only.iter().find(|o| !names.contains(o)) {
        return Err(Unsupported::EngineMissing {
            name: missing.clone(),
            found: names,
        }
        .into());
    }
    if !only.is_empty() {
        detected.retain(|e| only.contains(&e.facts().name));
    }
    if detected.is_empty() {
        let install = distro::detect(host.root()).engine;
        return Err(Unsupported::NoEngine { install }.into());
    }
    for engine in &detected {
        let facts = engine.facts();
        let Management::Unmanaged { why, instead } = &facts.management else {
            continue;
        };
        if only.contains(&facts.name) || detected.iter().all(|e| !e.is_ours()) {
            return Err(Unsupported::Unmanaged {
                engine: facts.name.clone(),
                why: why.clone(),
                instead: instead.clone(),
            }
            .into());
        }
        remarks.push(format!("{} is left alone: {why}; {instead}", facts.name));
    }
    detected.retain(|e| e.is_ours());
    Ok((detected, remarks))
}

/// Fails if the files that the engines of all users share are missing: only root can write them.
pub fn ensure_roots_files(host: &Host) -> Result<(), Error> {
    let files = [generate::SPEC_PATH, inventory_store::PATH];
    match files.into_iter().find(|f| !host.root().exists(f)) {
        None => Ok(()),
        Some(missing) => Err(Unsupported::NotSetUpByRoot { missing }.into()),
    }
}
