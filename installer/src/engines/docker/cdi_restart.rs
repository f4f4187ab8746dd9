//! Docker 25.0 to 28.1 does not start containers with a CDI device when it starts itself: it starts
//! those with a restart policy before it knows its CDI driver (moby #49989). `docker start` works
//! afterwards, and so does a restart of the host for the same containers by `--gpus`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::daemon_json::DaemonJson;
use crate::host::Host;
use crate::host::systemd_unit::Unit;

/// The versions with this bug; moby #49990 in 28.2 fixes it.
pub const AFFECTED: Range<(u32, u32)> = (25, 0)..(28, 2);
/// Where dockerd keeps its containers, unless its configuration names another directory.
const DATA_ROOT: &str = "/var/lib/docker";

/// What does not work in this version and what does; `None` for other versions.
pub fn warning(version: (u32, u32)) -> Option<String> {
    AFFECTED.contains(&version).then(|| {
        format!(
            "docker {}.{}: a container with `--restart` and `--device nvidia.com/gpu=0` does not come back \
             when Docker or the host starts again (moby #49989): use `--gpus` or `--runtime nvidia` for it, or Docker 28.2",
            version.0, version.1
        )
    })
}

/// dockerd's data directory.
pub fn data_root(unit: &Unit, file: Option<&DaemonJson>) -> PathBuf {
    let by_flag = ["--data-root", "--graph", "-g"]
        .iter()
        .find_map(|f| unit.flag(f));
    let by_file = || {
        let root = file?.get(&["data-root"]).or(file?.get(&["graph"]))?;
        Some(root.as_str()?.to_owned())
    };
    by_flag
        .or_else(by_file)
        .map_or_else(|| DATA_ROOT.into(), PathBuf::from)
}

/// The names of the containers that have both a restart policy and one of our CDI devices. Read from Docker's own
/// files, which are there even when Docker does not run.
pub fn containers(host: &Host, data_root: &Path) -> Vec<String> {
    let root = host.root();
    let dir = data_root.join("containers");
    let mut names = Vec::new();
    for id in root.read_dir(&dir).unwrap_or_default() {
        let document = |name: &str| -> Option<Value> {
            let bytes = root.read(dir.join(&id).join(name)).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        if document("hostconfig.json").is_some_and(|config| is_affected(&config)) {
            let config = document("config.v2.json").unwrap_or_default();
            let name = config["Name"]
                .as_str()
                .map(|n| n.trim_start_matches('/').to_owned());
            names.push(name.unwrap_or_else(|| id.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    names
}

fn is_affected(config: &Value) -> bool {
    let policy = config["RestartPolicy"]["Name"].as_str();
    let restarts = matches!(policy, Some("always" | "unless-stopped" | "on-failure"));
    let requests = config["DeviceRequests"].as_array();
    let is_cdi = |request: &Value| {
        request["Driver"] == "cdi" && request["DeviceIDs"].to_string().contains("nvidia.com/")
    };
    restarts && requests.is_some_and(|all| all.iter().any(is_cdi))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_issue() {
        for version in [(25, 0), (26, 1), (27, 5), (28, 1)] {
            let said = warning(version).unwrap();
            assert!(said.contains("--gpus") && said.contains("28.2"), "{said}");
        }
        for version in [(20, 10), (24, 0), (28, 2), (29, 0), (0, 0)] {
            assert_eq!(warning(version), None);
        }
    }

    #[test]
    fn only_cdi_with_a_restart_policy_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cdi = r#"[{"Driver":"cdi","DeviceIDs":["nvidia.com/gpu=0"]}]"#;
        let gpus = r#"[{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}]"#;
        let other = r#"[{"Driver":"cdi","DeviceIDs":["amd.com/gpu=0"]}]"#;
        for (name, policy, requests) in [
            ("web", "always", cdi),
            ("job", "no", cdi),
            ("api", "unless-stopped", gpus),
            ("amd", "always", other),
            ("none", "always", "null"),
        ] {
            let at = dir.path().join("d/containers").join(format!("id-{name}"));
            std::fs::create_dir_all(&at).unwrap();
            let config = format!(
                "{{\"RestartPolicy\":{{\"Name\":\"{policy}\"}},\"DeviceRequests\":{requests}}}"
            );
            std::fs::write(at.join("hostconfig.json"), config).unwrap();
            std::fs::write(
                at.join("config.v2.json"),
                format!("{{\"Name\":\"/{name}\"}}"),
            )
            .unwrap();
        }
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        assert_eq!(containers(&host, Path::new("/d")), ["web"]);
        assert_eq!(containers(&host, Path::new("/none")), [""; 0]);
    }
}
