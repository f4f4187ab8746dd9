//! The policy file, /etc/nvidia-container-runtime/config.toml: its text and the policy parsed from it.

use std::path::Path;

use gpu_host::Root;
use gpu_inject::policy::{MAX_FILE, PATH, Policy};

use crate::error::Error;

/// The text and the policy of the file.
#[derive(Clone, Debug)]
pub struct HostPolicy {
    /// Its text; `None` if the file does not exist.
    pub text: Option<String>,
    /// The policy that applies when a container starts.
    pub policy: Policy,
}

impl HostPolicy {
    /// Reads the file as it is now.
    pub fn read(root: &Root) -> Result<Self, Error> {
        let path = Path::new(PATH);
        // A longer one is refused at a container's start too.
        let text = match root.read_text_limited(path, MAX_FILE) {
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
