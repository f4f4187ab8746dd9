//! Reads what can be read of a policy's file that cannot be used as a whole. Such a policy must never decide what a
//! container is given: it only tells the containers that ask for GPUs from those that do not, and names the low-level
//! runtimes.

use std::path::Path;

use gpu_host::Root;
use serde::Deserialize;
use toml::de::DeTable;
use toml::{Deserializer, Table};

use super::file::PolicyFile;
use super::{MAX_FILE, Policy};

impl Policy {
    /// The defaults, with the keys of this file that have a usable value and that say how containers ask for GPUs, which
    /// low-level runtimes there are, and where the runtime logs. The file may have any content, or none that can be
    /// read.
    pub fn salvaged(root: &Root, path: &Path) -> Self {
        let bytes = root.read_limited(path, MAX_FILE).unwrap_or_default();
        Self::salvaged_from(&String::from_utf8_lossy(&bytes), path)
    }

    pub(super) fn salvaged_from(text: &str, path: &Path) -> Self {
        let (table, _errors) = DeTable::parse_recoverable(text);
        let table = Table::deserialize(Deserializer::from(table)).unwrap_or_default();
        let file = PolicyFile {
            table: &table,
            path,
        };
        let usual = Self::default();
        let runtime = |key: &str| format!("nvidia-container-runtime.{key}");
        let listed = |key: &str| file.list(key).ok().flatten().unwrap_or_default();
        let and = |mut list: Vec<String>, more: Vec<String>| {
            list.retain(|text| !text.is_empty());
            list.extend(more);
            list
        };
        Self {
            path: path.to_owned(),
            swarm_resource: file.names("swarm-resource").unwrap_or_default(),
            debug: file.log(&runtime("debug")).ok().flatten(),
            runtimes: and(listed(&runtime("runtimes")), usual.runtimes),
            annotation_prefixes: and(
                listed(&runtime("modes.cdi.annotation-prefixes")),
                usual.annotation_prefixes,
            ),
            ..Self::default()
        }
    }
}
