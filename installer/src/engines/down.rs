//! Whether an engine runs, as its own daemon and the manager of its service say.

use crate::engines::engine::{DaemonState, Engine};
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::service_state::ServiceState;

/// Why an engine does not run; `None` if it runs, has no daemon, or nobody can tell.
pub fn why(host: &Host, engine: &dyn Engine) -> Option<String> {
    if !host.is_live() {
        return None;
    }
    let daemon = &engine.facts().daemon;
    if matches!(daemon, DaemonState::Runs | DaemonState::Unasked) {
        return None;
    }
    let service = engine.daemon_service(host);
    match service.map_or(Answer::None, |s| s.state(host)) {
        Answer::Known(ServiceState::Fails(why)) => Some(why),
        Answer::Known(ServiceState::Stopped) => Some(STOPPED.into()),
        _ => (*daemon == DaemonState::Stopped).then(|| STOPPED.into()),
    }
}

/// Whether an engine does not run, but is started by its socket as soon as somebody uses it. One that fails is none.
pub fn is_on_demand(host: &Host, engine: &dyn Engine) -> bool {
    let service = engine.daemon_service(host);
    service.is_some_and(|service| {
        let is_stopped = service.state(host) == Answer::Known(ServiceState::Stopped);
        is_stopped && service.is_socket_up(host)
    })
}

/// Why an engine that runs cannot be restarted by its service: somebody has started it by other means.
pub fn by_another(host: &Host, engine: &dyn Engine) -> Option<String> {
    if !host.is_live() || engine.facts().daemon != DaemonState::Runs {
        return None;
    }
    let service = engine.daemon_service(host)?;
    let process = engine.run_by_another();
    let is_its = match service.state(host) {
        Answer::Known(ServiceState::Stopped | ServiceState::Fails(_)) => false,
        // There is no such service.
        Answer::None => process.is_none(),
        Answer::Known(_) | Answer::Unknown(_) => true,
    };
    let which = process.map(|process| format!(": {}", process.text()));
    (!is_its).then(|| {
        format!(
            "{} does not run it: who has started it has to restart it{}",
            service.name,
            which.unwrap_or_default()
        )
    })
}

/// Said of an engine that nobody has started.
pub const STOPPED: &str = "it does not run";
/// What becomes of the files of such an engine.
pub const NEXT_START: &str = "it does not run; its next start reads the files";
/// The same of one that its socket starts.
pub const ON_DEMAND: &str =
    "it does not run now; its socket starts it when it is used, with these files";
