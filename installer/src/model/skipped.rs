//! Engines that a run leaves as they were while it sets up the others.

use serde::Serialize;

/// An engine that was not set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub engine: String,
    /// The reason.
    pub why: String,
    /// What to do about it, if that is known.
    pub fix: Option<String>,
}

/// `docker (it does not run), crio (...)`
pub fn listed(skipped: &[Skipped]) -> String {
    let named = skipped.iter().map(|s| format!("{} ({})", s.engine, s.why));
    named.collect::<Vec<_>>().join(", ")
}
