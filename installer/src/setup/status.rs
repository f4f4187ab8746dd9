//! Collects the state of this host for `gpusetup detect`: the driver, the engines, other tools, and
//! whether what earlier runs did is still in place.

use std::path::{Path, PathBuf};

use gpu_host::Inventory;
use gpu_inject::generate::SPEC_PATH;

use crate::engines;
use crate::engines::engine::{DaemonState, Engine, NEEDS_SPEC};
use crate::engines::run_by;
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::{Host, not_known};
use crate::model::change::Change;
use crate::model::host_state::HostState;
use crate::model::toolkit_traces::OtherToolkits;
use crate::setup::other_toolkits;
use crate::setup::{gpu_files, history, host_state};
use crate::transaction::receipt::Receipt;

/// The driver, engines and other tools of a host, and whether what earlier runs did is still in
/// place.
pub struct HostStatus {
    /// The driver and the GPUs.
    pub inventory: Inventory,
    /// The engines, and whether each is set up.
    pub engines: Vec<EngineStatus>,
    /// Traces of other tools.
    pub foreign: OtherToolkits,
    /// The changes that would bring the files that describe the GPUs up to date.
    pub lacks: Vec<Change>,
    /// What is due, and what does not run.
    pub state: HostState,
    /// The error, if it is not known what earlier runs did.
    pub unknown: Option<Error>,
    /// What only root may know, for a user.
    pub without_root: Vec<String>,
}

impl HostStatus {
    /// Inspects the host.
    pub fn of(host: &Host) -> Result<Self, Error> {
        let inventory = gpu_files::inventory(host)?;
        let engines = engines::detect(host);
        let foreign = other_toolkits::find(host, &engines);
        let (receipt, unknown) = match Receipt::load(host) {
            Ok(receipt) => (receipt, None),
            Err(e) => (None, Some(e)),
        };
        // The receipt tells whether the files that describe the GPUs are ours.
        let lacks = match unknown {
            None => lacks(host, &inventory)?,
            Some(_) => Vec::new(),
        };
        let mut state = HostState {
            interrupted: host_state::interrupted(host),
            ..HostState::default()
        };
        for engine in engines.iter().filter(|e| e.is_ours()) {
            host_state::add(&mut state, host, &**engine, receipt.as_ref());
        }
        let engines: Vec<EngineStatus> = engines
            .into_iter()
            .map(|engine| EngineStatus::of(host, engine, receipt.as_ref(), &inventory, &lacks))
            .collect();
        let without_root = engines.iter().flat_map(|e| e.without_root(host)).collect();
        Ok(Self {
            inventory,
            engines,
            foreign,
            lacks,
            state,
            unknown,
            without_root,
        })
    }

    /// The exit code of a command that shows this status: [`Exit::Failed`] if it is not known what earlier runs did,
    /// so that everything shown may be wrong.
    pub fn exit(&self) -> Exit {
        Exit::if_failed(self.unknown.is_some())
    }
}

/// An engine, and what became of what earlier runs did to it.
pub struct EngineStatus {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// Whether it is set up.
    pub setup: SetupState,
    /// One-line notes for the user.
    pub notes: Vec<String>,
}

/// Whether GPUs are set up in an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupState {
    /// Nothing has been set up in it yet.
    New,
    /// Everything is as an earlier run set it up or, if there was none, as the default `SetupOptions` require.
    Configured,
    /// These files of an earlier run are missing, or would be written differently now.
    Outdated(Vec<PathBuf>),
    /// It is not known, for this reason.
    Unknown(String),
}

impl SetupState {
    /// The files that are out of date.
    pub fn outdated(&self) -> &[PathBuf] {
        match self {
            Self::Outdated(files) => files,
            Self::New | Self::Configured | Self::Unknown(_) => &[],
        }
    }
}

impl EngineStatus {
    fn of(
        host: &Host,
        engine: Box<dyn Engine>,
        receipt: Option<&Receipt>,
        inventory: &Inventory,
        lacks: &[Change],
    ) -> Self {
        let wanted = receipt.and_then(|r| history::wanted(r, &*engine));
        let was_edited = wanted.is_some();
        let own = engine.changes(host, &wanted.unwrap_or_default());
        let facts = engine.facts();
        let mut notes = facts.notes.clone();
        notes.extend(run_by::note(&*engine));
        let setup = match own {
            Ok(own) => {
                let stands = engine.is_ours() && engine.is_reached() && own.is_empty();
                // An engine without a file of its own needs only the spec.
                let was_described =
                    receipt.is_some_and(|r| history::has_written(r, Path::new(SPEC_PATH)));
                let was_set_up = was_edited || (stands && was_described);
                // If the driver is gone, the setup itself is still in place.
                if stands && lacks.is_empty() && (inventory.driver.is_some() || was_set_up) {
                    SetupState::Configured
                } else {
                    let lacking = own.iter().chain(lacks).filter(|_| was_set_up);
                    let state = SetupState::with(lacking.map(|c| c.path.clone()).collect());
                    // Root may have asked for less than everything.
                    match history::roots_record(host) {
                        Err(why) if state == SetupState::New && !engine.is_of_user() => {
                            SetupState::Unknown(why)
                        }
                        _ => state,
                    }
                }
            }
            Err(e) if host.user().is_some() && e.is_denied() => SetupState::Unknown(e.to_string()),
            Err(e) => {
                notes.push(e.to_string());
                let config = facts.config.clone().filter(|_| was_edited);
                SetupState::with(config.into_iter().collect())
            }
        };
        if let DaemonState::Unknown(why) = &facts.daemon {
            let why = not_known::why_not_known(host, why);
            notes.push(format!("whether it runs is {why}"));
        }
        // A warning can repeat an existing note with the engine's name before it.
        let is_said = |w: &String| notes.iter().any(|n| w.ends_with(n.as_str()));
        let warnings = engine.warnings(host);
        let new: Vec<String> = warnings.into_iter().filter(|w| !is_said(w)).collect();
        notes.extend(new);
        notes.retain(|note| setup == SetupState::New || note != NEEDS_SPEC);
        Self {
            engine,
            setup,
            notes,
        }
    }
}

impl EngineStatus {
    /// What of it only root may know, for a user.
    fn without_root(&self, host: &Host) -> Vec<String> {
        if host.user().is_none() {
            return Vec::new();
        }
        let facts = self.engine.facts();
        let mut all = Vec::new();
        if let DaemonState::Unknown(_) = facts.daemon {
            all.push(format!("{}: whether it runs", facts.name));
        }
        if let SetupState::Unknown(_) = self.setup {
            all.push(format!("{}: whether it is set up", facts.name));
        }
        all
    }
}

impl SetupState {
    fn with(outdated: Vec<PathBuf>) -> Self {
        if outdated.is_empty() {
            Self::New
        } else {
            Self::Outdated(outdated)
        }
    }
}

/// The changes that would bring the files that describe the GPUs up to date, without the spec if it
/// is left to another tool.
fn lacks(host: &Host, inventory: &Inventory) -> Result<Vec<Change>, Error> {
    if inventory.driver.is_none() {
        return Ok(Vec::new());
    }
    let mut lacks = gpu_files::described(host, inventory)?;
    if other_toolkits::spec_is_left(host)? {
        lacks.retain(|c| c.path != Path::new(SPEC_PATH));
    }
    Ok(lacks)
}
