//! Reverts our changes to a file: what we added is removed, what the user changed since stays.

use super::{block, json, meaning, toml};
use crate::error::edit_error::EditError;
use crate::model::change::{Change, MergeKind};

/// Removes our part from a file that the user has changed since: what we set gets its old value,
/// everything else stays. `Ok(None)` means that the file is to be removed.
pub fn remove_ours(
    kind: &MergeKind,
    current: &str,
    before: Option<&str>,
    after: &str,
) -> Result<Option<String>, EditError> {
    if current == after {
        return Ok(before.map(str::to_owned));
    }
    match kind {
        // An emptied file has nothing of ours.
        MergeKind::Json { .. } if current.trim().is_empty() => Ok(Some(current.to_owned())),
        MergeKind::Json { keys } => json::remove(current, before, after, keys).map(Some),
        MergeKind::Toml { keys } => toml::remove(current, before, after, keys).map(Some),
        MergeKind::Block { begin, end } => block::remove(current, after, begin, end).map(Some),
        MergeKind::Generated => Ok(before.map(str::to_owned)),
        // The link belongs to another tool or user by now.
        MergeKind::Link => Ok(Some(current.to_owned())),
        // If the text was rewritten in another style, it is still what we wrote.
        MergeKind::Own if meaning::same_text(current, after) => Ok(before.map(str::to_owned)),
        MergeKind::Own => Err(EditError::Conflict("the file".into())),
    }
}

/// The text that a file should have after the revert; `None` if it should not exist.
pub fn revert(done: &Change, current: Option<&str>) -> Result<Option<String>, EditError> {
    match (current, done.after.as_deref()) {
        (Some(current), Some(after)) => {
            remove_ours(&done.kind, current, done.before.as_deref(), after)
        }
        // We removed the file, and it has not been created again.
        (None, None) => Ok(done.before.clone()),
        // The user removed or created the file, so it contains nothing of ours.
        _ => Ok(current.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests;
