//! Renders what a host is due and what does not run on it as sentences, each for a line of its own.

use crate::error::invocation::Invocation;
use crate::model::host_state::{EngineDown, HostState, RestartDue, Whose};
use crate::model::skipped::Skipped;

/// What somebody has to do something about. `restarts` says whether the restarts that gpusetup owes are part of the plan
/// that is shown; `skipped` are engines of which it is said already that they do not run.
pub fn actions(state: &HostState, restarts: bool, skipped: &[Skipped]) -> Vec<String> {
    let interrupted = state.interrupted.iter();
    let interrupted = interrupted.map(|run| {
        format!(
            "Interrupted run: {} ({}); {}.",
            run.what,
            run.journal.display(),
            run.fix
        )
    });
    let is_said = |d: &&EngineDown| skipped.iter().any(|s| s.engine == d.engine);
    let down = state.down.iter().filter(|d| !is_said(d));
    let down = down.map(|d| format!("Engine down: {}: {}; {}.", d.engine, d.why, d.log));
    let due = state
        .ours()
        .filter(|d| !restarts || d.command.is_none())
        .map(restart_due);
    let not_known = state.not_known.iter();
    let not_known = not_known.map(|n| {
        format!(
            "Not known: whether {} runs with its files as they are: {}.",
            n.engine, n.why
        )
    });
    interrupted
        .chain(down)
        .chain(due)
        .chain(not_known)
        .collect()
}

fn restart_due(due: &RestartDue) -> String {
    let RestartDue { engine, why, .. } = due;
    match (&due.command, &due.by_another) {
        (Some(command), _) => format!(
            "Restart due: {engine}: {why}; `{command}`, or `{}`.",
            Invocation::Install
        ),
        (None, by) => format!(
            "Restart due: {engine}: {why}; {}.",
            by.as_deref().unwrap_or("its service does not run it")
        ),
    }
}

/// Restarts that are due after an undo which did none.
pub fn due_after_undo(state: &HostState) -> Vec<String> {
    let due = state.ours().map(|due| {
        let RestartDue { engine, why, .. } = due;
        let how = due.command.as_ref().map(|command| format!("`{command}`"));
        let how = how.or_else(|| due.by_another.clone()).unwrap_or_default();
        format!("Restart due: {engine}: {why}; {how}.")
    });
    due.collect()
}

/// What gpusetup leaves to others.
pub fn remarks(state: &HostState) -> Vec<String> {
    let theirs = state.due.iter().filter(|d| d.whose == Whose::Theirs);
    let remarks = theirs.map(|due| {
        format!(
            "{}: {}; gpusetup does not restart it for that, and its next restart puts it into effect",
            due.engine, due.why
        )
    });
    remarks.collect()
}

/// What the status says below an engine.
pub fn notes(state: &HostState, engine: &str) -> Vec<String> {
    let down = state.down.iter().filter(|d| d.engine == engine);
    let down = down.map(|d| format!("{}; {}", d.why, d.log));
    let due = state.due.iter().filter(|d| d.engine == engine);
    let due = due.map(|d| match d.whose {
        Whose::Ours => match &d.by_another {
            Some(by) => format!("restart due: {}; {by}", d.why),
            None => format!("restart due: {}", d.why),
        },
        Whose::Theirs => format!("{}; its next restart puts it into effect", d.why),
    });
    let not_known = state.not_known.iter().filter(|n| n.engine == engine);
    let not_known =
        not_known.map(|n| format!("whether it has read its files is not known: {}", n.why));
    down.chain(due).chain(not_known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host_state::NotKnown;

    fn due(whose: Whose) -> RestartDue {
        RestartDue {
            engine: "docker".into(),
            service: "docker.service".into(),
            whose,
            why: "it has not read what gpusetup wrote".into(),
            command: Some("systemctl restart docker.service".into()),
            by_another: None,
        }
    }

    #[test]
    fn somebody_elses_change_is_a_remark_and_no_action() {
        let state = HostState {
            due: vec![due(Whose::Theirs)],
            ..HostState::default()
        };
        assert!(actions(&state, false, &[]).is_empty() && !state.needs_action());
        assert_eq!(remarks(&state).len(), 1);
        let state = HostState {
            due: vec![due(Whose::Ours)],
            ..HostState::default()
        };
        assert!(remarks(&state).is_empty() && state.needs_action());
        assert!(actions(&state, true, &[]).is_empty(), "the plan has it");
        let said = actions(&state, false, &[]);
        assert!(said[0].starts_with("Restart due: docker: "), "{said:?}");
    }

    #[test]
    fn an_engine_that_fails_and_an_unanswered_question_are_actions() {
        let state = HostState {
            down: vec![EngineDown {
                engine: "docker".into(),
                service: "docker.service".into(),
                why: "it failed to start (exit-code)".into(),
                log: "`journalctl -u docker.service` has the rest".into(),
            }],
            not_known: vec![NotKnown {
                engine: "crio".into(),
                why: "no answer".into(),
            }],
            ..HostState::default()
        };
        assert!(state.needs_action());
        let said = actions(&state, true, &[]);
        assert!(
            said[0].starts_with("Engine down: docker: it failed"),
            "{said:?}"
        );
        assert!(said[1].starts_with("Not known: whether crio"), "{said:?}");
    }
}
