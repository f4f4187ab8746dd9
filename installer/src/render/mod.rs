//! What is shown of plans and hosts: as text for people, as documents for programs.

pub mod json;
pub mod plan;
pub mod status;

use crate::terminal::redact;

/// A file's text without secrets. It is the user's own file on the user's own screen, so what is no secret by its form
/// stays, unlike in a bundle, which is for others.
fn mask(text: Option<&str>) -> String {
    redact::mask(text.unwrap_or_default())
}
