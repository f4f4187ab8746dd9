//! Makes written files take effect, and makes restored files take effect after a rollback: runs the
//! engines' own checks, then restarts or reloads each engine's service.
//!
//! A run, its rollback, and the recovery of a run that died all use it.

use std::time::Instant;

use crate::engines::activation::Activation;
use crate::engines::down;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::still_down::{self, StillDown};
use crate::host::service::{Service, Verb, daemon_reload};
use crate::host::{Host, threads};
use crate::terminal::context::RunContext;
use crate::terminal::progress::{self, Progress};
use crate::transaction::journal::Journal;
use crate::transaction::plan::Plan;
use crate::transaction::receipt::Receipt;
use crate::transaction::started_restart::StartedRestart;
use crate::transaction::states::{RunState, States};

/// Runs the engines' own checkers in parallel: each takes as long as its daemon takes to start.
/// Returns for each engine by name whether it has accepted its configuration, as far as it has a checker.
pub fn check_all(host: &Host, plan: &Plan) -> Vec<(String, Result<bool, Error>)> {
    let changed = plan.engines.iter().filter(|(_, a)| a.service().is_some());
    std::thread::scope(|scope| {
        let running: Vec<_> = changed
            .map(|(engine, _)| {
                let check = threads::begin(scope, move || engine.check(host));
                (engine.facts().name.clone(), check)
            })
            .collect();
        let ended = running.into_iter();
        ended.map(|(name, check)| (name, check.end())).collect()
    })
}

/// Makes the managers of the services read the unit files that a plan has changed.
pub fn read_units(host: &Host, plan: &Plan, journal: &mut Journal) -> Result<(), Error> {
    journal.units = plan.reloads();
    if journal.units.is_empty() {
        return Ok(());
    }
    journal.store(host)?;
    daemon_reload(host, journal.units.iter())
}

/// Makes the files of one engine take effect. The engine is recorded in the journal before its service
/// is touched, so that a recovery restarts no other engine. Returns the containers that do not run
/// again.
pub fn activate(
    context: &RunContext,
    (engine, activation): &(Box<dyn Engine>, Activation),
    journal: &mut Journal,
    states: &mut States,
) -> Result<Vec<StillDown>, Error> {
    let &RunContext {
        host,
        signals,
        progress,
    } = context;
    let Some((of, verb)) = activation.of() else {
        return Ok(Vec::new());
    };
    signals.ensure_none()?;
    let earlier = Receipt::load(host)?.unwrap_or_default();
    let began = Instant::now();
    let was_down = down::why(host, &**engine).is_some();
    // Some containers of the plan may have ended since. Those that ended by themselves are not started again.
    let mut stops = match verb {
        Verb::Reload | Verb::Stop => Vec::new(),
        Verb::Restart => engine.stopping(host, activation.stopped()),
    };
    let removed = engine.removed_on_stop(host, &stops);
    stops.retain(|name| !removed.contains(name));
    let started = StartedRestart {
        engine: engine.facts().name.clone(),
        service: of.service.clone(),
        reload: verb == Verb::Reload,
        was_down,
        is_started_by_us: was_down || earlier.has_started(host, &of.service),
        with_socket: if was_down {
            of.service.is_socket_down(host)
        } else {
            earlier.has_started_socket(&of.service)
        },
        stops,
    };
    journal.begun.push(started.clone());
    journal.store(host)?;
    take_effect(host, Some(&**engine), &started, verb, progress)?;
    states.reach(&started.engine, RunState::Activated);
    let (name, taken) = (&started.engine, progress::elapsed(began));
    progress.done(&format!("{name} {}{taken}", verb.past_tense()));
    if !removed.is_empty() {
        let names = removed.join(", ");
        progress.warn(&format!(
            "{name} has removed what was started with --rm: {names}"
        ));
    }
    if started.stops.is_empty() {
        return Ok(Vec::new());
    }
    progress.doing(&format!("starting the containers of {name} again"));
    let still = engine.start_again(host, &started.stops);
    if still.is_empty() {
        progress.done(&format!("{name}: {}", up(&started.stops)));
    } else {
        // This is no reason for a rollback, which would stop the other containers again.
        progress.warn(&format!("{name}: {}", still_down::listed(&still)));
    }
    Ok(still)
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
    let has_manager = |s: &&Service| !s.is_without_manager(host);
    if let Err(e) = daemon_reload(host, journal.units.iter().filter(has_manager)) {
        remaining.left.push(format!("systemctl daemon-reload: {e}"));
    }
    for started in &journal.begun {
        if !has_manager(&&started.service) {
            // Nothing of it runs, and nobody could start it but that manager, which reads what was put back.
            progress.warn(&format!(
                "{}: put off until the service manager of its user runs, which is not there (no session, no linger): its next start reads the files as they were put back",
                started.engine
            ));
            continue;
        }
        let engine = engines.iter().find(|e| e.facts().name == started.engine);
        let engine = engine.copied();
        if let Err(e) = take_effect(host, engine, started, started.verb_back(), progress) {
            remaining.left.push(format!(
                "{}: {e}",
                started.service.restart_command().join(" ")
            ));
            remaining
                .down
                .extend(started.stops.iter().map(|name| StillDown {
                    container: name.clone(),
                    why: format!("{} does not run", started.engine),
                }));
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
    match verb {
        Verb::Stop => started.service.stop(host, started.with_socket)?,
        Verb::Restart | Verb::Reload => started.service.carry_out(verb, host)?,
    }
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
