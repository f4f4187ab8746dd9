//! A restart or reload that a run has begun, and what brings the engine back to the state before it.

use serde::{Deserialize, Serialize};

use crate::host::service::{Service, Verb};

/// A restart or reload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartedRestart {
    /// Name of the engine.
    pub engine: String,
    /// Its service.
    pub service: Service,
    /// The service was reloaded, not restarted.
    pub reload: bool,
    /// Containers that ran before, and that the restart stops.
    pub stops: Vec<String>,
    /// It did not run before, so a rollback stops it.
    #[serde(default)]
    pub was_down: bool,
    /// It runs because gpusetup started it, now or in an earlier run.
    #[serde(default)]
    pub is_started_by_us: bool,
}

impl StartedRestart {
    /// What brings it back to the state before.
    pub fn verb_back(&self) -> Verb {
        if self.was_down {
            Verb::Stop
        } else if self.reload {
            Verb::Reload
        } else {
            Verb::Restart
        }
    }
}
