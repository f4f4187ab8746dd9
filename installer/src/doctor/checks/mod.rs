//! All checks, with one file for each topic. A check looks for one problem of the table and
//! returns what it saw.

mod cdi;
mod cgroups;
pub mod check;
mod containerd;
mod crio;
mod devices;
mod docker;
mod docker_kinds;
mod driver;
mod engine_service;
mod fabric;
mod jetson;
mod kubernetes;
mod packages;
mod podman;
mod policy;
mod repositories;
mod security;
mod setup;
mod wsl;

use crate::doctor::catalog::Problem;
use crate::doctor::checks::check::{Check, Checks};
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Fit, Remedies, Remedy};

const TOPICS: [Checks; 19] = [
    driver::CHECKS,
    fabric::CHECKS,
    devices::CHECKS,
    cdi::CHECKS,
    docker::CHECKS,
    docker_kinds::CHECKS,
    engine_service::CHECKS,
    containerd::CHECKS,
    crio::CHECKS,
    podman::CHECKS,
    kubernetes::CHECKS,
    cgroups::CHECKS,
    security::CHECKS,
    wsl::CHECKS,
    jetson::CHECKS,
    repositories::CHECKS,
    packages::CHECKS,
    policy::CHECKS,
    setup::CHECKS,
];

/// Every check with its id.
pub fn all() -> impl Iterator<Item = (&'static str, Check)> {
    TOPICS.iter().flat_map(|t| t.iter().copied())
}

/// The check for that id.
pub fn of(id: &str) -> Option<Check> {
    all().find(|(name, _)| *name == id).map(|(_, check)| check)
}

const REMEDIES: [Remedies; 16] = [
    driver::REMEDIES,
    jetson::REMEDIES,
    fabric::REMEDIES,
    devices::REMEDIES,
    cdi::REMEDIES,
    docker::REMEDIES,
    docker_kinds::REMEDIES,
    engine_service::REMEDIES,
    containerd::REMEDIES,
    crio::REMEDIES,
    podman::REMEDIES,
    kubernetes::REMEDIES,
    cgroups::REMEDIES,
    security::REMEDIES,
    packages::REMEDIES,
    policy::REMEDIES,
];

/// What fits the remedy for that id to the host, if it depends on the host.
fn remedy_of(id: &str) -> Option<Fit> {
    let mut all = REMEDIES
        .iter()
        .flat_map(|r| r.iter())
        .chain(setup::REMEDIES);
    all.find(|(name, _)| *name == id).map(|(_, fit)| *fit)
}

/// What to do about a problem that this host has.
pub fn remedy(problem: &Problem, look: &HostFacts) -> Remedy {
    let usual = Remedy::of_table(problem);
    match remedy_of(&problem.id) {
        Some(fit) => fit(look, usual),
        None => usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::catalog;

    /// Rows whose command is the same on each host that has the problem: it names nothing of the host, or only what the
    /// check looks at.
    const SAME_EVERYWHERE: [&str; 22] = [
        "bpf-hidden",
        "cdi-stale",
        "cdi-two-writers",
        "containerd-unread",
        "dev-char",
        "devices-missing",
        "distro-unsupported",
        "docker-snap",
        "docker-two",
        "driver-mismatch",
        "drop-in-leftover",
        "engine-not-restarted",
        "gpu-left-out",
        "hook-direct",
        "interrupted",
        "inventory-stale",
        "k3s-template",
        "nested",
        "no-cgroups",
        "nouveau-bound",
        "packages-half",
        "policy-csv",
    ];

    /// A command of the table is what is usual. What it names must have been seen here before it is advised.
    #[test]
    fn a_command_is_fitted_to_the_host_or_the_same_on_each() {
        let mut unfitted: Vec<&str> = catalog::problems()
            .iter()
            .filter(|p| p.checked && p.command.is_some() && remedy_of(&p.id).is_none())
            .map(|p| p.id.as_str())
            .collect();
        unfitted.sort_unstable();
        assert_eq!(unfitted, SAME_EVERYWHERE);
        for (id, _) in REMEDIES
            .iter()
            .flat_map(|r| r.iter())
            .chain(setup::REMEDIES)
        {
            assert!(of(id).is_some(), "a remedy for {id}, and no check");
        }
    }
}
