//! Checks of a Jetson: the CSV lists that say what containers get.

use crate::doctor::checks::check::Checks;
use crate::doctor::facts::HostFacts;
use crate::doctor::remedy::{Remedies, Remedy};

pub const CHECKS: Checks = &[("jetson-no-lists", no_lists), ("jetson-bad-list", bad_list)];

pub const REMEDIES: Remedies = &[("jetson-no-lists", install)];

fn install(look: &HostFacts, usual: Remedy) -> Remedy {
    usual.by_command_if(look.host.has_program("apt"))
}

fn no_lists(look: &HostFacts) -> Option<String> {
    let release = look.platform().jetson.as_deref()?;
    let dir = &look.policy()?.csv_dir;
    let is_list = |p: &std::path::PathBuf| p.extension().is_some_and(|e| e == "csv");
    (!look.entries(dir).iter().any(is_list))
        .then(|| format!("L4T {release}, and no list in {}", dir.display()))
}

fn bad_list(look: &HostFacts) -> Option<String> {
    look.platform().jetson.as_ref()?;
    let why = look.inventory().err()?.to_string();
    Some(why).filter(|why| why.contains(".csv"))
}
