//! Reads from the receipt what earlier runs have set up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::engines::engine::Engine;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::model::setup_options::{Existing, SetupOptions};
use crate::transaction::receipt::Receipt;

/// What root's runs have done, and what one that did not end was about to do.
const ROOTS_FILES: [&str; 2] = [
    "/var/lib/gpusetup/receipt.json",
    "/var/lib/gpusetup/journal.json",
];

/// The options of the last run that set up the engine; `None` if there was none.
pub fn wanted(receipt: &Receipt, engine: &dyn Engine) -> Option<SetupOptions> {
    if !engine.is_ours() {
        return None;
    }
    let Some(options) = receipt.asked.get(&engine.facts().name) else {
        return is_edited(receipt, engine).then(|| SetupOptions {
            texts_before: texts_before(receipt),
            ..SetupOptions::default()
        });
    };
    Some(SetupOptions {
        mode: options.mode,
        default_runtime: options.default_runtime,
        existing: if options.leaves {
            Existing::Leave
        } else {
            Existing::Refuse
        },
        texts_before: texts_before(receipt),
        ..SetupOptions::default()
    })
}

/// The texts of files before earlier runs changed them, see [`SetupOptions::texts_before`].
pub fn texts_before(receipt: &Receipt) -> BTreeMap<PathBuf, String> {
    let changes = receipt.changes.iter();
    let texts = changes.filter_map(|c| Some((c.path.clone(), c.before.clone()?)));
    texts.collect()
}

/// Fails if this user may not know what root has set up here: root's receipt and journal are for root alone, and a user's
/// own tell nothing of the system's engines.
pub fn roots_record(host: &Host) -> Result<(), String> {
    if host.user().is_none() {
        return Ok(());
    }
    for file in ROOTS_FILES {
        match Answer::from(host.root().symlink_metadata(file)) {
            Answer::None => {}
            Answer::Known(_) => return Err(format!("{file}: Permission denied")),
            Answer::Unknown(why) => return Err(why),
        }
    }
    Ok(())
}

/// Whether earlier runs wrote one of that engine's files.
pub fn is_edited(receipt: &Receipt, engine: &dyn Engine) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|c| c.after.is_some() && engine.owns(&c.path))
}

/// Whether earlier runs wrote that file.
pub fn has_written(receipt: &Receipt, path: &Path) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|c| c.path == path && c.after.is_some())
}
