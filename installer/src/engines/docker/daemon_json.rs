//! Reads daemon.json as strict JSON, like dockerd.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::edit::json;
use crate::error::Error;
use crate::error::config_fault::{ConfigFault, ConfigReader};
use crate::error::edit_error::EditError;
use crate::host::Host;

/// The file daemon.json as it was read.
pub struct DaemonJson {
    /// Its path.
    pub path: PathBuf,
    pub(super) text: Option<String>,
    value: Value,
}

impl DaemonJson {
    /// Reads the file; a missing or empty file counts as `{}`.
    pub fn read(host: &Host, path: &Path) -> Result<Self, Error> {
        let text = host.text(path)?;
        let value = match text.as_deref().filter(|t| !t.trim().is_empty()) {
            Some(text) => json::parse(text).map_err(|e| strict(path, e))?,
            None => json!({}),
        };
        Ok(Self {
            path: path.to_owned(),
            text,
            value,
        })
    }

    /// The value at a key path.
    pub fn get(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().try_fold(&self.value, |at, key| at.get(key))
    }

    /// Whether this is its whole content.
    pub fn equals(&self, whole: &Value) -> bool {
        self.value == *whole
    }

    /// The addresses on which it makes the daemon listen.
    pub fn hosts(&self) -> Vec<&str> {
        let hosts = self.get(&["hosts"]).and_then(Value::as_array);
        let hosts = hosts.into_iter().flatten();
        hosts.filter_map(Value::as_str).collect()
    }

    /// The runtimes, each with its program.
    pub fn runtimes(&self) -> impl Iterator<Item = (&str, &str)> {
        let runtimes = self.get(&["runtimes"]).and_then(Value::as_object);
        let runtimes = runtimes.into_iter().flatten();
        runtimes.filter_map(|(name, r)| Some((name.as_str(), r.get("path")?.as_str()?)))
    }
}

/// The error that says why the file cannot be edited, and what to do.
pub(super) fn strict(path: &Path, why: EditError) -> Error {
    Error::config(path, ConfigFault::text(ConfigReader::Dockerd)(why))
}
