//! A plan: the changes and the reason for each, and the restarts with the containers that they
//! stop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::engines::activation::Activation;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::error::invocation::Invocation;
use crate::host::Host;
use crate::host::service::Service;
use crate::model::change::Change;
use crate::model::host_state::HostState;
use crate::model::setup_options::{DefaultRuntime, SetupOptions};
use crate::model::skipped::{SkipReason, Skipped};
use crate::model::toolkit_traces::OtherToolkits;
use crate::transaction::receipt::{self};

/// The plan of a run.
pub struct Plan {
    /// Files to change, in order.
    pub changes: Vec<Change>,
    /// Engines, each with what must happen for its files to take effect.
    pub engines: Vec<(Box<dyn Engine>, Activation)>,
    /// The options for these engines; `None` if a plan only repairs or undoes.
    pub wanted: Option<SetupOptions>,
    /// By the engine's name, what the plan does with its default runtime, where that is or was ours.
    pub default_runtime: BTreeMap<String, DefaultRuntime>,
    /// The number of GPUs of this host.
    pub gpus: usize,
    /// Warnings for the user before the run.
    pub warnings: Vec<String>,
    /// Files whose earlier text an older gpusetup stored without a checksum.
    pub unchecked: BTreeSet<PathBuf>,
    /// Traces of other tools that give containers GPUs.
    pub foreign: OtherToolkits,
    /// What is due on the host, and what does not run on it.
    pub state: HostState,
    /// Engines that are left as they were.
    pub skipped: Vec<Skipped>,
    /// By the engine's name, what takes out again what earlier runs have written for it and it has not read: for the case
    /// that it does not come back with that.
    pub unread: BTreeMap<String, Vec<Change>>,
}

impl Plan {
    /// A plan for one file that belongs to no engine.
    pub fn of_file(change: Change) -> Self {
        Self {
            changes: vec![change],
            engines: Vec::new(),
            wanted: None,
            default_runtime: BTreeMap::new(),
            gpus: 0,
            warnings: Vec::new(),
            unchecked: BTreeSet::new(),
            foreign: OtherToolkits::default(),
            state: HostState::default(),
            skipped: Vec::new(),
            unread: BTreeMap::new(),
        }
    }

    /// Makes the engines whose files changed read them again, see [`Engine::read_again`].
    pub fn read_again(&mut self, host: &Host) {
        for (engine, _) in &mut self.engines {
            if self.changes.iter().any(|c| engine.owns(&c.path)) {
                engine.read_again(host);
            }
        }
    }

    /// Refuses a plan if a restart would stop containers. `command` is the one that stops them.
    pub fn ensure_no_container_stops(&self, command: Invocation<'static>) -> Result<(), Error> {
        self.ensure_containers_are_known()?;
        let stops = self.engines.iter().filter(|(_, a)| !a.stopped().is_empty());
        let stops: Vec<String> = stops
            .map(|(engine, a)| format!("{}: {}", engine.facts().name, a.stopped().join(", ")))
            .collect();
        if stops.is_empty() {
            return Ok(());
        }
        Err(Error::WouldStop { stops, command })
    }

    /// Refuses a plan if containers would stop that could not be started again.
    fn ensure_containers_are_known(&self) -> Result<(), Error> {
        match self.unknown_containers() {
            None => Ok(()),
            Some((_, unknown)) => Err(unknown),
        }
    }

    /// Leaves out an engine that does not run, and says how it can be set up.
    pub fn leave_out_stopped(&mut self, engine: &dyn Engine, why: String) {
        let name = engine.facts().name.clone();
        let fix = format!(
            "start it and run this again, or run `{}`, which starts it",
            Invocation::InstallEngineAsRoot(&name)
        );
        self.warnings
            .push(format!("{name} is left as it is: {why}; {fix}"));
        self.skipped.push(Skipped {
            engine: name,
            reason: SkipReason::DoesNotRun,
            why,
            fix: Some(fix),
        });
    }

    /// Leaves out an engine that cannot be planned, for this reason.
    pub fn leave_out_unplanned(&mut self, engine: &dyn Engine, cause: &Error) {
        let skipped = Skipped::because(&engine.facts().name, cause, None);
        let fix = skipped.fix.as_ref();
        let fix = fix.map_or(String::new(), |fix| format!("; {fix}"));
        let (name, why) = (&skipped.engine, &skipped.why);
        self.warnings
            .push(format!("{name} is left as it is: {why}{fix}"));
        // A restart alone would not do what is due.
        self.state.due.retain(|d| d.engine != *name);
        self.skipped.push(skipped);
    }

