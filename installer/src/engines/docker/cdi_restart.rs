//! Docker 25.0 to 28.1 does not start containers with a CDI device when it starts itself: it starts
//! those with a restart policy before it knows its CDI driver (moby #49989). `docker start` works
//! afterwards, and so does a restart of the host for the same containers by `--gpus`.

use std::ops::Range;
use std::path::Path;

use super::stored_container;
use crate::host::Host;

/// The versions with this bug; moby #49990 in 28.2 fixes it.
pub const AFFECTED: Range<(u32, u32)> = (25, 0)..(28, 2);

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

/// The names of the containers that have both a restart policy and one of our CDI devices. Read from Docker's own
/// files, which are there even when Docker does not run.
pub fn containers(host: &Host, data_root: &Path) -> Result<Vec<String>, String> {
    let mut containers = stored_container::all(host, data_root)?;
    containers.retain(|(_, c)| c.has_restart_policy() && c.has_cdi_device());
    Ok(containers.into_iter().map(|(name, _)| name).collect())
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
        assert_eq!(containers(&host, Path::new("/d")).unwrap(), ["web"]);
        assert_eq!(containers(&host, Path::new("/none")).unwrap(), [""; 0]);
    }
}
