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

use crate::doctor::checks::check::{Check, Checks};
use crate::doctor::remedy::{Fit, Remedies};

const TOPICS: [Checks; 18] = [
    driver::CHECKS,
    fabric::CHECKS,
    devices::CHECKS,
    cdi::CHECKS,
    docker::CHECKS,
    docker_kinds::CHECKS,
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

const REMEDIES: [Remedies; 14] = [
    driver::REMEDIES,
    fabric::REMEDIES,
    devices::REMEDIES,
    cdi::REMEDIES,
    docker::REMEDIES,
    docker_kinds::REMEDIES,
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
pub fn remedy_of(id: &str) -> Option<Fit> {
    let mut all = REMEDIES
        .iter()
        .flat_map(|r| r.iter())
        .chain(setup::REMEDIES);
    all.find(|(name, _)| *name == id).map(|(_, fit)| *fit)
}
