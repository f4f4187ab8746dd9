//! `gpusetup doctor`: finds known problems on the host or in a program's error message.
//!
//! problems.toml lists the problems. `checks` looks for them on the host, with one file for each
//! topic. `explain` recognises them by their messages. `fix` repairs the safe ones through the
//! same transaction as install.

pub mod catalog;
pub mod checks;
mod engine_facts;
mod engine_state;
mod engine_states;
pub mod explain;
mod fact;
pub mod facts;
pub mod fix;
mod listed;
#[cfg(test)]
mod page;
mod remedy;
pub mod render;
mod rpm;
mod spec_files;
mod ways;

use catalog::Problem;
use engine_state::EngineState;
use facts::HostFacts;
use remedy::Remedy;

use crate::host::{Host, not_known};

/// A problem that this host has.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The problem.
    pub problem: &'static Problem,
    /// What the check saw on this host.
    pub evidence: String,
    /// What to do about it here.
    pub remedy: Remedy,
}

/// The result of all checks on a host.
#[derive(Debug, Default)]
pub struct Examined {
    /// Each engine, and whether its containers get GPUs.
    pub engines: Vec<EngineState>,
    /// Whether a driver is loaded.
    pub has_driver: bool,
    /// Whether a user asked, who may not know everything.
    pub is_without_root: bool,
    /// The problems found, the worst first, otherwise in the table's order.
    pub findings: Vec<Finding>,
    /// Ids of problems that are a part of what the engines' states say, and so are not listed.
    pub implied: Vec<&'static str>,
    /// Ids of checks that found nothing and could read everything they look at.
    pub passed: Vec<&'static str>,
    /// Checks that found nothing but could not read everything.
    pub not_looked: Vec<NotLooked>,
    /// Why something could not be read, so that checks may have missed something.
    pub unread: Option<String>,
    /// A short summary of the host: `driver 580.65.06, 2 GPUs; docker, podman`.
    pub summary: String,
}

/// A check that could not read what it looks at: whether the problem is there is unknown.
#[derive(Clone, Debug)]
pub struct NotLooked {
    /// Id of the problem that the check looks for.
    pub id: &'static str,
    /// What could not be read.
    pub why: String,
}

/// Looks for every problem.
pub fn examine(host: &Host) -> Examined {
    examine_facts(&HostFacts::new(host))
}

/// The same, for facts that are used afterwards.
pub fn examine_facts(look: &HostFacts) -> Examined {
    let mut findings = Vec::new();
    let mut implied = Vec::new();
    let mut passed = Vec::new();
    let mut not_looked = Vec::new();
    for problem in catalog::problems().iter().filter(|p| p.checked) {
        let id = problem.id.as_str();
        let Some(check) = checks::of(id) else {
            continue;
        };
        let (evidence, failed) = look.watched(|look| check(look));
        match (evidence, failed.into_iter().next()) {
            (Some(_), _) if !listed::is_listed(look, id) => implied.push(id),
            (Some(evidence), _) => findings.push(Finding {
                problem,
                evidence,
                remedy: checks::remedy(problem, look),
            }),
            (None, Some(failed)) => not_looked.push(NotLooked {
                id,
                why: failed.error,
            }),
            (None, None) => passed.push(id),
        }
    }
    findings.sort_by_key(|f| f.problem.severity);
    Examined {
        engines: engine_states::all(look).to_vec(),
        has_driver: look.loaded().is_some() || look.loaded_version().is_some(),
        is_without_root: look.host.user().is_some(),
        findings,
        implied,
        passed,
        not_looked,
        unread: match look.host.user() {
            Some(_) => Some("run it with sudo, for what only root may read".into()),
            None => look.host.root().trouble(),
        },
        summary: summary(look),
    }
}

/// Whether this host has a problem.
pub enum Here {
    /// The host has it.
    Confirmed {
        /// What the check saw.
        evidence: String,
        /// What to do about it here.
        remedy: Remedy,
    },
    /// The check found nothing, but could not read everything, for this reason.
    CouldNotLook(String),
    /// The check found nothing.
    NotSeen,
    /// There is no check for this problem.
    NoCheck,
}

/// Looks for one problem on this host.
pub fn confirm(host: &Host, problem: &Problem) -> Here {
    let look = &HostFacts::new(host);
    let Some(check) = checks::of(&problem.id) else {
        return Here::NoCheck;
    };
    let (evidence, failed) = look.watched(|look| check(look));
    match (evidence, failed.into_iter().next()) {
        (Some(evidence), _) => Here::Confirmed {
            evidence,
            remedy: checks::remedy(problem, look),
        },
        (None, Some(failed)) => Here::CouldNotLook(not_known::why_not_known(host, &failed.error)),
        (None, None) => Here::NotSeen,
    }
}

fn summary(look: &HostFacts) -> String {
    let driver = match look.inventory() {
        Ok(inventory) => match (&inventory.driver, inventory.gpus.len()) {
            (Some(driver), gpus) => {
                let version = match driver.version.as_str() {
                    "" => "driver".to_owned(),
                    version => format!("driver {version}"),
                };
                format!("{version}, {gpus} GPU{}", if gpus == 1 { "" } else { "s" })
            }
            (None, _) => "no driver loaded".into(),
        },
        Err(_) => "the driver cannot be looked at".into(),
    };
    let names: Vec<&str> = look
        .engines()
        .iter()
        .map(|e| e.facts().name.as_str())
        .collect();
    match names.as_slice() {
        [] => format!("{driver}; no engine"),
        names => format!("{driver}; {}", names.join(", ")),
    }
}
