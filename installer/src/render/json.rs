//! Renders the documents of `--json` for plans, runs and failures.

use serde_json::{Value, json};

use super::{host_state, mask};
use crate::error::Error;
use crate::error::still_down::StillDown;
use crate::model::change::Change;
use crate::model::host_state::{RestartDue, Whose};
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
        "restarts_due": plan.map(|p| still_due(p, restart)).unwrap_or_default(),
        "engines_down": plan.map(|p| &p.state.down),
        "restarts_not_known": plan.map(|p| &p.state.not_known),
        "interrupted_run": plan.map(|p| &p.state.interrupted),
        "warnings": plan.map(|p| warnings(p, restart)).unwrap_or_default(),
        "unchecked": plan.map(|p| &p.unchecked).into_iter().flatten().collect::<Vec<_>>(),
        "foreign": plan.map(|p| &p.foreign),
        "skipped": plan.map(|p| &p.skipped).into_iter().flatten().collect::<Vec<_>>(),
        "default_runtime": plan.map(|p| &p.default_runtime),
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

/// Restarts that are due. A run that restarts has done its own.
fn still_due(plan: &Plan, restarted: bool) -> Vec<&RestartDue> {
    let due = plan.state.due.iter();
    due.filter(|d| !restarted || d.whose == Whose::Theirs || d.command.is_none())
        .collect()
}

/// The plan's warnings, and what is due: a caller that knows none of the fields above still shows it.
fn warnings(plan: &Plan, restarted: bool) -> Vec<String> {
    let warnings = plan.warnings.iter().cloned();
    warnings
        .chain(host_state::remarks(&plan.state))
        .chain(host_state::actions(&plan.state, restarted, &[]))
        .collect()
}

/// The document of a run that failed.
pub fn failure(error: &Error) -> Value {
    let (left, changed) = match error {
        Error::RollbackIncomplete { left, .. } => (left.clone(), !left.is_empty()),
        Error::StillNamed { undone, places } => (places.clone(), *undone),
        Error::TakenOut { .. } => (Vec::new(), true),
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
