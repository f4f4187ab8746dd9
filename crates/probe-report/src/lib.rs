//! What the probe in a container says of GPUs: one line of JSON, which `gpu-container probe` writes
//! and `gpusetup verify` judges.
//!
//! What is judged has to be there; the rest may be missing, as it is in a line of another version.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The format that is written.
pub const SCHEMA: u32 = 1;

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    #[serde(default)]
    pub schema: u32,
    /// Nodes below /dev, and whether they open.
    pub nodes: Vec<Node>,
    /// GPUs that the container was not given.
    pub denied: Denied,
    /// What the loader's cache names.
    pub libraries: Vec<Library>,
    /// Whether `/usr/bin/nvidia-smi` is there.
    #[serde(default)]
    pub nvidia_smi: bool,
    /// `NVIDIA_VISIBLE_DEVICES`, where it is set.
    pub visible_devices: Option<String>,
}

/// A device node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where the container has it.
    pub path: PathBuf,
    /// Device number.
    #[serde(default)]
    pub major: u64,
    /// Device number.
    #[serde(default)]
    pub minor: u64,
    /// `ok`, or the name of the error.
    pub open: String,
}

/// How opening GPUs went that the container has no node of, by nodes made there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Minors for which a node could be made and its opening was answered.
    pub tried: Vec<u64>,
    /// Those that open. Must be empty.
    pub leaked: Vec<u64>,
    /// Why no node could be made, `EPERM` without `CAP_MKNOD`: then nothing was learnt.
    pub mknod: Option<String>,
}

/// A library that the loader's cache names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// The name it is looked up by.
    pub name: String,
    /// Where it is in the container.
    pub path: PathBuf,
    /// Whether the file is there; the cache may name what is not mounted.
    pub exists: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_as_it_was_written() {
        let report = Report {
            schema: SCHEMA,
            nodes: vec![Node {
                path: "/dev/nvidia0".into(),
                major: 195,
                minor: 0,
                open: "ok".into(),
            }],
            denied: Denied {
                tried: vec![1],
                leaked: Vec::new(),
                mknod: Some("EPERM".into()),
            },
            libraries: vec![Library {
                name: "libcuda.so.1".into(),
                path: "/lib/libcuda.so.1".into(),
                exists: true,
            }],
            nvidia_smi: true,
            visible_devices: None,
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
    fn what_is_judged_has_to_be_there() {
        let least = r#"{"nodes":[{"path":"/dev/nvidia0","open":"ok"}],"denied":{"tried":[],"leaked":[]},"libraries":[]}"#;
        assert_eq!(serde_json::from_str::<Report>(least).unwrap().schema, 0);
        for part in ["nodes", "denied", "libraries", "open", "leaked"] {
            let without = least.replace(part, "other");
            assert!(serde_json::from_str::<Report>(&without).is_err(), "{part}");
        }
    }
}
