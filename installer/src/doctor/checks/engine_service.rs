//! Checks of the engines' services: whether they fail, and whether they run with their files as they are. Only a running
//! host can tell.

use crate::doctor::checks::check::{Checks, evidence};
use crate::doctor::checks::docker;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};
use crate::model::host_state::Whose;
use crate::setup::host_state;

pub const CHECKS: Checks = &[
    ("engine-down", down),
    ("engine-not-restarted", not_restarted),
];

pub const REMEDIES: Remedies = &[("engine-down", read_log)];

fn read_log(look: &HostFacts, usual: Remedy) -> Remedy {
    let engines = look.engines().iter();
    let failing = engines.filter(|e| host_state::down(look.host, &***e).is_some());
    let services = failing.filter_map(|e| e.daemon_service(look.host));
    let commands: Vec<String> = services.filter_map(|s| s.log_command()).collect();
    match commands.as_slice() {
        [] => usual,
        commands => usual.by(commands.join("; ")),
    }
}

fn down(look: &HostFacts) -> Option<String> {
    let engines = look.engines().iter();
    let down = engines.filter_map(|e| host_state::down(look.host, &**e));
    evidence(
        down.map(|d| format!("{} ({}): {}", d.engine, d.service, d.why))
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
