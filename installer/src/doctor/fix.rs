//! `doctor --fix`: plans the repair of safe problems. The plan is carried out like that of install.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;
use gpu_inject::generate::{self, host_files};

use super::Finding;
use crate::doctor::catalog;
use crate::doctor::facts::HostFacts;
use crate::engines::docker::drop_in;
use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
use crate::model::host_state::HostState;
use crate::model::toolkit_traces::OtherToolkits;
use crate::setup::{dev_char, gpu_files, other_toolkits};
use crate::transaction::plan::Plan;
use crate::transaction::regenerated;

/// Problems that are repaired by writing the description of the GPUs again.
const DESCRIBED: [&str; 3] = ["cdi-missing", "cdi-stale", "inventory-stale"];
/// Problems that are repaired in the engines' own files.
const ENGINES: [&str; 3] = [
    "docker-no-hook",
    "docker-runtime-unknown",
    "cri-runtime-unknown",
];

/// The repair to be made.
pub struct Mending {
    /// Files and restarts.
    pub plan: Plan,
    /// Device nodes to make before the files are written.
    pub nodes: Vec<DeviceNode>,
    /// Safe problems that cannot be repaired on this host, with the reason.
    pub left: Vec<String>,
}

impl Mending {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.plan.is_empty()
    }

    /// Makes the nodes. Returns true if it made any: the plan must then be made again.
    pub fn make_nodes(&self, host: &Host) -> Result<bool, Error> {
        regenerated::make_nodes(host, &self.nodes)?;
        Ok(!self.nodes.is_empty())
    }
}

/// Refuses unknown ids and those of problems that `--fix` may not repair.
pub fn are_safe(ids: &[String]) -> Result<(), Error> {
    for id in ids {
        match catalog::problem(id) {
            Some(p) if p.safe => {}
            Some(p) => {
                return Err(Error::ProblemNotSafe {
                    id: id.clone(),
                    by_hand: p.fix.clone(),
                });
            }
            None => {
                let safe = catalog::problems().iter().filter(|p| p.safe);
                return Err(Error::NoSuchProblem {
                    id: id.clone(),
                    safe: safe.map(|p| p.id.clone()).collect(),
                });
            }
        }
    }
    Ok(())
}

/// The plan for the safe findings; if `ids` is not empty, only for those among them. It is made from the facts that
/// the checks have read, and takes ownership of their engines. Files that only a check could not read do not prevent
/// the plan, but files that the plan itself needs do.
pub fn plan(facts: HostFacts, findings: &[Finding], ids: &[String]) -> Result<Mending, Error> {
    let (parts, failed) = facts.watched(|facts| parts(facts, findings, ids));
    let parts = parts?;
    if let Some(failed) = failed.into_iter().find(|read| !read.is_denied) {
        return Err(Error::Unread(failed.error));
    }
    Ok(parts.with_engines(facts))
}

/// What a repair consists of, with the engines by their names.
struct Parts {
    changes: Vec<Change>,
    engines: Vec<(String, Vec<Change>)>,
    warnings: Vec<String>,
    gpus: usize,
    nodes: Vec<DeviceNode>,
    left: Vec<String>,
}

fn parts(facts: &HostFacts, findings: &[Finding], ids: &[String]) -> Result<Parts, Error> {
    let host = facts.host;
    let is_wanted =
        |f: &&Finding| f.remedy.is_safe && (ids.is_empty() || ids.contains(&f.problem.id));
    let wanted: Vec<&str> = findings
        .iter()
        .filter(is_wanted)
        .map(|f| f.problem.id.as_str())
        .collect();
    let has = |some: &[&str]| wanted.iter().any(|w| some.contains(w));
    let inventory = facts.inventory().map_err(Clone::clone)?;
    let mut changes = Vec::new();
    let mut nodes = Vec::new();
    if has(&["devices-missing"]) {
        let missing = host_files::nodes(inventory)
            .filter(|n| inventory.missing_nodes.contains(&n.host_path))
            .filter(|n| host.root().symlink_metadata(&n.host_path).is_err());
        nodes.extend(missing.cloned());
    }
    if has(&DESCRIBED) {
        let mut described = gpu_files::described(host, inventory)?;
        described.retain(|c| c.kind != MergeKind::Link);
        if other_toolkits::spec_is_left(host)? {
            described.retain(|c| c.path != Path::new(generate::SPEC_PATH));
        }
        changes.extend(described);
    }
    if has(&["dev-char"]) {
        changes.extend(dev_char::links(host, inventory)?);
    }
    if has(&["drop-in-leftover"]) {
        changes.extend(without_drop_in(host)?);
    }
    let mut engines: Vec<(String, Vec<Change>)> = Vec::new();
    let mut warnings = Vec::new();
    let mut left = Vec::new();
    if has(&ENGINES) {
        for (engine, lost) in facts.lost() {
            let name = engine.facts().name.clone();
            match lost {
                Ok(lost) => {
                    if let Some(wanted) = facts.was_wanted(engine) {
                        warnings.extend(engine.consequences(host, &wanted));
                    }
                    engines.push((name, lost));
                }
                Err(e) => left.push(format!(
                    "{name}: {e}{}",
                    e.fix().map_or(String::new(), |f| format!("; {f}"))
                )),
            }
        }
    }
    Ok(Parts {
        changes,
        engines,
        warnings,
        gpus: inventory.gpus.len(),
        nodes,
        left,
    })
}

impl Parts {
    fn with_engines(self, facts: HostFacts) -> Mending {
        let host = facts.host;
        let Self {
            mut changes,
            engines: mut lost,
            warnings,
            gpus,
            nodes,
            left,
        } = self;
        let mut engines = Vec::new();
        // In the order of the engines, as install has them.
        for engine in facts.into_engines() {
            let of_engine = |(name, _): &(String, _)| *name == engine.facts().name;
            let Some(at) = lost.iter().position(of_engine) else {
                continue;
            };
            let (_, its) = lost.swap_remove(at);
            let activation = engine.activation(host, &its);
            changes.extend(its);
            engines.push((engine, activation));
        }
        changes.retain(Change::is_needed);
        Mending {
            plan: Plan {
                changes,
                engines,
                wanted: None,
                default_runtime: std::collections::BTreeMap::new(),
                gpus,
                warnings,
                unchecked: BTreeSet::new(),
                foreign: OtherToolkits::default(),
                state: HostState::default(),
                skipped: Vec::new(),
                unread: std::collections::BTreeMap::new(),
            },
            nodes,
            left,
        }
    }
}

fn without_drop_in(host: &Host) -> Result<Option<Change>, Error> {
    let path = PathBuf::from(drop_in::PATH);
    let before = host.text(&path)?;
    Ok(before.is_some().then(|| Change {
        path,
        before,
        after: None,
        mode: 0o644,
        why: "it puts a directory that is not there on dockerd's PATH".into(),
        kind: MergeKind::Own,
    }))
}
