//! Checks of gpusetup's own setup: whether there is one, and whether it is still intact.

use std::path::Path;

use gpu_host::distro;
use gpu_inject::driver_params::PARAMS_MASK;
use gpu_inject::generate::SPEC_PATH;
use gpu_inject::generate::inventory_store;

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::facts::HostFacts;
use crate::engines::docker::drop_in;
use crate::model::setup_options::SetupOptions;
use crate::setup::leftovers;
use crate::transaction::journal::Journal;
use crate::transaction::receipt::{JOURNAL, Receipt};

pub const CHECKS: Checks = &[
    ("not-set-up", not_set_up),
    ("interrupted", interrupted),
    ("programs-gone", programs_gone),
    ("drop-in-leftover", leftover),
    ("engine-gone", engine_gone),
    ("inventory-stale", inventory),
    ("receipt-broken", receipt),
    ("distro-unsupported", unsupported),
];

const HOOK: &str = "/usr/bin/gpu-container-hook";

fn not_set_up(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    let engines: Vec<String> = look
        .engines()
        .iter()
        .filter(|e| e.is_ours() && e.facts().config.is_some() || e.facts().name == "podman")
        .map(|e| e.facts().name.clone())
        .collect();
    if engines.is_empty()
        || look
            .host
            .root()
            .symlink_metadata(look.host.state("receipt.json"))
            .is_ok()
    {
        return None;
    }
    // Our spec is there, so the host was set up and only the receipt was lost.
    if look.exists(SPEC_PATH) {
        return None;
    }
    // A host that another toolkit serves is set up too.
    let foreign = look.foreign();
    (!foreign.serves()).then(|| {
        let engines = engines.join(", ");
        format!("a driver is loaded, {engines} without a runtime, and no CDI spec is there")
    })
}

fn interrupted(look: &HostFacts) -> Option<String> {
    let journal = look.host.state(JOURNAL);
    look.exists(&journal)
        .then(|| format!("{} is there", journal.display()))
}

fn programs_gone(look: &HostFacts) -> Option<String> {
    let receipt = look.receipt()?;
    let options = SetupOptions::default();
    let names = |text: &str| {
        receipt
            .changes
            .iter()
            .any(|c| c.after.as_ref().is_some_and(|a| a.contains(text)))
    };
    let programs = [options.runtime_path.display().to_string(), HOOK.to_owned()];
    let gone = programs.into_iter().filter(|p| names(p) && !look.exists(p));
    let mut findings: Vec<String> = gone.collect();
    let dir = options.names_dir;
    if names(&dir.display().to_string()) && !look.exists(&dir) {
        findings.push(dir.display().to_string());
    }
    evidence(findings)
}

fn leftover(look: &HostFacts) -> Option<String> {
    let text = look.text(drop_in::PATH)?;
    let is_ours = text.starts_with("# Written by gpusetup");
    // A receipt that cannot be read still means that something is set up.
    let is_set_up = !matches!(Receipt::load(look.host), Ok(None));
    let is_used = is_set_up || look.exists(SetupOptions::default().names_dir);
    (is_ours && !is_used).then(|| format!("{} is there, and nothing it leads to", drop_in::PATH))
}

fn engine_gone(look: &HostFacts) -> Option<String> {
    let receipt = look.receipt()?;
    evidence(leftovers::without_engine(
        look.host,
        receipt,
        look.engines(),
    ))
}

fn inventory(look: &HostFacts) -> Option<String> {
    look.receipt()?;
    let stored = [inventory_store::PATH, PARAMS_MASK];
    let stale = look
        .described()
        .iter()
        .filter(|c| stored.iter().any(|s| c.path == Path::new(s)));
    evidence(
        stale
            .map(|c| {
                let how = if c.before.is_none() {
                    "is not there"
                } else {
                    "is not of this driver"
                };
                format!("{} {how}", c.path.display())
            })
            .collect(),
    )
}

fn receipt(look: &HostFacts) -> Option<String> {
    let receipt = Receipt::load(look.host).err();
    let journal = Journal::load(look.host).err();
    evidence(
        receipt
            .into_iter()
            .chain(journal)
            .map(|e| e.to_string())
            .collect(),
    )
}

fn unsupported(look: &HostFacts) -> Option<String> {
    distro::detect(look.host.root()).unsupported
}
