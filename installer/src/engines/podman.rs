//! Podman: no daemon and nothing to configure; it reads the CDI spec by itself from 4.1 on
//! (podman-run(1), `--device`).

use std::time::Duration;

use super::{Activation, Engine, Facts, Wanted};
use crate::change::Change;
use crate::error::Error;
use crate::host::Host;

/// Podman on this host.
pub struct Podman {
    facts: Facts,
}

impl Podman {
    /// Looks for podman.
    pub fn detect(host: &Host) -> Option<Self> {
        if !host.has_program("podman") {
            return None;
        }
        let version = installed_version(host);
        let note = if super::major_minor(version.as_deref().unwrap_or("4.1")) < (4, 1) {
            "too old for CDI, which came with 4.1"
        } else {
            "uses CDI, needs a spec"
        };
        Some(Self {
            facts: Facts {
                name: "podman".into(),
                version,
                running: None,
                config: None,
                configured: false,
                notes: vec![note.into()],
            },
        })
    }
}

fn installed_version(host: &Host) -> Option<String> {
    if host.is_live()
        && let Ok(out) = host.run(&["podman", "--version"], Duration::from_secs(10))
    {
        return out.stdout.split_whitespace().nth(2).map(str::to_owned);
    }
    host.package_version(&["podman"])
}

impl Engine for Podman {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    fn changes(&self, _host: &Host, _wanted: &Wanted) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }

    fn owns(&self, _path: &std::path::Path) -> bool {
        false
    }

    fn activation(&self, _host: &Host, _changes: &[Change]) -> Activation {
        Activation::default()
    }

    fn check(&self, _host: &Host) -> Result<(), Error> {
        Ok(())
    }

    fn health(&self, _host: &Host) -> Result<(), Error> {
        Ok(())
    }
}
