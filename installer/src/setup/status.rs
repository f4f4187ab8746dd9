//! Collects the state of this host for `gpusetup detect`: the driver, the engines, other tools, and
//! whether what earlier runs did is still in place.

use std::path::Path;

use gpu_host::Inventory;
use gpu_inject::generate::SPEC_PATH;

use crate::engines;
use crate::engines::engine::{Engine, Engines, NEEDS_SPEC};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::Host;
use crate::model::change::Change;
use crate::model::toolkit_traces::OtherToolkits;
use crate::setup::other_toolkits;
use crate::setup::{gpu_files, history};
use crate::transaction::receipt::Receipt;

/// The driver, engines and other tools of a host, and whether what earlier runs did is still in
/// place.
pub struct HostStatus {
    /// The driver and the GPUs.
    pub inventory: Inventory,
    /// The engines, and whether each is set up.
    pub engines: Engines,
    /// Traces of other tools.
    pub foreign: OtherToolkits,
    /// The changes that would bring the files that describe the GPUs up to date.
    pub lacks: Vec<Change>,
    /// The error, if it is not known what earlier runs did.
    pub unknown: Option<Error>,
}

impl HostStatus {
    /// Inspects the host.
    pub fn of(host: &Host) -> Result<Self, Error> {
        let inventory = gpu_files::inventory(host)?;
        let mut engines = engines::detect(host);
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
        for engine in &mut engines {
            stand(host, &mut **engine, receipt.as_ref(), &inventory, &lacks);
            let warnings = engine.warnings(host);
            let facts = engine.facts_mut();
            // A warning can repeat a note that is already there, with the engine's name before it.
            facts.notes.extend(
                warnings
                    .into_iter()
                    .filter(|w| !facts.notes.iter().any(|n| w.ends_with(n.as_str())))
                    .collect::<Vec<_>>(),
            );
            let is_new = facts.is_new();
            facts.notes.retain(|note| is_new || note != NEEDS_SPEC);
        }
        Ok(Self {
            inventory,
            engines,
            foreign,
            lacks,
            unknown,
        })
    }

    /// How a command ends that shows this: [`Exit::Failed`] if it is not known what earlier runs did, so that everything shown may be
    /// wrong.
    pub fn exit(&self) -> Exit {
        Exit::if_failed(self.unknown.is_some())
    }
}

/// Sets whether an engine is set up, and which parts are outdated.
fn stand(
    host: &Host,
    engine: &mut dyn Engine,
    receipt: Option<&Receipt>,
    inventory: &Inventory,
    lacks: &[Change],
) {
    let options = receipt.and_then(|r| history::wanted(r, engine));
    let was_edited = options.is_some();
    let own = engine.changes(host, &options.unwrap_or_default());
    let is_usable = engine.is_ours() && engine.is_reached();
    let facts = engine.facts_mut();
    let own = match own {
        Ok(own) => own,
        Err(e) => {
            facts.notes.push(e.to_string());
            let config = facts.config.clone().filter(|_| was_edited);
            facts.outdated.extend(config);
            return;
        }
    };
    let stands = is_usable && own.is_empty();
    // An engine without a file of its own is set up by the spec alone.
    let was_described = receipt.is_some_and(|r| history::has_written(r, Path::new(SPEC_PATH)));
    let was_set_up = was_edited || (stands && was_described);
    // If the driver is gone, what was set up is still set up.
    facts.configured = stands && lacks.is_empty() && (inventory.driver.is_some() || was_set_up);
    if !facts.configured && was_set_up {
        facts.outdated = own.iter().chain(lacks).map(|c| c.path.clone()).collect();
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
