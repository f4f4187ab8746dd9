//! Renders plans and hosts: as text for people, and as documents for programs.

pub mod host_state;
pub mod json;
mod next_commands;
pub mod plan;
pub mod references;
pub mod status;

use crate::terminal::redact;

/// Masks the secrets in a file's text. The user sees their own file on their own screen, so only
/// what looks like a secret is masked. A bundle is for others and is masked more strictly.
fn mask(text: Option<&str>) -> String {
    redact::mask(text.unwrap_or_default())
}
