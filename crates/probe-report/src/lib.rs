//! The report about GPUs as seen from inside a container: one line of JSON, which
//! `gpu-container probe` writes and `gpusetup verify` evaluates.
//!
//! Fields that are evaluated are required. Others may be missing, as in the report of another
//! version.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The number of the format that is written.
pub const SCHEMA: u32 = 1;

/// The report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    #[serde(default)]
    pub schema: u32,
    /// The nodes below /dev, and whether they can be opened.
    pub nodes: Vec<ReportedNode>,
    /// The result of trying to open GPUs that the container was not given.
    pub denied: ReportedDenials,
    /// The libraries in the loader's cache.
    pub libraries: Vec<ReportedLibrary>,
    /// Whether `/usr/bin/nvidia-smi` exists.
    #[serde(default)]
    pub nvidia_smi: bool,
    /// `NVIDIA_VISIBLE_DEVICES`, if it is set.
    pub visible_devices: Option<String>,
    /// The results of the driver's own programs; `None` in a container without GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverAnswers>,
}

/// The results of the driver's own programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverAnswers {
    /// `nvidia-smi -L`.
    pub nvidia_smi: ProgramAnswer,
    /// A program that initializes CUDA.
    pub cuda: ProgramAnswer,
}

/// The result of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "says")]
pub enum ProgramAnswer {
    /// The program does not exist.
    Missing,
    /// The file is not an executable program but a script or something else.
    NoProgram,
    /// It could not be started, or it did not end in time.
    NotRun(String),
    /// It failed; the last line that it printed.
    Failed(String),
    /// It succeeded; the number of lines that it printed, and the first of them.
    Ok(usize, String),
}

/// A device node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedNode {
    /// Path in the container.
    pub path: PathBuf,
    /// Major device number.
    #[serde(default)]
    pub major: u64,
    /// Minor device number.
    #[serde(default)]
    pub minor: u64,
    /// The result of opening it: `ok`, or the name of the error.
    pub open: String,
}

/// The result of opening GPUs for which the container has no node, with nodes made for the test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedDenials {
    /// The minors for which a node could be made and the result of opening it was conclusive.
    pub tried: Vec<u64>,
    /// The minors that could be opened. Must be empty.
    pub leaked: Vec<u64>,
    /// Why no node could be made, such as `EPERM` without `CAP_MKNOD`. The test then shows nothing.
    pub mknod: Option<String>,
}

/// A library in the loader's cache. (The libraries to mount are gpu-inject's `Library`.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLibrary {
    /// The SONAME.
    pub name: String,
    /// Path in the container.
    pub path: PathBuf,
    /// Whether the file exists. The cache may list files that are not mounted.
    pub exists: bool,
}

/// The line that is written instead of a report if nothing is known about an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotVerified {
    /// The reason.
    pub not_verified: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = Report {
            schema: SCHEMA,
            nodes: vec![ReportedNode {
                path: "/dev/nvidia0".into(),
                major: 195,
                minor: 0,
                open: "ok".into(),
            }],
            denied: ReportedDenials {
                tried: vec![1],
                leaked: Vec::new(),
                mknod: Some("EPERM".into()),
            },
            libraries: vec![ReportedLibrary {
                name: "libcuda.so.1".into(),
                path: "/lib/libcuda.so.1".into(),
                exists: true,
            }],
            nvidia_smi: true,
            visible_devices: None,
            driver: None,
        };
        let line = concat!(
            r#"{"schema":1,"nodes":[{"path":"/dev/nvidia0","major":195,"minor":0,"open":"ok"}],"#,
            r#""denied":{"tried":[1],"leaked":[],"mknod":"EPERM"},"#,
            r#""libraries":[{"name":"libcuda.so.1","path":"/lib/libcuda.so.1","exists":true}],"#,
            r#""nvidia_smi":true,"visible_devices":null}"#,
        );
        assert_eq!(serde_json::to_string(&report).unwrap(), line);
        assert_eq!(serde_json::from_str::<Report>(line).unwrap(), report);
    }

    #[test]
    fn fields_that_are_evaluated_are_required() {
        let least = r#"{"nodes":[{"path":"/dev/nvidia0","open":"ok"}],"denied":{"tried":[],"leaked":[]},"libraries":[]}"#;
        assert_eq!(serde_json::from_str::<Report>(least).unwrap().schema, 0);
        for part in ["nodes", "denied", "libraries", "open", "leaked"] {
            let without = least.replace(part, "other");
            assert!(serde_json::from_str::<Report>(&without).is_err(), "{part}");
        }
    }
}
