//! Renders the documents of `--json` for plans, runs and failures.

use serde_json::{Value, json};

use super::mask;
use crate::error::Error;
use crate::error::still_down::StillDown;
use crate::model::change::Change;
use crate::transaction::ended::Ended;
use crate::transaction::plan::Plan;

/// The document of a plan or of a run that ended well.
pub fn document(plan: Option<&Plan>, changed: bool, ended: &Ended, restart: bool) -> Value {
    let none = Vec::new();
    let changes = plan.map_or(&none, |p| &p.changes);
    let header = |c: &Change, there: bool| {
        if there {
            c.path.display().to_string()
        } else {
            String::new()
        }
    };
    let diff: Vec<Value> = changes
        .iter()
        .map(|c| {
            json!({
                "before_header": header(c, c.before.is_some()),
                "after_header": header(c, c.after.is_some()),
                "before": mask(c.before.as_deref()),
                "after": mask(c.after.as_deref()),
            })
        })
        .collect();
    json!({
        "schema": 1,
        "changed": changed,
        "restart_required": if restart { Vec::new() } else { plan.map(Plan::service_names).unwrap_or_default() },
        "warnings": plan.map(|p| p.warnings.clone()).unwrap_or_default(),
        "unchecked": plan.map(|p| &p.unchecked).into_iter().flatten().collect::<Vec<_>>(),
        "foreign": plan.map(|p| &p.foreign),
        "skipped": plan.map(|p| &p.skipped).into_iter().flatten().collect::<Vec<_>>(),
        "diff": diff,
        "verified": ended.outcome.verified,
        "not_verified": ended.outcome.engines_not_verified(),
        "not_verified_why": ended.outcome.not_verified,
        "containers_down": ended.down,
        "msg": ended.message(),
        "fix": (!ended.fixes().is_empty()).then(|| ended.fixes().join("; ")),
        "left": ended.left.iter().chain(&ended.left_earlier).collect::<Vec<_>>(),
    })
}

/// The document of a run that failed.
pub fn failure(error: &Error) -> Value {
    let (left, changed) = match error {
        Error::RollbackIncomplete { left, .. } => (left.clone(), !left.is_empty()),
        Error::StillNamed { undone, places } => (places.clone(), *undone),
        _ => (Vec::new(), false),
    };
    let down: &[StillDown] = match error {
        Error::ContainersDown { down, .. } => down,
        _ => &[],
    };
    json!({
        "schema": 1,
        "changed": changed,
        "failed": true,
        "msg": error.to_string(),
        "fix": error.fix(),
        "left": left,
        "containers_down": down,
        "exit_code": error.exit().number(),
    })
}
