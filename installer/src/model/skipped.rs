//! Engines that a run leaves as they were while it sets up the others.

use serde::Serialize;

use crate::error::Error;

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

impl Skipped {
    /// An engine that could not be set up. `more` is what else became of it.
    pub fn because(engine: &str, cause: &Error, more: Option<&str>) -> Self {
        let why = match cause {
            // The engine is named already.
            Error::Engine { fault, .. } => fault.to_string(),
            other => other.to_string(),
        };
        Self {
            engine: engine.to_owned(),
            reason: SkipReason::Failed,
            why: more.map_or(why.clone(), |more| format!("{why}; {more}")),
            fix: cause.fix().map(|fix| of_engine(&fix)),
        }
    }
}

/// Without the end that says that nothing was changed: that is so of this engine, and not of the run.
fn of_engine(fix: &str) -> String {
    let ends = [". Nothing was changed.", "; nothing was changed"];
    let short = ends.iter().find_map(|end| fix.strip_suffix(end));
    short.unwrap_or(fix).to_owned()
}

/// Whether an engine was skipped before or after the run tried to set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// It did not run before, and was not started.
    DoesNotRun,
    /// It could not be set up; what was written for it is put back.
    Failed,
}

/// `docker (it does not run), crio (...)`
pub fn listed(skipped: &[Skipped]) -> String {
    let named = skipped.iter().map(|s| format!("{} ({})", s.engine, s.why));
    named.collect::<Vec<_>>().join(", ")
}
