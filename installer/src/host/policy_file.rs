//! The policy file, /etc/nvidia-container-runtime/config.toml: its text with what that says.

use std::path::Path;

use gpu_host::Root;
use gpu_inject::policy::{PATH, Policy};

use crate::error::Error;

/// The file as it was read.
#[derive(Clone, Debug)]
pub struct HostPolicy {
    /// Its text; `None` if there is no such file.
    pub text: Option<String>,
    /// What applies when a container starts.
    pub policy: Policy,
}

impl HostPolicy {
    /// Reads the file as it is now.
    pub fn read(root: &Root) -> Result<Self, Error> {
        let path = Path::new(PATH);
        let text = match root.read_to_string(path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::file(path, "read")(e)),
        };
        let policy = match &text {
            Some(text) => Policy::from_toml(text, path)?,
            None => Policy::default(),
        };
        Ok(Self { text, policy })
    }
}
