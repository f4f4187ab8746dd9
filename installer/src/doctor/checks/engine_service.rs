//! Checks of the engines' services: whether they fail, and whether they run with their files as they are. Only a running
//! host can tell.

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::checks::docker;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::model::host_state::{EngineDown, Whose};
use crate::setup::host_state;

pub const CHECKS: Checks = &[
    ("engine-down", down),
    ("engine-not-restarted", not_restarted),
];

pub const REMEDIES: Remedies = &[("engine-down", read_log)];

fn all_down(look: &HostFacts) -> impl Iterator<Item = EngineDown> {
    let engines = look.engines().iter();
    engines.filter_map(|e| host_state::down(look.host, &**e))
}

/// The log of the service that fails, and of no other.
fn read_log(look: &HostFacts, usual: Remedy) -> Remedy {
    if !look.has_systemd() {
        return usual.by_any(None);
    }
    let units: Vec<String> = all_down(look)
        .map(|d| format!("-u {}", d.service))
        .collect();
    usual.by(format!("journalctl {} -n 50 --no-pager", units.join(" ")))
}

fn down(look: &HostFacts) -> Option<String> {
    evidence(
        all_down(look)
            .map(|d| format!("{} ({}): {}", d.engine, d.service, d.why))
            .collect(),
    )
}

fn not_restarted(look: &HostFacts) -> Option<String> {
    let receipt = look.receipt();
    let mut findings = Vec::new();
    for engine in look.engines() {
        // That check has a row of its own for the same thing.
        if engine.facts().name == "docker" && docker::not_restarted(look).is_some() {
            continue;
        }
        let due = look.known(host_state::due(look.host, &**engine, receipt));
        findings.extend(due.filter(|d| d.whose == Whose::Ours));
    }
    let findings = findings.iter();
    evidence(
        findings
            .map(|due| format!("{} ({}): {}", due.engine, due.service, due.why))
            .collect(),
    )
}
