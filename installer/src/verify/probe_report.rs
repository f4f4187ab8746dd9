//! Judges the report of the probe in a container.

use ::probe_report::{DriverAnswers, NotVerified, Report, ReportedNode};
use gpu_inject::policy::PATH;
use serde::Serialize;

use crate::engines::engine::Gets;

/// A report of the probe: one line of its output.
#[derive(Clone, Debug)]
pub struct ProbeReport(Report);

/// A library in the image's ld.so.cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageLibrary {
    /// The name by which it is looked up.
    pub name: String,
    /// Where it is in the container.
    pub path: String,
}

/// Attempts to open GPUs that the container was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DenialCounts {
    /// How many were tried.
    pub tried: usize,
    /// How many of them were refused.
    pub refused: usize,
    /// The reason if none could be tried.
    pub not_tried: Option<String>,
}

/// A line of the probe, or of the program that runs it.
#[derive(Clone, Debug)]
pub enum ProbeLine {
    /// A report.
    Report(ProbeReport),
    /// Why nothing can be reported.
    NotVerified(String),
}

impl ProbeLine {
    /// Parses a line of output; `None` for a line that the engine printed.
    pub fn parse(line: &str) -> Option<Self> {
        if let Some(report) = ProbeReport::parse(line) {
            return Some(Self::Report(report));
        }
        let reason: NotVerified = serde_json::from_str(line).ok()?;
        Some(Self::NotVerified(reason.not_verified))
    }
}

impl ProbeReport {
    fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(Self)
    }

    /// The number of GPU nodes that can be opened. ENXIO counts: the device rules allowed the open,
    /// and only the driver has no such device.
    pub fn open_gpus(&self) -> usize {
        let is_gpu = |node: &&ReportedNode| {
            let path = node.path.to_str().unwrap_or_default();
            let number = path.strip_prefix("/dev/nvidia").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        };
        let opens = |node: &&ReportedNode| matches!(node.open.as_str(), "ok" | "ENXIO");
        self.0.nodes.iter().filter(is_gpu).filter(opens).count()
    }

    /// What the driver's own programs answer in it.
    pub fn driver(&self) -> Option<&DriverAnswers> {
        self.0.driver.as_ref()
    }

    /// The libraries that the loader finds.
    pub fn libraries(&self) -> Vec<ImageLibrary> {
        let there = self.0.libraries.iter().filter(|l| l.exists);
        there
            .map(|l| ImageLibrary {
                name: l.name.clone(),
                path: l.path.display().to_string(),
            })
            .collect()
    }

    /// How many of the GPUs that it was not given were refused.
    pub fn denied(&self) -> DenialCounts {
        let tries = &self.0.denied;
        let why = || match tries.mknod.as_deref() {
            Some("EPERM") => "the container may not make device nodes".to_owned(),
            Some(other) => format!("no device node can be made in the container: {other}"),
            None => "no device node opens there, whatever it is".to_owned(),
        };
        DenialCounts {
            tried: tries.tried.len(),
            refused: tries.tried.len() - tries.leaked.len().min(tries.tried.len()),
            not_tried: tries.tried.is_empty().then(why),
        }
    }

    /// What is wrong with the container, if anything. `gets`: what it should get.
    pub fn fault(&self, gets: Gets) -> Option<String> {
        let leaked = &self.0.denied.leaked;
        if !leaked.is_empty() {
            let some: Vec<String> = leaked.iter().take(4).map(u64::to_string).collect();
            let more = if leaked.len() > 4 { ", …" } else { "" };
            return Some(format!(
                "the container can open {} GPUs it was not given: minor {}{more}",
                leaked.len(),
                some.join(", ")
            ));
        }
        if let Some(gone) = self.0.libraries.iter().find(|l| !l.exists) {
            return Some(format!(
                "the container's ld.so.cache names {}, which is not there",
                gone.path.display()
            ));
        }
        let has_cuda = self.0.libraries.iter().any(|l| l.name == "libcuda.so.1");
        match (gets, has_cuda) {
            (Gets::Gpus, false) => {
                Some("libcuda.so.1 is not in the container's ld.so.cache".into())
            }
            (Gets::Nothing, true) => {
                Some("a container that asks for nothing gets the driver".into())
            }
            (Gets::NothingByPolicy, true) => Some(format!(
                "the policy is not in force: a container that {PATH} does not let have GPUs gets {}; an engine with a copy of /etc from before reads it after a restart",
                self.open_gpus()
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(change: impl FnOnce(&mut Value)) -> ProbeReport {
        let mut document = json!({
            "schema": 1,
            "nodes": [
                {"path": "/dev/nvidia0", "major": 195, "minor": 0, "open": "ENXIO"},
                {"path": "/dev/nvidia1", "major": 195, "minor": 1, "open": "EPERM"},
                {"path": "/dev/nvidiactl", "major": 195, "minor": 255, "open": "ok"},
                {"path": "/dev/nvidia2", "major": 195, "minor": 2, "open": "ok"},
            ],
            "denied": {"tried": [1, 3], "leaked": [], "mknod": null},
            "libraries": [{"name": "libcuda.so.1", "path": "/lib/libcuda.so.1", "exists": true}],
        });
        change(&mut document);
        ProbeReport::parse(&document.to_string()).unwrap()
    }

    #[test]
    fn only_gpu_nodes_that_can_be_opened_count() {
        assert_eq!(report(|_| ()).open_gpus(), 2);
        assert_eq!(report(|_| ()).fault(Gets::Gpus), None);
        assert_eq!(report(|_| ()).libraries()[0].path, "/lib/libcuda.so.1");
    }

    #[test]
    fn each_fault_of_a_report_is_described() {
        let wrong = |gets, change: fn(&mut Value)| report(change).fault(gets).unwrap_or_default();
        assert!(
            wrong(Gets::Gpus, |s| s["denied"]["leaked"] = json!([3]))
                .contains("1 GPUs it was not given: minor 3")
        );
        assert!(
            wrong(Gets::Gpus, |s| s["libraries"][0]["exists"] = json!(false)).contains("not there")
        );
        assert!(wrong(Gets::Gpus, |s| s["libraries"] = json!([])).contains("libcuda.so.1"));
        assert!(wrong(Gets::Nothing, |_| ()).contains("asks for nothing"));
        let not_in_force = wrong(Gets::NothingByPolicy, |_| ());
        assert!(
            not_in_force.contains("the policy is not in force"),
            "{not_in_force}"
        );
    }

    #[test]
    fn an_untried_check_is_not_a_success() {
        assert_eq!(
            report(|_| ()).denied(),
            DenialCounts {
                tried: 2,
                refused: 2,
                not_tried: None
            }
        );
        let denied = report(|s| s["denied"] = json!({"tried": [], "leaked": [], "mknod": "EPERM"}));
        let why = denied.denied().not_tried.unwrap();
        assert!(why.contains("may not make device nodes"), "{why}");
        let denied = report(|s| s["denied"]["leaked"] = json!([3])).denied();
        assert_eq!((denied.tried, denied.refused), (2, 1));
    }
}
