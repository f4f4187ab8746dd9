//! Reads what Docker keeps about a container in its data directory, for a Docker that does not run or that is somebody
//! else's: `hostconfig.json` has what was asked for, `config.v2.json` the name.

use std::path::{Path, PathBuf};

use gpu_inject::oci::ContainerView;
use gpu_inject::policy::Policy;
use gpu_inject::request::asks_in_any_way;
use serde_json::{Value, json};

use super::daemon_json::DaemonJson;
use crate::engines::dependent::{Dependence, DependentContainer};
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
    /// Its environment; `None` if that is not known.
    env: Option<Vec<String>>,
}

impl StoredContainer {
    /// Parses a `hostconfig.json`.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(|host_config| Self {
            host_config,
            env: None,
        })
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

    /// Adds the environment, which with the image's variables is in another file than the rest.
    pub fn with_env(self, env: Option<Vec<String>>) -> Self {
        Self { env, ..self }
    }

    /// What of our setup it needs; `None` if it starts without. `known` is what is known of the policy, which can have
    /// more variables and annotations that ask for GPUs.
    pub fn dependent(&self, name: &str, known: &Policy) -> Option<DependentContainer> {
        let of = |text: &str, need| {
            let text = format!("{name} ({text})");
            Some(DependentContainer { text, need })
        };
        let runtime = self.host_config["Runtime"].as_str().unwrap_or_default();
        if runtime == SetupOptions::default().runtime_name {
            let asks = self.requests().any(is_for_gpus) || self.asks_of_runtime(known);
            return if asks {
                of(&format!("--runtime {runtime}"), Dependence::Gpus)
            } else {
                of(
                    &format!("made with runtime {runtime}"),
                    Dependence::RuntimeName,
                )
            };
        }
        if self.requests().any(is_for_gpus) {
            return of("--gpus or --device", Dependence::Gpus);
        }
        None
    }

    /// Whether our runtime would be asked for GPUs, in any of its ways. True if that is not known.
    fn asks_of_runtime(&self, known: &Policy) -> bool {
        let Some(env) = &self.env else { return true };
        let binds = self.host_config["Binds"].as_array();
        let binds = binds.into_iter().flatten().filter_map(|bind| {
            let mut parts = bind.as_str()?.split(':');
            let (source, destination) = (parts.next()?, parts.next()?);
            Some(json!({"source": source, "destination": destination}))
        });
        let mounts = self.host_config["Mounts"].as_array().into_iter().flatten();
        let mounts =
            mounts.map(|mount| json!({"source": mount["Source"], "destination": mount["Target"]}));
        let config = json!({
            "process": {"env": env},
            "annotations": self.host_config["Annotations"],
            "mounts": binds.chain(mounts).collect::<Vec<_>>(),
        });
        asks_in_any_way(ContainerView::new(&config), known)
    }

    fn requests(&self) -> impl Iterator<Item = &Value> {
        self.host_config["DeviceRequests"]
            .as_array()
            .into_iter()
            .flatten()
    }
}

fn is_for_gpus(request: &Value) -> bool {
    let is_cdi =
        request["Driver"] == "cdi" && request["DeviceIDs"].to_string().contains("nvidia.com/gpu");
    is_cdi || request["Capabilities"].to_string().contains("\"gpu\"")
}

/// The environment in a container's `Config`; `None` if that is not one.
pub fn env(config: &Value) -> Option<Vec<String>> {
    match config.get("Env")? {
        // A container without any variable.
        Value::Null => Some(Vec::new()),
        Value::Array(list) => list.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// The name in a `config.v2.json`.
pub fn name(about: &str) -> Option<String> {
    name_in(&serde_json::from_str(about).ok()?)
}

fn name_in(about: &Value) -> Option<String> {
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
        let about: Option<Value> = about.and_then(|text| serde_json::from_str(&text).ok());
        let container = container.with_env(about.as_ref().and_then(|a| env(a.get("Config")?)));
        let name = about.as_ref().and_then(name_in);
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

    fn dependent(host_config: &str, env: Option<&[&str]>) -> Option<DependentContainer> {
        let env = env.map(|list| list.iter().map(|v| (*v).to_owned()).collect());
        let known = Policy {
            swarm_resource: vec!["DOCKER_RESOURCE_GPU".into()],
            ..Policy::default()
        };
        let container = StoredContainer::parse(host_config).unwrap().with_env(env);
        container.dependent("web", &known)
    }

    #[test]
    fn containers_that_ask_for_gpus_are_told_from_those_with_the_runtimes_name() {
        let named = r#"{"Runtime": "nvidia"}"#;
        for (host_config, env) in [
            (named, Some(&["NVIDIA_VISIBLE_DEVICES=all"][..])),
            (named, Some(&["DOCKER_RESOURCE_GPU=0"])),
            (named, Some(&["CUDA_VERSION=9.0"])),
            // Not known, so it may ask.
            (named, None),
            (
                r#"{"Runtime": "nvidia", "Annotations": {"cdi.k8s.io/x": "nvidia.com/gpu=0"}}"#,
                Some(&[]),
            ),
            (
                r#"{"Runtime": "nvidia", "Binds": ["/dev/null:/var/run/nvidia-container-devices/all:ro"]}"#,
                Some(&[]),
            ),
            (
                r#"{"Runtime": "nvidia", "Mounts": [{"Type": "bind", "Source": "/dev/null", "Target": "/var/run/nvidia-container-devices/0"}]}"#,
                Some(&[]),
            ),
            (
                r#"{"Runtime": "nvidia", "DeviceRequests": [{"Capabilities": [["gpu"]]}]}"#,
                Some(&[]),
            ),
        ] {
            let dependent = dependent(host_config, env).unwrap();
            assert_eq!(
                dependent,
                DependentContainer::with_gpus("web (--runtime nvidia)".into())
            );
        }
        for env in [&[][..], &["PATH=/bin"], &["NVIDIA_VISIBLE_DEVICES=void"]] {
            let dependent = dependent(named, Some(env)).unwrap();
            assert_eq!(dependent.need, Dependence::RuntimeName);
            assert_eq!(dependent.text, "web (made with runtime nvidia)");
        }
        let gpus = r#"{"Runtime": "runc", "DeviceRequests": [{"Capabilities": [["gpu"]]}]}"#;
        assert_eq!(dependent(gpus, None).unwrap().need, Dependence::Gpus);
        let other = r#"{"Runtime": "runc", "DeviceRequests": null}"#;
        assert_eq!(
            dependent(other, Some(&["NVIDIA_VISIBLE_DEVICES=all"])),
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
        write(
            "a",
            ABOUT,
            "{\"Name\": \"/web\", \"Config\": {\"Env\": [\"A=1\"]}}",
        );
        write("half", "checkpoint", "");
        let names: Vec<String> = all().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["web"]);
        assert_eq!(all().unwrap()[0].1.env, Some(vec!["A=1".to_owned()]));
        write("b", "hostconfig.json", "{");
        assert!(all().is_err());
    }
}
