//! Engines that a run leaves as they were while it sets up the others.

use serde::Serialize;

/// An engine that was not set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub engine: String,
    /// Whether the run has tried it.
    pub reason: SkipReason,
    /// The reason in words.
    pub why: String,
    /// What to do about it, if that is known. In the document it is a part of the top-level `fix`.
    #[serde(skip)]
    pub fix: Option<String>,
}

/// Whether an engine was skipped before or after the run tried to set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// It did not run before, and was not started.
    DoesNotRun,
    /// It could not be set up, and was rolled back.
    Failed,
}

/// `docker (it does not run), crio (...)`
pub fn listed(skipped: &[Skipped]) -> String {
    let named = skipped.iter().map(|s| format!("{} ({})", s.engine, s.why));
    named.collect::<Vec<_>>().join(", ")
}