    /// Notes the engines that fail, and for which this run neither writes anything nor does a restart. `said` are those of
    /// which that is said already.
    pub fn leave_out_down(&mut self, said: &[&str]) {
        for down in &self.state.down {
            let mut engines = self.engines.iter();
            let is_its = engines.any(|(e, a)| {
                let is_written = self.changes.iter().any(|c| e.owns(&c.path));
                e.facts().name == down.engine && (is_written || a.service().is_some())
            });
            let is_said = self.skipped.iter().any(|s| s.engine == down.engine)
                || said.contains(&down.engine.as_str());
            if !is_its && !is_said {
                self.skipped.push(Skipped {
                    engine: down.engine.clone(),
                    reason: SkipReason::DoesNotRun,
                    why: down.why.clone(),
                    fix: Some(down.log.clone()),
                });
            }
        }
    }

    /// Leaves out an engine of the plan because of this error, together with its changes. `more` is what else became of
    /// it.
    pub fn leave_out_failed(&mut self, name: &str, cause: &Error, more: Option<&str>) {
        let Some(at) = self.position(name) else {
            return;
        };
        let (engine, _) = self.engines.remove(at);
        self.changes.retain(|c| !engine.owns(&c.path));
        self.skipped.push(Skipped::because(name, cause, more));
    }

    /// Whether the run has something to do apart from that engine.
    pub fn has_work_besides(&self, name: &str) -> bool {
        let at = self.position(name).map(|at| &self.engines[at].0);
        let is_its = |c: &Change| at.is_some_and(|engine| engine.owns(&c.path));
        let others = self.engines.iter().filter(|(e, _)| e.facts().name != name);
        let mut restarted = others.filter_map(|(_, a)| a.service());
        !self.changes.iter().all(is_its) || restarted.next().is_some()
    }

    /// The first engine whose restart would stop containers that are not known, as an error.
    pub fn unknown_containers(&self) -> Option<(String, Error)> {
        let mut unknown = self.engines.iter();
        let (engine, why) = unknown.find_map(|(e, a)| Some((e, a.stops_unknown()?)))?;
        let (name, why) = (&engine.facts().name, why.to_owned());
        let fault = EngineFault::ContainersUnknown { why };
        Some((name.clone(), Error::engine(name, fault)))
    }

    /// The place of the engine of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.engines
            .iter()
            .position(|(e, _)| e.facts().name == name)
    }

    /// Adds warnings, each only once even if several engines give it.
    pub fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// The options for its engines, for the receipt.
    pub fn recorded_options(&self) -> BTreeMap<String, receipt::RecordedOptions> {
        let ours = self.engines.iter().filter(|(e, _)| e.is_ours());
        let options_by_engine = self.wanted.iter().flat_map(|wanted| {
            let options = receipt::RecordedOptions::from(wanted);
            ours.clone().map(move |(e, _)| {
                let name = &e.facts().name;
                let state = self.default_runtime.get(name);
                let options = receipt::RecordedOptions {
                    default_runtime: state.is_some_and(|state| state.is_ours()),
                    ..options
                };
                (name.clone(), options)
            })
        });
        options_by_engine.collect()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether a run does something: it writes files, or restarts an engine that has not read what an earlier run wrote.
    pub fn has_work(&self, restart: bool) -> bool {
        !self.is_empty() || (restart && self.state.doable().next().is_some())
    }

    /// Services to restart or reload.
    pub fn services(&self) -> Vec<Service> {
        let services = self
            .engines
            .iter()
            .filter_map(|(_, a)| a.service().cloned());
        services.collect()
    }

    /// Names of the services to restart or reload.
    pub fn service_names(&self) -> Vec<String> {
        self.services().into_iter().map(|s| s.name).collect()
    }

    /// Services whose unit files change, so that their manager must read them again.
    pub fn reloads(&self) -> Vec<Service> {
        let activated = self.engines.iter().filter_map(|(_, a)| a.activated());
        let changed = activated.filter(|of| of.unit_changes);
        let mut services: Vec<Service> = changed.map(|of| of.service.clone()).collect();
        // A drop-in `UNIT.d/NAME.conf` of a unit that belongs to no engine.
        let drop_ins = self.changes.iter().filter_map(|c| {
            let unit = c.path.strip_prefix("/etc/systemd/system").ok()?.parent()?;
            let is_engines = self.engines.iter().any(|(e, _)| e.owns(&c.path));
            let unit = unit.to_str()?.strip_suffix(".d")?;
            (!is_engines).then(|| Service::systemd(unit))
        });
        services.extend(drop_ins);
        services
    }
}
