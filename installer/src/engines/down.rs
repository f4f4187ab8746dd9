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

/// Said of an engine that nobody has started.
pub const STOPPED: &str = "it does not run";
