//! What earlier runs have set up, as their receipt tells it.

use std::path::Path;

use crate::engines::engine::Engine;
use crate::model::setup_options::{Existing, SetupOptions};
use crate::transaction::receipt::Receipt;

/// What the last of those runs that set the engine up was asked for; `None` where none did.
pub fn wanted(receipt: &Receipt, engine: &dyn Engine) -> Option<SetupOptions> {
    if !engine.is_ours() {
        return None;
    }
    let Some(asked) = receipt.asked.get(&engine.facts().name) else {
        return is_edited(receipt, engine).then(SetupOptions::default);
    };
    Some(SetupOptions {
        mode: asked.mode,
        default_runtime: asked.default_runtime,
        existing: if asked.leaves {
            Existing::Leave
        } else {
            Existing::Refuse
        },
        ..SetupOptions::default()
    })
}

/// Whether those runs wrote a file of that engine's.
pub fn is_edited(receipt: &Receipt, engine: &dyn Engine) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|c| c.after.is_some() && engine.owns(&c.path))
}

/// Whether those runs wrote that file.
pub fn has_written(receipt: &Receipt, path: &Path) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|c| c.path == path && c.after.is_some())
}
