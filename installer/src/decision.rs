//! What was decided, a line each, for the log.

use crate::model::change::Change;
use crate::plan::Plan;

/// What a run means to do, once nothing but the user's word is missing.
pub fn plan(plan: &Plan, restart: bool) {
    if plan.is_empty() {
        log::info!("nothing to do");
    }
    for change in &plan.changes {
        let Change { path, why, .. } = change;
        let verb = match (&change.before, &change.after) {
            (_, None) => "remove",
            (None, _) => "create",
            _ => "edit",
        };
        log::info!("plan: {verb} {}: {why}", path.display());
    }
    for (engine, activation) in &plan.engines {
        let name = &engine.facts().name;
        match &activation.service {
            Some(service) if restart => {
                let verb = if activation.reload {
                    "reload"
                } else {
                    "restart"
                };
                log::info!(
                    "plan: {verb} {} for {name}: {}",
                    service.name,
                    activation.effect
                );
            }
            Some(service) => log::info!("plan: leave {} running as it is", service.name),
            None => log::info!("plan: {name} needs no restart"),
        }
    }
}
