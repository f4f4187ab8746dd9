//! What can be wrong with a CDI document or a request.

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
        /// What reading said.
        source: std::io::Error,
    },
    /// Neither YAML nor JSON, or of another shape.
    #[error("not a CDI spec: {0}")]
    Syntax(String),
    /// Well-formed but against the specification.
    #[error("CDI spec: {key}: {why}")]
    Invalid {
        /// Where in the document, `devices[0].containerEdits.hooks[1]`.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A name that is not `vendor/class=device`.
    #[error("{0:?} is not a CDI device name such as nvidia.com/gpu=0")]
    Name(Excerpt),
    /// A device no spec has.
    #[error("no CDI spec has the device {name}; `gpusetup cdi list` shows those there are")]
    Unknown {
        /// As asked for.
        name: Excerpt,
    },
    /// Specs of the same directory that define the same device cancel each other out.
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
        /// On the host.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The OCI config has something else where an object or a list must be.
    #[error("config.json: {0} is not of the type the OCI specification gives it")]
    Config(&'static str),
}
