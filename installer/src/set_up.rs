//! What earlier runs have set up, as their receipt tells it.

use std::path::Path;

use crate::engines::{Engine, Mode, Wanted};
use crate::receipt::Record;

/// What those runs were asked for in that engine; `None` where they wrote none of its files.
pub fn wanted(receipt: &Record, engine: &dyn Engine) -> Option<Wanted> {
    let changes = receipt.changes.iter();
    let texts: Vec<&str> = changes
        .filter(|c| engine.owns(&c.path))
        .filter_map(|c| c.after.as_deref())
        .collect();
    if texts.is_empty() || !engine.is_ours() {
        return None;
    }
    let says = |words: &[&str]| texts.iter().any(|t| words.iter().any(|w| t.contains(w)));
    let wanted = Wanted::default();
    let runtime = wanted.runtime_path.display().to_string();
    let mode = match (says(&[&runtime]), says(&["enable_cdi", "\"cdi\""])) {
        (true, true) => Mode::Both,
        (true, false) => Mode::Runtime,
        (false, _) => Mode::Cdi,
    };
    let default = [
        "default_runtime_name = \"nvidia\"",
        "default_runtime = \"nvidia\"",
        "\"default-runtime\": \"nvidia\"",
    ];
    Some(Wanted {
        mode,
        default_runtime: says(&default),
        ..wanted
    })
}

/// Whether those runs wrote that file.
pub fn has_written(receipt: &Record, path: &Path) -> bool {
    let mut changes = receipt.changes.iter();
    changes.any(|c| c.path == path && c.after.is_some())
}
