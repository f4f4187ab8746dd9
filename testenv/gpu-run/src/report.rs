//! The report: the tried ways and how each went, as JSON and as text.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Version of the JSON report; readers refuse versions that they do not know.
pub(crate) const SCHEMA: u32 = 1;
/// The row that says whether the run changed the host.
pub(crate) const HOST_UNCHANGED_ROW: &str = "the host is as before";

/// How a row went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "why", rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Ok,
    /// It was tried, and the outcome is wrong.
    Failed(String),
    /// It was tried, and the outcome is incomplete: the GPU is there, but nothing was computed.
    NotVerified(String),
    /// It was not tried.
    NotRun(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(_) => "FAILED",
            Self::NotVerified(_) => "not verified",
            Self::NotRun(_) => "not run",
        }
    }

    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Ok => "",
            Self::Failed(why) | Self::NotVerified(why) | Self::NotRun(why) => why,
        }
    }
}

/// One tried way, or another check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The group that the row belongs to: `docker`, `podman`, `shim on runc`, `host`.
    pub(crate) group: String,
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// How long it took, if it was run.
    pub(crate) ms: Option<f64>,
}

/// Timed starts of one way, compared with plain containers of the same engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) group: String,
    pub(crate) way: String,
    pub(crate) rounds: usize,
    pub(crate) median_ms: f64,
    pub(crate) plain_median_ms: f64,
    /// The median of the differences: this way less the plain start of the same round.
    pub(crate) added_median_ms: f64,
    pub(crate) ratio: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gpu {
    pub(crate) index: u32,
    pub(crate) minor: u32,
    pub(crate) model: String,
    pub(crate) uuid: String,
    pub(crate) pci: String,
    /// How many slices (compute instances) it has; a partitioned GPU is requested by its slices.
    pub(crate) slices: usize,
}

/// The host that the report is about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) distribution: String,
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    pub(crate) processors: usize,
    pub(crate) memory_mib: u64,
    pub(crate) cgroup: String,
    pub(crate) systemd: bool,
    /// Version of the kernel module.
    pub(crate) driver: Option<String>,
    /// The CUDA version of the driver's libcuda, such as 13.0.
    pub(crate) cuda: Option<String>,
    pub(crate) gpus: Vec<Gpu>,
    /// Programs, each with the version that it prints.
    pub(crate) programs: Vec<(String, String)>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) date: String,
    /// Whether the GPUs were the fake driver's: such a report says nothing about hardware.
    pub(crate) fake_driver: bool,
    pub(crate) host: Host,
    pub(crate) rows: Vec<Row>,
    pub(crate) times: Vec<Times>,
    pub(crate) seconds: f64,
    /// The exit code of the program that wrote it.
    pub(crate) exit_code: u8,
}

pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Report {
    pub(crate) fn count(&self, word: &str) -> usize {
        self.rows
            .iter()
            .filter(|r| r.verdict.word() == word)
            .count()
    }

    /// The exit code: 0 all rows are ok, 2 a row failed, 3 the host has changed, 7 nothing failed but some rows were
    /// not shown.
    pub(crate) fn code(&self) -> u8 {
        let is_host_changed = self.rows.iter().any(|r| {
            r.group == "after" && r.name == HOST_UNCHANGED_ROW && r.verdict != Verdict::Ok
        });
        if is_host_changed {
            3
        } else if self.count("FAILED") > 0 {
            2
        } else if self.rows.iter().all(|r| r.verdict == Verdict::Ok) && !self.rows.is_empty() {
            0
        } else {
            7
        }
    }

    pub(crate) fn text(&self) -> String {
        let host = &self.host;
        let driver = host.driver.as_deref().unwrap_or("none");
        let cuda = host
            .cuda
            .as_ref()
            .map_or_else(String::new, |c| format!(", CUDA {c}"));
        let mut text = format!("gpusetup on a GPU, {}\n\n", self.date);
        if self.fake_driver {
            text += "THE FAKE DRIVER: nothing here is about hardware.\n\n";
        }
        text += &format!(
            "host      {}, kernel {}, {}, {} processors, {} MiB, cgroup {}, {}\ndriver    {driver}{cuda}\n",
            host.distribution,
            host.kernel,
            host.architecture,
            host.processors,
            host.memory_mib,
            host.cgroup,
            if host.systemd {
                "systemd"
            } else {
                "no systemd"
            },
        );
        for gpu in &host.gpus {
            let slices = if gpu.slices > 0 {
                format!(", {} slices", gpu.slices)
            } else {
                String::new()
            };
            text += &format!(
                "GPU {}     {}, {}, {}{slices}\n",
                gpu.index, gpu.model, gpu.pci, gpu.uuid
            );
        }
        for (name, version) in &host.programs {
            text += &format!("{name:<9} {version}\n");
        }
        text += &self.rows_text();
        text += &self.times_text();
        text += &format!("\n{}\n", self.summary());
        text
    }

    fn rows_text(&self) -> String {
        let mut text = String::new();
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = &row.group;
                text += &format!("\n{group}\n");
            }
            text += &line(row);
        }
        text
    }

    fn times_text(&self) -> String {
        if self.times.is_empty() {
            return String::new();
        }
        let mut text = "\nA container that does nothing, from start to removal, beside a plain one of the same round; medians\n".to_owned();
        for t in &self.times {
            text += &format!(
                "  {:<16} {:<26} {:>8.1} ms, plain {:>8.1} ms, {:>+7.1} ms, ratio {:.2}, {} rounds\n",
                t.group,
                t.way,
                t.median_ms,
                t.plain_median_ms,
                t.added_median_ms,
                t.ratio,
                t.rounds
            );
        }
        text
    }

    pub(crate) fn summary(&self) -> String {
        let what = match self.code() {
            0 => "every way works",
            3 => "THE HOST IS NOT AS IT WAS",
            7 => "nothing failed, and not all of it was shown",
            _ => "not every way works",
        };
        format!(
            "{} ok, {} failed, {} not verified, {} not run, {:.0} s: {what}",
            self.count("ok"),
            self.count("FAILED"),
            self.count("not verified"),
            self.count("not run"),
            self.seconds
        )
    }
}

/// One row as a line of the text report.
pub(crate) fn line(row: &Row) -> String {
    let time = row.ms.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
    let why = row.verdict.why();
    let why = if why.is_empty() {
        String::new()
    } else {
        format!("  {why}")
    };
    format!(
        "  {:<44} {:<12} {time:>9}{why}\n",
        row.name,
        row.verdict.word()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[(&str, Verdict)]) -> Report {
        let rows = verdicts.iter().map(|(name, verdict)| Row {
            group: "after".into(),
            name: (*name).to_owned(),
            verdict: verdict.clone(),
            ms: Some(1.0),
        });
        Report {
            schema: SCHEMA,
            date: String::new(),
            fake_driver: false,
            host: Host::default(),
            rows: rows.collect(),
            times: Vec::new(),
            seconds: 1.0,
            exit_code: 0,
        }
    }

    #[test]
    fn the_code_is_that_of_the_worst_row() {
        let not_run = Verdict::NotRun("no docker".into());
        let not_verified = Verdict::NotVerified("no".into());
        let failed = Verdict::Failed("no".into());
        assert_eq!(report(&[("a", Verdict::Ok)]).code(), 0);
        assert_eq!(report(&[]).code(), 7);
        assert_eq!(
            report(&[("a", Verdict::Ok), ("b", not_run.clone())]).code(),
            7
        );
        assert_eq!(report(&[("a", not_verified)]).code(), 7);
        assert_eq!(report(&[("a", not_run), ("b", failed.clone())]).code(), 2);
        assert_eq!(
            report(&[("a", failed.clone()), (HOST_UNCHANGED_ROW, failed)]).code(),
            3
        );
    }

    #[test]
    fn a_row_reads_back_with_its_reason() {
        let rows = report(&[
            ("a", Verdict::NotRun("no docker".into())),
            ("b", Verdict::Ok),
        ])
        .rows;
        let text = serde_json::to_string(&rows).unwrap();
        let read: Vec<Row> = serde_json::from_str(&text).unwrap();
        assert_eq!(read[0].verdict, rows[0].verdict);
        assert_eq!(read[1].verdict, Verdict::Ok);
    }
}
