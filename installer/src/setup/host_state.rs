//! Looks for what a host is due and what does not run on it, see [`HostState`].

use std::time::{SystemTime, UNIX_EPOCH};

use crate::engines::engine::Engine;
use crate::error::Error;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::not_known;
use crate::host::service::Service;
use crate::host::service_state::{ServiceState, Start};
use crate::model::host_state::{EngineDown, HostState, InterruptedRun, NotKnown, RestartDue};
use crate::setup::due;
use crate::transaction::interrupted;
use crate::transaction::receipt::Receipt;

/// A service that its manager has started again this often by itself, the last time so recently, keeps crashing even
/// if it runs just now.
const CRASHES: u32 = 2;
const RECENT: u64 = 300;

/// Adds what is to be said of an engine.
pub fn add(state: &mut HostState, host: &Host, engine: &dyn Engine, receipt: Option<&Receipt>) {
    let Some(service) = engine.daemon_service(host) else {
        return;
    };
    let of_service = service.state(host);
    if let Some(down) = failing(engine, &service, &of_service) {
        // Whether it has read its files is no question for an engine that does not run.
        state.down.push(down);
        return;
    }
    match due::of(host, engine, receipt, &service, of_service) {
        Answer::Known(due) => state.due.push(due),
        Answer::None => {}
        Answer::Unknown(why) => state.not_known.push(NotKnown {
            engine: engine.facts().name.clone(),
            why: not_known::reason(host, why),
        }),
    }
}

/// The restart that an engine needs before it runs with its files as they are; `None` if it needs none.
pub fn due(host: &Host, engine: &dyn Engine, receipt: Option<&Receipt>) -> Answer<RestartDue> {
    let Some(service) = engine.daemon_service(host) else {
        return Answer::None;
    };
    let of_service = service.state(host);
    due::of(host, engine, receipt, &service, of_service)
}

/// How an engine's service fails; `None` if it does not, if somebody has stopped it, or if its manager does not tell.
pub fn down(host: &Host, engine: &dyn Engine) -> Option<EngineDown> {
    let service = engine.daemon_service(host)?;
    failing(engine, &service, &service.state(host))
}

fn failing(
    engine: &dyn Engine,
    service: &Service,
    state: &Answer<ServiceState>,
) -> Option<EngineDown> {
    let why = match state {
        Answer::Known(ServiceState::Fails(why)) => why.clone(),
        Answer::Known(ServiceState::Runs(start)) => crashing(start)?,
        _ => return None,
    };
    Some(EngineDown {
        engine: engine.facts().name.clone(),
        why,
        log: service.log_hint(),
        service: service.name.clone(),
    })
}

fn crashing(start: &Start) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let is_recent = start.at.is_some_and(|at| now.saturating_sub(at) < RECENT);
    (start.crashes >= CRASHES && is_recent)
        .then(|| format!("it ends again and again ({} times by now)", start.crashes))
}

/// A run that did not end, or one that is going on now, for a command that only shows the host.
pub fn interrupted(host: &Host) -> Option<InterruptedRun> {
    match interrupted::find(host) {
        Ok(run) => run,
        Err(e @ Error::Locked { .. }) => Some(InterruptedRun {
            journal: host.state(crate::transaction::receipt::JOURNAL),
            what: format!("a run is going on: {e}"),
            fix: "wait until it has ended".into(),
        }),
        Err(e) => Some(InterruptedRun {
            journal: host.state(crate::transaction::receipt::JOURNAL),
            what: e.to_string(),
            fix: e.fix().unwrap_or_default(),
        }),
    }
}
