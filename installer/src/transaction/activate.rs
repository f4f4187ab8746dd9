//! Makes written files take effect, and makes restored files take effect after a rollback: runs the
//! engines' own checks, then restarts or reloads each engine's service.
//!
//! A run, its rollback, and the recovery of a run that died all use it.

use std::time::Instant;

use crate::engines::down;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::still_down::{self, StillDown};
use crate::host::service::{Verb, daemon_reload};
use crate::host::{Host, threads};
use crate::terminal::context::RunContext;
use crate::terminal::progress::{self, Progress};
use crate::transaction::journal::Journal;
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;
use crate::transaction::started_restart::StartedRestart;
use crate::transaction::states::{RunState, States};

/// Runs the engines' own checkers in parallel: each takes as long as its daemon takes to start.
pub fn check_all(host: &Host, plan: &Plan, progress: &Progress) -> Result<(), Error> {
    let changed = plan.engines.iter().filter(|(_, a)| a.service().is_some());
    let checked: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = changed
            .map(|(engine, _)| {
                let check = threads::begin(scope, move || engine.check(host));
                (engine, check)
            })
            .collect();
        let ended = running.into_iter();
        ended.map(|(engine, check)| (engine, check.end())).collect()
    });
    for (engine, checked) in checked {
        if checked? {
            progress.done(&format!(
                "{} accepts its configuration",
                engine.facts().name
            ));
        }
    }
    Ok(())
}

/// Makes the files of a plan take effect. Each engine is recorded in the journal before its service
/// is touched, so that a recovery restarts no other engine. Returns the containers that do not run
/// again.
pub fn activate(
    context: &RunContext,
    plan: &Plan,
    journal: &mut Journal,
    states: &mut States,
) -> Result<Vec<StillDown>, Error> {
    let &RunContext {
        host,
        signals,
        progress,
    } = context;
    journal.units = plan.reloads();
    if !journal.units.is_empty() {
        journal.store(host)?;
        daemon_reload(host, journal.units.iter())?;
    }
    let earlier = Receipt::load(host)?.unwrap_or_default();
    let mut still_down = Vec::new();
    for (engine, activation) in &plan.engines {
        let Some((of, verb)) = activation.of() else {
            continue;
        };
        signals.ensure_none()?;
        let began = Instant::now();
        let was_down = down::why(host, &**engine).is_some();
        let started = StartedRestart {
            engine: engine.facts().name.clone(),
            service: of.service.clone(),
            reload: verb == Verb::Reload,
            was_down,
            is_started_by_us: was_down || earlier.has_started(host, &of.service),
            // Some containers of the plan may have ended since. Those that ended by themselves are
            // not started again.
            stops: match verb {
                Verb::Reload | Verb::Stop => Vec::new(),
                Verb::Restart => engine.stopping(host, activation.stopped()),
            },
        };
        journal.begun.push(started.clone());
        journal.store(host)?;
        take_effect(host, Some(&**engine), &started, verb, progress)?;
        states.reach(&started.engine, RunState::Activated);
        let (name, taken) = (&started.engine, progress::elapsed(began));
        progress.done(&format!("{name} {}{taken}", verb.past_tense()));
        if started.stops.is_empty() {
            continue;
        }
        progress.doing(&format!("starting the containers of {name} again"));
        let still = engine.start_again(host, &started.stops);
        if still.is_empty() {
            progress.done(&format!("{name}: {}", up(&started.stops)));
        } else {
            // This is no reason for a rollback, which would stop the other containers again.
            progress.warn(&format!("{name}: {}", still_down::listed(&still)));
        }
        still_down.extend(still);
    }
    Ok(still_down)
}

/// What an attempt to make restored files take effect has left.
#[derive(Debug, Default)]
pub struct Remaining {
    /// What could not be put back.
    pub left: Vec<String>,
    /// Containers that ran before and do not run again.
    pub down: Vec<StillDown>,
}

/// Makes restored files take effect, for each engine whose restart or reload had begun. An engine
/// that is no longer detected still has its service.
pub fn activate_again(
    host: &Host,
    engines: &[&dyn Engine],
    journal: &Journal,
    progress: &Progress,
) -> Remaining {
    let mut remaining = Remaining::default();
    if let Err(e) = daemon_reload(host, journal.units.iter()) {
        remaining.left.push(format!("systemctl daemon-reload: {e}"));
    }
    for started in &journal.begun {
        let engine = engines.iter().find(|e| e.facts().name == started.engine);
        let engine = engine.copied();
        if let Err(e) = take_effect(host, engine, started, started.verb_back(), progress) {
            remaining.left.push(format!(
                "{}: {e}",
                started.service.restart_command().join(" ")
            ));
            continue;
        }
        let done = format!("{} {}", started.verb_back().past_tense(), started.engine);
        let still = engine.map_or_else(Vec::new, |e| e.start_again(host, &started.stops));
        if started.stops.is_empty() {
            progress.back(&done);
        } else if still.is_empty() {
            progress.back(&format!("{done}: running, {}", up(&started.stops)));
        } else {
            progress.back(&format!("{done}: running"));
            progress.warn(&format!(
                "{}: {}",
                started.engine,
                still_down::listed(&still)
            ));
        }
        remaining.down.extend(still);
        let is_reload = started.verb_back() == Verb::Reload;
        if let Some(stale) = engine
            .filter(|_| is_reload)
            .and_then(|e| e.stale_after_reload(host))
        {
            progress.warn(&stale);
        }
    }
    remaining
}

/// Restarts, reloads or stops the service, then waits until the engine answers.
fn take_effect(
    host: &Host,
    engine: Option<&dyn Engine>,
    started: &StartedRestart,
    verb: Verb,
    progress: &Progress,
) -> Result<(), Error> {
    progress.doing(&format!("{} {}", verb.doing(), started.engine));
    started.service.carry_out(verb, host)?;
    match engine {
        Some(engine) if verb != Verb::Stop => engine.health(host),
        _ => Ok(()),
    }
}

fn up(containers: &[String]) -> String {
    match containers.len() {
        1 => "1 container up".into(),
        n => format!("{n} containers up"),
    }
}
