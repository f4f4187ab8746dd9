//! What a user's plan leaves open because only root may ask for it.

use crate::engines::engine::DaemonState;
use crate::host::Host;
use crate::setup::history;
use crate::transaction::plan::Plan;

/// What of the plan only root may know, for a user.
pub fn of(host: &Host, plan: &Plan) -> Vec<String> {
    if host.user().is_none() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for (engine, activation) in &plan.engines {
        let facts = engine.facts();
        if activation.stops_unknown().is_some() {
            all.push(format!("{}: which containers stop", facts.name));
        } else if let DaemonState::Unknown(_) = facts.daemon {
            all.push(format!("{}: whether it runs", facts.name));
        }
    }
    let is_of_system = plan.engines.iter().any(|(e, _)| !e.is_of_user());
    if is_of_system && history::roots_record(host).is_err() {
        all.push("what earlier runs by root have done".into());
    }
    all
}
