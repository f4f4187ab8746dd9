//! The result of one container, and whether it is as expected.

use serde::Serialize;

use super::probe_report::{DenialCounts, ImageLibrary, ProbeReport};
use crate::engines::engine::Case;

/// The result of one container.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// The engine.
    pub engine: String,
    /// How the container asked for GPUs: `--gpus all`.
    pub how: String,
    /// The number of GPUs whose nodes it could open.
    pub gpus: usize,
    /// The number of GPUs it should see.
    pub expected: usize,
    /// Whether it ran and reported what it sees.
    #[serde(skip)]
    ran: bool,
    /// Whether it ran, saw what it should, and nothing else is wrong.
    pub ok: bool,
    /// What it saw, in words.
    pub detail: String,
    /// The libraries that the image's loader finds.
    pub libraries: Vec<ImageLibrary>,
    /// The attempts to open GPUs that it was not given.
    pub denied: DenialCounts,
    /// Whether it kept its GPUs; `None` if it had none.
    pub reload: Option<Reload>,
}

/// Whether a container keeps its GPUs over a `systemctl daemon-reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "why")]
pub enum Reload {
    /// It sees the same as before.
    Ok,
    /// It does not see the same as before.
    Failed(String),
    /// Unknown: it was not tried.
    NotTried(String),
}

impl Verified {
    pub(super) fn nothing(engine: &str, case: &Case, expected: usize) -> Self {
        Self {
            engine: engine.to_owned(),
            how: case.how.clone(),
            gpus: 0,
            expected,
            ran: false,
            ok: false,
            detail: String::new(),
            libraries: Vec::new(),
            denied: DenialCounts {
                not_tried: Some("no container ran".into()),
                ..DenialCounts::default()
            },
            reload: None,
        }
    }

    pub(super) fn judge(&mut self, report: &ProbeReport, gets: bool) {
        let wrong = report.fault(gets);
        self.ran = true;
        self.gpus = report.open_gpus();
        self.libraries = report.libraries();
        self.denied = report.denied();
        self.ok = wrong.is_none() && self.gpus == self.expected;
        self.detail = wrong.unwrap_or_else(|| {
            let denied = match &self.denied.not_tried {
                None => format!("{} others refused", self.denied.refused),
                Some(why) => format!("others not tried: {why}"),
            };
            if !gets && self.gpus == 0 {
                return format!("no GPU, {denied}");
            }
            let libraries = self.libraries.len();
            format!(
                "{} of {} GPUs, {libraries} libraries, {denied}",
                self.gpus, self.expected
            )
        });
    }

    pub(super) fn compare_after_reload(&self, again: &ProbeReport) -> Reload {
        let gpus = again.open_gpus();
        if gpus == self.gpus && again.fault(self.expected > 0).is_none() {
            return Reload::Ok;
        }
        Reload::Failed(format!(
            "{gpus} of {} GPUs are left after systemctl daemon-reload",
            self.gpus
        ))
    }

    /// The failure, if it lost GPUs that it had.
    pub fn loss(&self) -> Option<&str> {
        match &self.reload {
            Some(Reload::Failed(why)) => Some(why),
            _ => None,
        }
    }
}

/// The result of an engine in which no container ran at all, with a GPU or without.
pub fn dead(verified: &[Verified]) -> Option<&Verified> {
    verified
        .iter()
        .find(|v| v.how == Case::PLAIN && verified.iter().all(|o| o.engine != v.engine || !o.ran))
}
