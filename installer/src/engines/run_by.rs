//! Tells whose process an engine's daemon is.

use serde::Serialize;

use crate::engines::engine::{DaemonState, Engine};
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::service::Manager;
use crate::host::service_state::ServiceState;

/// Who runs a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum RunBy {
    /// Its service.
    Unit {
        /// The service.
        unit: String,
    },
    /// Its service in a user's service manager.
    UserManager {
        /// The service.
        unit: String,
    },
    /// Another unit than the one that gpusetup would restart.
    OtherUnit {
        /// That unit.
        unit: String,
        /// The process.
        pid: u32,
    },
    /// Somebody has started it by hand.
    ByHand {
        /// The process; `None` if it is only known that no service runs it.
        pid: Option<u32>,
    },
}

/// Who runs an engine's daemon; `None` if it has none, does not run, or in a directory tree.
pub fn of(host: &Host, engine: &dyn Engine) -> Answer<RunBy> {
    if let Some(process) = engine.run_by_another() {
        let pid = process.pid;
        return Answer::Known(match process.unit() {
            Some(unit) => RunBy::OtherUnit {
                unit: unit.to_owned(),
                pid,
            },
            None => RunBy::ByHand { pid: Some(pid) },
        });
    }
    if !host.is_live() || engine.facts().daemon != DaemonState::Runs {
        return Answer::None;
    }
    let Some(service) = engine.daemon_service(host) else {
        return Answer::None;
    };
    match service.state(host) {
        Answer::Known(ServiceState::Runs(_) | ServiceState::Changes) => {
            let unit = service.name;
            Answer::Known(match service.manager {
                Manager::SystemdUser => RunBy::UserManager { unit },
                Manager::Systemd | Manager::OpenRc | Manager::Snap => RunBy::Unit { unit },
            })
        }
        Answer::Known(_) => Answer::Known(RunBy::ByHand { pid: None }),
        Answer::None => Answer::Unknown("its service is not known to its manager".into()),
        Answer::Unknown(why) => Answer::Unknown(why),
    }
}

/// What the status says of a daemon that gpusetup does not restart. One that is left alone says it already.
pub fn note(engine: &dyn Engine) -> Option<String> {
    let process = engine.run_by_another().filter(|_| engine.is_ours())?;
    Some(format!("run by {}, not by its service", process.text()))
}
