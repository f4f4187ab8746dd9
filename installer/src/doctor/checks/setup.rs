//! Checks of gpusetup's own setup: whether there is one, and whether it is still intact.

use std::path::Path;

use gpu_host::distro;
use gpu_inject::driver_params::PARAMS_MASK;
use gpu_inject::generate::inventory_store;

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::engine_state::{EngineState, SetUp};
use crate::doctor::engine_states;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::engines::docker::drop_in;
use crate::error::invocation::Invocation;
use crate::model::change::Change;
use crate::model::setup_options::SetupOptions;
use crate::setup::leftovers;
use crate::transaction::journal::Journal;
use crate::transaction::lock;
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

pub const REMEDIES: Remedies = &[("not-set-up", set_up), ("programs-gone", come_back)];

const HOOK: &str = "/usr/bin/gpu-container-hook";

/// Engines in which no way to GPUs works, and in which somebody will miss it. What became of an engine that a run has set
/// up is told by the checks of its parts.
fn without_way<'a>(look: &'a HostFacts) -> impl Iterator<Item = &'a EngineState> {
    // A user with an engine of their own sets up that one; the system's is root's.
    let has_own = look.engines().iter().any(|e| e.is_of_user());
    let states = engine_states::all(look).iter();
    states.filter(move |state| {
        let is_new = look.engine(&state.name).is_some_and(|engine| {
            look.was_wanted(engine).is_none() && engine.is_of_user() == has_own
        });
        is_new && state.is_missed && state.set_up == SetUp::Not
    })
}

fn not_set_up(look: &HostFacts) -> Option<String> {
    look.loaded()?;
    let findings = without_way(look).map(|state| {
        let lacks = state.ways.iter().filter_map(|way| way.lacks.as_deref());
        let lacks: Vec<&str> = lacks.collect();
        format!("{}: {}", state.name, lacks.join(", "))
    });
    evidence(findings.collect())
}

/// Names the engine if the others are set up.
fn set_up(look: &HostFacts, usual: Remedy) -> Remedy {
    let names: Vec<&str> = without_way(look).map(|state| state.name.as_str()).collect();
    let mut states = engine_states::all(look).iter();
    let others = states.any(|s| matches!(s.set_up, SetUp::Whole | SetUp::Partly));
    match names.as_slice() {
        [name] if others => usual.by_ours(Invocation::InstallEngineAsRoot(name)),
        _ => usual,
    }
}

fn interrupted(look: &HostFacts) -> Option<String> {
    let journal = look.host.state(JOURNAL);
    let is_there = look.exists(&journal);
    // A run that is going on has a journal, too.
    let is_over = || lock::ensure_free(look.host).is_ok();
    (is_there && is_over()).then(|| format!("{} is there", journal.display()))
}

fn programs_gone(look: &HostFacts) -> Option<String> {
    let options = SetupOptions::default();
    let dir = options.names_dir.display().to_string();
    let programs = [options.runtime_path.display().to_string(), HOOK.into(), dir];
    let gone = programs.into_iter().filter(|program| !look.exists(program));
    let findings = gone.filter_map(|program| {
        let file = look.file_naming(&program)?;
        Some(format!("{program}, which {} names", file.display()))
    });
    evidence(findings.collect())
}

/// Without a receipt there is nothing that undo would take back.
fn come_back(look: &HostFacts, usual: Remedy) -> Remedy {
    if look.receipt().is_some() {
        return usual;
    }
    usual
        .in_words("Install the package again; or take out of that file what names it.")
        .by_any(None)
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
    let stored = [inventory_store::PATH, PARAMS_MASK];
    let is_stored = |c: &&Change| stored.iter().any(|s| c.path == Path::new(s));
    // Before a setup nothing has written them.
    let is_set_up = look.receipt().is_some();
    let stale = look
        .described()
        .iter()
        .filter(|c| is_stored(c) && (is_set_up || c.before.is_some()));
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
    // Read for its notes: root's receipt may be one that this user may not read.
    look.receipt();
    let receipt = Receipt::load(look.host).err();
    let journal = Journal::load(look.host).err();
    let errors = receipt.iter().chain(&journal);
    evidence(
        errors
            .filter_map(|e| look.invalid(Err::<(), _>(e)))
            .collect(),
    )
}

fn unsupported(look: &HostFacts) -> Option<String> {
    distro::detect(look.host.root()).unsupported
}
