//! The errors of this crate: invalid CDI documents and requests.

use std::path::PathBuf;

use crate::Excerpt;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A spec file or directory cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error from reading.
        source: std::io::Error,
    },
    /// The document is neither YAML nor JSON, or has another structure.
    #[error("not a CDI spec: {0}")]
    Syntax(String),
    /// The document is well-formed but violates the specification.
    #[error("CDI spec: {key}: {why}")]
    Invalid {
        /// The place in the document, such as `devices[0].containerEdits.hooks[1]`.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A device name is not `vendor/class=device`.
    #[error("{0:?} is not a CDI device name such as nvidia.com/gpu=0")]
    Name(Excerpt),
    /// No spec has the device.
    #[error("no CDI spec has the device {name}")]
    Unknown {
        /// The name as requested.
        name: Excerpt,
    },
    /// Two specs in the same directory define the same device, so neither may be used.
    #[error("the device {name} is defined twice, in {} and in {}; remove one of the two files", first.display(), second.display())]
    Conflict {
        /// The device.
        name: Excerpt,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A device node of a spec cannot be used.
    #[error("device node {path}: {why}")]
    Node {
        /// Path on the host.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A value in the OCI config has another type than the specification says.
    #[error("config.json: {0} is not of the type the OCI specification gives it")]
    Config(&'static str),
}
