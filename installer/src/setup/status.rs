//! What is here, and what of what earlier runs did stands: what `gpusetup detect` is made of.

use std::path::Path;

use gpu_host::Inventory;
use gpu_inject::generate::SPEC_PATH;

use crate::engines;
use crate::engines::engine::{Engine, Engines, NEEDS_SPEC};
use crate::error::Error;
use crate::host::Host;
use crate::model::change::Change;
use crate::model::toolkit_traces::OtherToolkits;
use crate::setup::other_toolkits;
use crate::setup::{gpu_files, history};
use crate::transaction::receipt::Receipt;

/// What is here of a driver, engines and other tools, and what of earlier runs stands.
pub struct HostStatus {
    /// The driver and the GPUs.
    pub inventory: Inventory,
    /// The engines, with whether they are set up.
    pub engines: Engines,
    /// What is here of other tools.
    pub foreign: OtherToolkits,
    /// What describes the GPUs to all engines and is not as it would be written now.
    pub lacks: Vec<Change>,
    /// Why what earlier runs did is not known.
    pub unknown: Option<Error>,
}

impl HostStatus {
    /// Looks.
    pub fn of(host: &Host) -> Result<Self, Error> {
        let inventory = gpu_files::inventory(host)?;
        let mut engines = engines::detect(host);
        let foreign = other_toolkits::find(host, &engines);
        let (receipt, unknown) = match Receipt::load(host) {
            Ok(receipt) => (receipt, None),
            Err(e) => (None, Some(e)),
        };
        // The receipt says whose the description is.
        let lacks = match unknown {
            None => lacks(host, &inventory)?,
            Some(_) => Vec::new(),
        };
        for engine in &mut engines {
            stand(host, &mut **engine, receipt.as_ref(), &inventory, &lacks);
            let warnings = engine.warnings(host);
            let facts = engine.facts_mut();
            // A warning can be an error that was told already, with the engine's name before it.
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

    /// 1 where all that is shown may be wrong: what earlier runs did is not known.
    pub fn code(&self) -> u8 {
        u8::from(self.unknown.is_some())
    }
}

/// Whether an engine is set up, and whether all of that stands.
fn stand(
    host: &Host,
    engine: &mut dyn Engine,
    receipt: Option<&Receipt>,
    inventory: &Inventory,
    lacks: &[Change],
) {
    let asked = receipt.and_then(|r| history::wanted(r, engine));
    let was_edited = asked.is_some();
    let own = engine.changes(host, &asked.unwrap_or_default());
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
    // One that has no file of its own was set up by the spec.
    let was_described = receipt.is_some_and(|r| history::has_written(r, Path::new(SPEC_PATH)));
    let was_set_up = was_edited || (stands && was_described);
    // A driver that is gone takes nothing from what was set up.
    facts.configured = stands && lacks.is_empty() && (inventory.driver.is_some() || was_set_up);
    if !facts.configured && was_set_up {
        facts.outdated = own.iter().chain(lacks).map(|c| c.path.clone()).collect();
    }
}

/// What describes the GPUs and does not stand; another tool's spec is left to it.
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
