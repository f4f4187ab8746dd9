//! daemon.json as it is, read strictly: dockerd takes no other.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::edit::json;
use crate::error::Error;
use crate::host::Host;

/// The file as it is.
pub struct DaemonJson {
    /// Where it is.
    pub path: PathBuf,
    pub(super) text: Option<String>,
    value: Value,
}

impl DaemonJson {
    /// Reads it; one that is missing or empty is `{}`.
    pub fn read(host: &Host, path: &Path) -> Result<Self, Error> {
        let text = host.text(path)?;
        let value = match text.as_deref().filter(|t| !t.trim().is_empty()) {
            Some(text) => json::parse(text).map_err(|e| strict(path, &e.to_string()))?,
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

    /// Whether this is all it says.
    pub fn is(&self, whole: &Value) -> bool {
        self.value == *whole
    }

    /// Where it makes the daemon listen.
    pub fn hosts(&self) -> Vec<&str> {
        let hosts = self.get(&["hosts"]).and_then(Value::as_array);
        let hosts = hosts.into_iter().flatten();
        hosts.filter_map(Value::as_str).collect()
    }

    /// Runtimes with the programs it names for them.
    pub fn runtimes(&self) -> impl Iterator<Item = (&str, &str)> {
        let runtimes = self.get(&["runtimes"]).and_then(Value::as_object);
        let runtimes = runtimes.into_iter().flatten();
        runtimes.filter_map(|(name, r)| Some((name.as_str(), r.get("path")?.as_str()?)))
    }
}

/// Why the file cannot be edited, with what to do.
pub(super) fn strict(path: &Path, why: &str) -> Error {
    Error::Config {
        path: path.to_owned(),
        why: why.to_owned(),
        fix: "dockerd reads strict JSON; mend the file, then run this again. Nothing was changed."
            .into(),
    }
}
