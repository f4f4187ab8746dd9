//! `doctor --fix`: plans the repair of safe problems. The plan is carried out like that of install.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gpu_host::DeviceNode;
use gpu_inject::generate::{self, host_files};

use super::Finding;
use crate::doctor::catalog;
use crate::doctor::facts::HostFacts;
use crate::engines::activation::Activation;
use crate::engines::docker::drop_in;
use crate::engines::engine::{self, Engines};
use crate::engines::{self};
use crate::error::Error;
use crate::host::Host;
use crate::model::change::{Change, MergeKind};
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

/// The plan for the safe findings; if `ids` is not empty, only for those of them.
pub fn plan(host: &Host, findings: &[Finding], ids: &[String]) -> Result<Mending, Error> {
    let is_wanted =
        |f: &&Finding| f.problem.safe && (ids.is_empty() || ids.contains(&f.problem.id));
    let wanted: Vec<&str> = findings
        .iter()
        .filter(is_wanted)
        .map(|f| f.problem.id.as_str())
        .collect();
    let has = |some: &[&str]| wanted.iter().any(|w| some.contains(w));
    let look = HostFacts::new(host);
    let inventory = gpu_files::inventory(host)?;
    let mut changes = Vec::new();
    let mut nodes = Vec::new();
    if has(&["devices-missing"]) {
        let missing = host_files::nodes(&inventory)
            .filter(|n| inventory.missing_nodes.contains(&n.host_path))
            .filter(|n| host.root().symlink_metadata(&n.host_path).is_err());
        nodes.extend(missing.cloned());
    }
    if has(&DESCRIBED) {
        let mut described = gpu_files::described(host, &inventory)?;
        described.retain(|c| c.kind != MergeKind::Link);
        if other_toolkits::spec_is_left(host)? {
            described.retain(|c| c.path != Path::new(generate::SPEC_PATH));
        }
        changes.extend(described);
    }
    if has(&["dev-char"]) {
        changes.extend(dev_char::links(host, &inventory)?);
    }
    if has(&["drop-in-leftover"]) {
        changes.extend(without_drop_in(host)?);
    }
    let mut engines: Vec<(String, Vec<Change>)> = Vec::new();
    let mut left = Vec::new();
    if has(&ENGINES) {
        for (engine, wanted) in look.lost() {
            let name = engine.facts().name.clone();
            match wanted {
                Ok(wanted) => engines.push((name, wanted)),
                Err(e) => left.push(format!(
                    "{name}: {e}{}",
                    e.fix().map_or(String::new(), |f| format!("; {f}"))
                )),
            }
        }
    }
    Ok(Mending {
        plan: with_engines(host, &look, changes, &engines, inventory.gpus.len()),
        nodes,
        left,
    })
}

/// Makes the plan with the engines. They are detected again: the plan needs to own them, and
/// `look` only lends its own.
fn with_engines(
    host: &Host,
    look: &HostFacts,
    mut changes: Vec<Change>,
    lost: &[(String, Vec<Change>)],
    gpus: usize,
) -> Plan {
    let mut warnings = Vec::new();
    let mut with: Vec<(Box<dyn engine::Engine>, Activation)> = Vec::new();
    let detected: Engines = if lost.is_empty() {
        Vec::new()
    } else {
        engines::detect(host)
    };
    for engine in detected {
        let Some((_, its)) = lost.iter().find(|(name, _)| *name == engine.facts().name) else {
            continue;
        };
        let activation = engine.activation(host, its);
        if let Some(wanted) = look.was_wanted(&*engine) {
            warnings.extend(engine.consequences(host, &wanted));
        }
        changes.extend(its.iter().cloned());
        with.push((engine, activation));
    }
    changes.retain(Change::is_needed);
    Plan {
        changes,
        engines: with,
        wanted: None,
        gpus,
        warnings,
        unchecked: BTreeSet::new(),
        foreign: OtherToolkits::default(),
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
