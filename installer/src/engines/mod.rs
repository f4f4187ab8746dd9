//! Container engines: one module for each, behind one trait ([`engine`]).
//!
//! An engine reads files, computes changes and reports; it never writes a file or restarts anything
//! by itself. A run does that, with the engine's changes.

pub mod activation;
mod allowed_way;
pub(crate) mod cdi_versions;
mod clients;
pub(crate) mod containerd;
pub(crate) mod cri;
pub(crate) mod crio;
pub mod dependent;
pub mod docker;
pub mod down;
pub mod engine;
mod k0s;
pub(crate) mod k3s;
mod microk8s;
pub(crate) mod oci_hooks;
pub(crate) mod podman;
pub mod probe_image;
pub mod run_by;
pub(crate) mod selinux;
mod unmanaged;

use self::engine::Engines;
use crate::host::Host;
use crate::host::threads::{self, Work};

/// Where the configuration of any engine can name our programs or request our devices, as shell patterns.
pub fn config_patterns() -> Vec<String> {
    let lists = [
        docker::CONFIG_PATTERNS,
        containerd::CONFIG_PATTERNS,
        k3s::CONFIG_PATTERNS,
        k0s::CONFIG_PATTERNS,
        microk8s::CONFIG_PATTERNS,
        crio::CONFIG_PATTERNS,
        podman::CONFIG_PATTERNS,
        oci_hooks::CONFIG_PATTERNS,
    ];
    let mut patterns: Vec<String> = lists.concat().into_iter().map(str::to_owned).collect();
    patterns.extend(clients::config_patterns());
    patterns
}

/// The same for engines that users run, below their `XDG_CONFIG_HOME`.
pub fn user_config_patterns() -> Vec<&'static str> {
    [docker::USER_CONFIG_PATTERNS, podman::USER_CONFIG_PATTERNS].concat()
}

/// Looks for the engines of one kind.
type Detector = fn(&Host) -> Engines;

/// Every engine of this host, in the order of the plan.
pub fn detect(host: &Host) -> Engines {
    let looks: [Detector; 8] = [
        docker::detect,
        containerd::detect,
        k3s::detect,
        k0s::detect,
        microk8s::detect,
        crio::detect,
        podman::detect,
        clients::detect,
    ];
    // In parallel: most of the time is spent waiting for programs to print their version.
    std::thread::scope(|scope| {
        let looks = looks.map(|look| threads::begin(scope, move || look(host)));
        looks.into_iter().flat_map(Work::end).collect()
    })
}
