//! Back to before: what we added to a file goes, what the user changed since stays.

use super::{block, json, toml};
use crate::edit::error::EditError;
use crate::model::change::{Change, FileKind};

/// Takes our part out of a file that the user has changed since: what we set goes back to
/// what it was, everything else stays. `Ok(None)`: the file is to go.
pub fn remove_ours(
    kind: &FileKind,
    current: &str,
    before: Option<&str>,
    after: &str,
) -> Result<Option<String>, EditError> {
    if current == after {
        return Ok(before.map(str::to_owned));
    }
    match kind {
        FileKind::Json { keys } => json::remove(current, before, after, keys).map(Some),
        FileKind::Toml { keys } => toml::remove(current, before, after, keys).map(Some),
        FileKind::Block { begin, end } => block::remove(current, after, begin, end).map(Some),
        FileKind::Generated => Ok(before.map(str::to_owned)),
        // Somebody else's by now.
        FileKind::Link => Ok(Some(current.to_owned())),
        FileKind::Own => Err(EditError::Conflict("the file".into())),
    }
}

/// What a file should be again; `None`: it goes, or has gone already.
pub fn revert(done: &Change, current: Option<&str>) -> Result<Option<String>, EditError> {
    match (current, done.after.as_deref()) {
        (Some(current), Some(after)) => {
            remove_ours(&done.kind, current, done.before.as_deref(), after)
        }
        // We removed the file, and nobody has made it anew.
        (None, None) => Ok(done.before.clone()),
        // The user removed or made the file: there is nothing of ours in it.
        _ => Ok(current.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests;
