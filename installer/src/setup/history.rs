//! What earlier runs have set up, as their receipt tells it.

use std::path::Path;

use crate::engines::engine::Engine;
use crate::model::setup_options::{Existing, Wanted};
use crate::transaction::receipt::Record;

/// What the last of those runs that set the engine up was asked for; `None` where none did.
pub fn wanted(receipt: &Record, engine: &dyn Engine) -> Option<Wanted> {
    if !engine.is_ours() {
        return None;
    }
    let Some(asked) = receipt.asked.get(&engine.facts().name) else {
        return is_edited(receipt, engine).then(Wanted::default);
    };
    Some(Wanted {
        mode: asked.mode,
        default_runtime: asked.default_runtime,
        existing: if asked.leaves {
            Existing::Leave
        } else {
            Existing::Refuse
        },
        ..Wanted::default()
    })
}

/// Whether those runs wrote a file of that engine's.
pub fn is_edited(receipt: &Record, engine: &dyn Engine) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|c| c.after.is_some() && engine.owns(&c.path))
}

/// Whether those runs wrote that file.
pub fn has_written(receipt: &Record, path: &Path) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|c| c.path == path && c.after.is_some())
}
