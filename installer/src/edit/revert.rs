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

/// Reverts only these keys of a change, and leaves the others as they are.
pub fn revert_keys(
    done: &Change,
    current: &str,
    keys: &[Vec<String>],
) -> Result<String, EditError> {
    let (before, after) = (done.before.as_deref(), done.after.as_deref());
    let after = after.unwrap_or_default();
    match &done.kind {
        MergeKind::Json { .. } => json::remove(current, before, after, keys),
        MergeKind::Toml { .. } => toml::remove(current, before, after, keys),
        _ => Ok(current.to_owned()),
    }
}

/// The kind of a change from `before` to `after` without the keys whose value is the same in both. They were ours once,
/// and a later run has taken them back.
pub fn with_keys_in_use(kind: MergeKind, before: Option<&str>, after: Option<&str>) -> MergeKind {
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    match kind {
        MergeKind::Json { mut keys } => {
            let parsed = |text| json::parse(text).unwrap_or_default();
            let (before, after) = (parsed(before), parsed(after));
            keys.retain(|path| json::get(&before, path) != json::get(&after, path));
            MergeKind::Json { keys }
        }
        MergeKind::Toml { mut keys } => {
            let parsed = |text| meaning::TomlMeaning::of_text(text);
            if let (Some(before), Some(after)) = (parsed(before), parsed(after)) {
                keys.retain(|path| before.get(path) != after.get(path));
            }
            MergeKind::Toml { keys }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
