//! A Docker that cannot be set up from here: it is detected and reported, but left alone.

use std::path::Path;

use crate::engines::engine::{DaemonState, Engine, Facts, Management};
use crate::host::daemon_process::DaemonProcess;

/// A Docker that we do not manage.
pub struct Unmanaged {
    facts: Facts,
    process: Option<DaemonProcess>,
}

impl Unmanaged {
    /// A Docker of that name, with the reason why we do not manage it and what to do instead.
    pub fn new(name: &str, why: impl Into<String>, instead: impl Into<String>) -> Self {
        let (why, instead) = (why.into(), instead.into());
        Self {
            facts: Facts {
                name: name.into(),
                notes: vec![format!("{why}; {instead}")],
                management: Management::Unmanaged { why, instead },
                version: None,
                daemon: DaemonState::Unasked,
                config: None,
            },
            process: None,
        }
    }

    /// Adds the process that runs.
    pub fn run_as(mut self, process: DaemonProcess) -> Self {
        self.facts.daemon = DaemonState::Runs;
        self.process = Some(process);
        self
    }

    /// Adds its version and configuration file, if they are known.
    pub fn with(mut self, version: Option<String>, config: Option<&Path>) -> Self {
        self.facts.version = version;
        self.facts.config = config.map(Path::to_owned);
        self
    }
}

impl Engine for Unmanaged {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn run_by_another(&self) -> Option<&DaemonProcess> {
        self.process.as_ref()
    }
}
