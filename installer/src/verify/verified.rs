//! The result of one container, and whether it is as expected.

use probe_report::DriverAnswers;
use serde::Serialize;

use super::driver::{self, OnHost};
use super::probe_report::{DenialCounts, ImageLibrary, ProbeReport};
use crate::engines::engine::{Case, Gets};

/// The result of one container.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// The engine.
    pub engine: String,
    /// How the container requested GPUs: `--gpus all`.
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
    /// What it saw, as text.
    pub detail: String,
    /// The libraries that the image's loader finds.
    pub libraries: Vec<ImageLibrary>,
    /// The attempts to open GPUs that it was not given.
    pub denied: DenialCounts,
    /// What the driver's own programs answered in it.
    pub driver: Option<DriverAnswers>,
    /// What is wrong with them.
    pub driver_trouble: Option<String>,
    /// Whether it kept its GPUs; `None` if it had none.
    pub reload: Option<Reload>,
}

/// A container that could not be verified.
#[derive(Clone, Debug, Serialize)]
pub struct Unverified {
    /// The engine.
    pub engine: String,
    /// How the container would have requested GPUs; empty if no container runs in this engine.
    pub how: String,
    /// The reason.
    pub why: String,
}

/// The result of all engines.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The results of the containers.
    pub verified: Vec<Verified>,
    /// What was set up and could not be verified.
    pub not_verified: Vec<Unverified>,
    /// Things that work now but not later.
    pub caveats: Vec<String>,
    /// Engines in which nothing is set up that a container could show.
    pub no_container: Vec<String>,
}

impl Outcome {
    /// Removes the results of an engine that was rolled back since.
    pub fn leave_out(&mut self, engine: &str) {
        self.verified.retain(|v| v.engine != engine);
        self.not_verified.retain(|n| n.engine != engine);
    }

    /// Whether a container failed.
    pub fn is_bad(&self) -> bool {
        let is_bad = |v: &Verified| !v.ok || v.loss().is_some() || v.driver_trouble.is_some();
        self.verified.iter().any(is_bad)
    }

    /// The names of the engines that were not verified completely.
    pub fn engines_not_verified(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .not_verified
            .iter()
            .map(|n| n.engine.as_str())
            .collect();
        names.dedup();
        names
    }

    /// The reasons why something was not verified, each with the engines that it applies to: `containerd: no engine
    /// answers`.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> = Vec::new();
        for one in &self.not_verified {
            let reason = format!("{}: {}", one.engine, one.why);
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }
}

/// Whether a container keeps its GPUs after a `systemctl daemon-reload`.
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
            driver: None,
            driver_trouble: None,
            reload: None,
        }
    }

    pub(super) fn judge(&mut self, report: &ProbeReport, gets: Gets, on_host: OnHost) {
        let wrong = report.fault(gets);
        self.ran = true;
        self.gpus = report.open_gpus();
        self.libraries = report.libraries();
        self.denied = report.denied();
        self.driver = report.driver().cloned().filter(|_| gets == Gets::Gpus);
        let trouble = |d| driver::trouble(d, on_host);
        self.driver_trouble = self.driver.as_ref().and_then(trouble);
        self.ok = wrong.is_none() && self.gpus == self.expected;
        self.detail = wrong.unwrap_or_else(|| {
            let denied = match &self.denied.not_tried {
                None => format!("{} others refused", self.denied.refused),
                Some(why) => format!("others not tried: {why}"),
            };
            if gets != Gets::Gpus && self.gpus == 0 {
                return format!("no GPU, {denied}");
            }
            let libraries = self.libraries.len();
            let works = self.driver.as_ref().and_then(driver::works);
            let works = works.map_or(String::new(), |works| format!(", {works}"));
            format!(
                "{} of {} GPUs, {libraries} libraries, {denied}{works}",
                self.gpus, self.expected
            )
        });
    }

    pub(super) fn compare_after_reload(&self, again: &ProbeReport) -> Reload {
        let gpus = again.open_gpus();
        let gets = if self.expected > 0 {
            Gets::Gpus
        } else {
            Gets::Nothing
        };
        if gpus == self.gpus && again.fault(gets).is_none() {
            return Reload::Ok;
        }
        Reload::Failed(format!(
            "{gpus} of {} GPUs are left after systemctl daemon-reload",
            self.gpus
        ))
    }

    /// Whether it ran and reported what it sees.
    pub(super) fn ran(&self) -> bool {
        self.ran
    }

    /// The failure, if it lost GPUs that it had.
    pub fn loss(&self) -> Option<&str> {
        match &self.reload {
            Some(Reload::Failed(why)) => Some(why),
            _ => None,
        }
    }
}

/// The result of an engine in which no container ran at all, neither with a GPU nor without.
pub fn dead(verified: &[Verified]) -> Option<&Verified> {
    verified.iter().find(|v| {
        v.how.ends_with(Case::PLAIN) && verified.iter().all(|o| o.engine != v.engine || !o.ran)
    })
}
