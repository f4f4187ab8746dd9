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

use crate::doctor::checks::check::{Check, Checks};

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
