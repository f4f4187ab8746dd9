//! Reads what Docker keeps about a container in its data directory, for a Docker that does not run or that is somebody
//! else's: `hostconfig.json` has what was asked for, `config.v2.json` the name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::daemon_json::DaemonJson;
use crate::host::Host;
use crate::host::systemd_unit::Unit;
use crate::model::setup_options::SetupOptions;

/// The file beside `hostconfig.json` that has the container's name.
pub const ABOUT: &str = "config.v2.json";

/// The system's Docker keeps its containers here unless its configuration names another directory.
pub const DATA_ROOT: &str = "/var/lib/docker";

/// dockerd's data directory: by its flags, its configuration, or the usual one.
pub fn data_root(unit: &Unit, file: Option<&DaemonJson>, usual: &Path) -> PathBuf {
    let by_flag = ["--data-root", "--graph", "-g"]
        .iter()
        .find_map(|f| unit.flag(f));
    let by_file = || {
        let root = file?.get(&["data-root"]).or(file?.get(&["graph"]))?;
        Some(root.as_str()?.to_owned())
    };
    by_flag
        .or_else(by_file)
        .map_or_else(|| usual.to_owned(), PathBuf::from)
}

/// What was asked for when a container was made.
#[derive(Clone, Debug)]
pub struct StoredContainer {
    host_config: Value,
}

impl StoredContainer {
    /// Parses a `hostconfig.json`.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(|host_config| Self { host_config })
    }

    /// Whether it has a CDI device of our spec.
    pub fn has_cdi_device(&self) -> bool {
        self.requests().any(|request| {
            let ids = request["DeviceIDs"].to_string();
            request["Driver"] == "cdi" && ids.contains("nvidia.com/gpu")
        })
    }

    /// Whether Docker starts it when Docker starts.
    pub fn has_restart_policy(&self) -> bool {
        let policy = self.host_config["RestartPolicy"]["Name"].as_str();
        matches!(policy, Some("always" | "unless-stopped" | "on-failure"))
    }

    /// How it asks for GPUs, if it does: it could not start without our setup.
    pub fn need(&self) -> Option<String> {
        let runtime = self.host_config["Runtime"].as_str().unwrap_or_default();
        need(runtime, self.requests())
    }

    fn requests(&self) -> impl Iterator<Item = &Value> {
        self.host_config["DeviceRequests"]
            .as_array()
            .into_iter()
            .flatten()
    }
}

/// How a container with this runtime and these device requests asks for GPUs.
pub fn need<'a>(runtime: &str, mut requests: impl Iterator<Item = &'a Value>) -> Option<String> {
    let is_for_gpus = |request: &Value| {
        let is_cdi = request["Driver"] == "cdi"
            && request["DeviceIDs"].to_string().contains("nvidia.com/gpu");
        is_cdi || request["Capabilities"].to_string().contains("\"gpu\"")
    };
    if runtime == SetupOptions::default().runtime_name {
        Some(format!("--runtime {runtime}"))
    } else if requests.any(is_for_gpus) {
        Some("--gpus or --device".to_owned())
    } else {
        None
    }
}

/// The name in a `config.v2.json`.
pub fn name(about: &str) -> Option<String> {
    let about: Value = serde_json::from_str(about).ok()?;
    Some(about["Name"].as_str()?.trim_start_matches('/').to_owned())
}

/// The containers below a data directory with their names, or why they are not known.
pub fn all(host: &Host, data_root: &Path) -> Result<Vec<(String, StoredContainer)>, String> {
    let dir = data_root.join("containers");
    let root = host.root();
    let why = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let ids = match root.read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        ids => ids.map_err(|e| why(&dir, &e))?,
    };
    let mut containers = Vec::new();
    for id in ids {
        let path = dir.join(&id).join("hostconfig.json");
        let text = match root.read_to_string(&path) {
            // One that is being made or removed, or a file that Docker has not put there.
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            text => text.map_err(|e| why(&path, &e))?,
        };
        let container = StoredContainer::parse(&text).map_err(|e| why(&path, &e))?;
        let about = root.read_to_string(dir.join(&id).join(ABOUT)).ok();
        let name = about.and_then(|text| name(&text));
        containers.push((
            name.unwrap_or_else(|| id.to_string_lossy().into_owned()),
            container,
        ));
    }
    containers.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(containers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_asked_for_is_in_hostconfig_json() {
        let need = |text: &str| StoredContainer::parse(text).unwrap().need();
        assert_eq!(
            need("{\"Runtime\": \"nvidia\"}").as_deref(),
            Some("--runtime nvidia")
        );
        assert!(
            need("{\"Runtime\": \"runc\", \"DeviceRequests\": [{\"Capabilities\": [[\"gpu\"]]}]}")
                .is_some()
        );
        assert_eq!(
            need("{\"Runtime\": \"runc\", \"DeviceRequests\": null}"),
            None
        );
    }

    #[test]
    fn a_container_that_cannot_be_read_makes_them_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let all = || all(&host, Path::new("/var/lib/docker"));
        assert!(all().unwrap().is_empty());
        let containers = dir.path().join("var/lib/docker/containers");
        let write = |id: &str, file: &str, text: &str| {
            fs::create_dir_all(containers.join(id)).unwrap();
            fs::write(containers.join(id).join(file), text).unwrap();
        };
        write("a", "hostconfig.json", "{\"Runtime\": \"nvidia\"}");
        write("a", ABOUT, "{\"Name\": \"/web\"}");
        write("half", "checkpoint", "");
        let names: Vec<String> = all().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["web"]);
        write("b", "hostconfig.json", "{");
        assert!(all().is_err());
    }
}
