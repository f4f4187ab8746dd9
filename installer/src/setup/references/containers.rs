//! Finds containers, running or stopped, that were given our devices by CDI and could not start again without our
//! spec and hook. They are found in the files of the engines, because an engine that does not run, or that belongs to
//! another user, cannot be queried.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::words::{DEVICES, PROGRAMS};
use crate::engines::docker::stored_container::{self, StoredContainer};
use crate::host::Host;
use crate::host::local_files::{LocalFiles, NotSeen};

/// Where the engines of root keep their containers.
const PODMAN: &str = "/var/lib/containers/storage";
/// Where containerd keeps running containers. Docker's containers are found in Docker's own files.
const CONTAINERD: &str = "/run/containerd/io.containerd.runtime.v2.task/*/*/config.json";
const DOCKER_NAMESPACE: &str = "moby";
/// Shell patterns of the files that describe containers: root's, and those below a user's `XDG_DATA_HOME`.
pub const PATTERNS: &[&str] = &[
    "/var/lib/docker/containers/*/hostconfig.json",
    "/var/lib/containers/storage/*-containers/*/userdata/config.json",
];
pub const USER_PATTERNS: &[&str] = &[
    "docker/containers/*/hostconfig.json",
    "containers/storage/*-containers/*/userdata/config.json",
];
/// How long Podman may take to list its containers.
const LIMIT: Duration = Duration::from_secs(30);

/// A container that needs our packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The program that manages it: `docker`, `podman`.
    pub engine: &'static str,
    /// Its name or ID.
    pub name: String,
    /// The file that describes it.
    pub path: PathBuf,
}

/// The containers found, and what could not be read.
pub type Containers = (Vec<Container>, Vec<NotSeen>);

/// The containers of root's engines. `docker` is Docker's data directory if it was moved.
pub fn of_root(host: &Host, files: &LocalFiles, docker: Option<&Path>) -> Containers {
    let docker = docker.unwrap_or(Path::new(stored_container::DATA_ROOT));
    let graph_root = graph_root(files, Path::new("/etc/containers/storage.conf"));
    let podman = graph_root.unwrap_or_else(|| PODMAN.into());
    let mut all = join([
        of_docker(files, docker),
        of_podman(files, &podman),
        of_containerd(files),
    ]);
    match created_in_podman(host) {
        Ok(names) => {
            for name in names {
                if !all.0.iter().any(|c| c.engine == "podman" && c.name == name) {
                    all.0.push(Container {
                        engine: "podman",
                        name,
                        path: podman.clone(),
                    });
                }
            }
        }
        Err(unseen) => all.1.push(unseen),
    }
    all
}

/// The containers of a user's engines.
pub fn of_user(files: &LocalFiles, config: &[PathBuf], data: &[PathBuf]) -> Containers {
    let moved = config
        .iter()
        .filter_map(|dir| graph_root(files, &dir.join("containers/storage.conf")));
    let usual = data.iter().map(|dir| dir.join("containers/storage"));
    let podman = moved.chain(usual).map(|dir| of_podman(files, &dir));
    let docker = data.iter().map(|dir| of_docker(files, &dir.join("docker")));
    join(podman.chain(docker))
}

fn join(parts: impl IntoIterator<Item = Containers>) -> Containers {
    let mut all = Containers::default();
    for (containers, not_seen) in parts {
        all.0.extend(containers);
        all.1.extend(not_seen);
    }
    all
}

/// Applies `read` to every matching file. A file that cannot be read does not hide the others.
fn each(
    files: &LocalFiles,
    pattern: &Path,
    read: impl Fn(&Path, &str) -> Result<Option<Container>, String>,
) -> Containers {
    let (paths, not_seen) = files.matching(pattern);
    let mut all = (Vec::new(), not_seen);
    for path in paths {
        let container = match files.text(&path) {
            Ok(Some(text)) => read(&path, &text).map_err(|why| NotSeen { path, why }),
            Ok(None) => Ok(None),
            Err(unseen) => Err(unseen),
        };
        match container {
            Ok(container) => all.0.extend(container),
            Err(unseen) => all.1.push(unseen),
        }
    }
    all
}

/// Docker's containers: `hostconfig.json` has the devices of `--device`.
fn of_docker(files: &LocalFiles, dir: &Path) -> Containers {
    each(
        files,
        &dir.join("containers/*/hostconfig.json"),
        |path, text| {
            let stored = StoredContainer::parse(text).map_err(|e| e.to_string())?;
            if !stored.has_cdi_device() {
                return Ok(None);
            }
            // Only for its name: without it, the container has its ID.
            let about = files.text(&path.with_file_name(stored_container::ABOUT));
            let name = about
                .ok()
                .flatten()
                .and_then(|t| stored_container::name(&t));
            Ok(Some(Container {
                engine: "docker",
                name: name.unwrap_or_else(|| id(path, 1)),
                path: path.to_owned(),
            }))
        },
    )
}

/// Containers of Podman and CRI-O: each one that was started has an OCI configuration, which names our hook.
fn of_podman(files: &LocalFiles, dir: &Path) -> Containers {
    each(
        files,
        &dir.join("*-containers/*/userdata/config.json"),
        |path, text| {
            Ok(starts_us(text).then(|| {
                let id = id(path, 2);
                // CRI-O keeps its containers in the same storage; `podman ps` does not show them.
                let is_crio = text.contains("io.kubernetes.cri-o.");
                Container {
                    engine: if is_crio { "cri-o" } else { "podman" },
                    name: podman_name(files, path, &id).unwrap_or(id),
                    path: path.to_owned(),
                }
            }))
        },
    )
}

/// The container's name in Podman's list, found by its ID.
fn podman_name(files: &LocalFiles, config: &Path, id: &str) -> Option<String> {
    let dir = config.ancestors().nth(3)?;
    ["containers.json", "volatile-containers.json"]
        .iter()
        .find_map(|list| {
            let list = files.text(&dir.join(list)).ok()??;
            let list: Value = serde_json::from_str(&list).ok()?;
            let entry = list.as_array()?.iter().find(|c| c["id"] == id)?;
            entry["names"][0].as_str().map(str::to_owned)
        })
}

/// Running containers of other clients of containerd: nerdctl, ctr, a kubelet.
fn of_containerd(files: &LocalFiles) -> Containers {
    each(files, Path::new(CONTAINERD), |path, text| {
        let namespace = id(path, 2);
        let is_ours = namespace != DOCKER_NAMESPACE && starts_us(text);
        Ok(is_ours.then(|| Container {
            engine: "containerd",
            name: format!("{namespace}/{}", id(path, 1)),
            path: path.to_owned(),
        }))
    })
}

/// Root's Podman containers that request our devices. A container that was never started has no OCI configuration
/// yet, so `podman` is queried as well.
fn created_in_podman(host: &Host) -> Result<Vec<String>, NotSeen> {
    if !host.is_live() || !host.has_program("podman") || host.user().is_some() {
        return Ok(Vec::new());
    }
    let unseen = |why: String| NotSeen {
        path: "podman ps".into(),
        why,
    };
    let ask = |argv: &[&str]| {
        let out = host.run(argv, LIMIT).map_err(|e| unseen(e.to_string()))?;
        if out.has_succeeded() {
            Ok(out.stdout)
        } else {
            Err(unseen(out.last_line().to_owned()))
        }
    };
    let all = ask(&["podman", "ps", "-aq", "--no-trunc"])?;
    let ids: Vec<&str> = all.lines().collect();
    let mut names = Vec::new();
    // In several commands, because the length of a command line is limited.
    for some in ids.chunks(200) {
        // The command fails for a container that has been removed meanwhile; the others are in its output.
        let argv = [&["podman", "container", "inspect"][..], some].concat();
        let out = host.run(&argv, LIMIT).map_err(|e| unseen(e.to_string()))?;
        let list: Vec<Value> = serde_json::from_str(&out.stdout).map_err(|e| {
            unseen(format!(
                "podman container inspect: {e}: {}",
                out.last_line()
            ))
        })?;
        let is_told = |id: &str| list.iter().any(|container| container["Id"] == id);
        if some.iter().any(|id| !is_told(id)) {
            let still = ask(&["podman", "ps", "-aq", "--no-trunc"])?;
            let lost = some
                .iter()
                .find(|id| !is_told(id) && still.lines().any(|l| l == **id));
            if let Some(id) = lost {
                return Err(unseen(format!("podman told nothing of container {id}")));
            }
        }
        names.extend(
            list.iter()
                .filter(|c| asks_for_us(c))
                .map(|container| container["Name"].as_str().unwrap_or_default().to_owned()),
        );
    }
    Ok(names)
}

fn asks_for_us(container: &Value) -> bool {
    let words = container["Config"]["CreateCommand"].as_array();
    let asks = |word: &Value| {
        let word = word.as_str().unwrap_or_default();
        DEVICES.iter().any(|device| word.contains(device))
    };
    words.is_some_and(|words| words.iter().any(asks))
}

fn starts_us(config: &str) -> bool {
    PROGRAMS.iter().any(|program| config.contains(program))
}

/// The name of a directory above a file.
fn id(path: &Path, above: usize) -> String {
    let dir = path.ancestors().nth(above).and_then(Path::file_name);
    dir.unwrap_or_default().to_string_lossy().into_owned()
}

/// `graphroot` of a storage.conf (containers-storage.conf(5)).
fn graph_root(files: &LocalFiles, path: &Path) -> Option<PathBuf> {
    let file: toml::Table = files.text(path).ok()??.parse().ok()?;
    let value = file.get("storage")?.get("graphroot")?.as_str()?;
    Some(PathBuf::from(value)).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gpu_host::Root;

    use super::*;

    #[test]
    fn containers_are_found_by_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let docker = "var/lib/docker/containers";
        let request =
            "{\"DeviceRequests\": [{\"Driver\": \"cdi\", \"DeviceIDs\": [\"nvidia.com/gpu=0\"]}]}";
        write(&format!("{docker}/a1/hostconfig.json"), request);
        write(
            &format!("{docker}/a1/config.v2.json"),
            "{\"Name\": \"/web\"}",
        );
        write(
            &format!("{docker}/a2/hostconfig.json"),
            &request.replace("nvidia", "amd"),
        );
        let hook =
            "{\"hooks\": {\"createContainer\": [{\"path\": \"/usr/bin/gpu-container-hook\"}]}}";
        let podman = "var/lib/containers/storage/overlay-containers";
        write(&format!("{podman}/b1/userdata/config.json"), hook);
        write(&format!("{podman}/b2/userdata/config.json"), "{}");
        write(
            &format!("{podman}/containers.json"),
            "[{\"id\": \"b1\", \"names\": [\"train\"]}]",
        );
        let tasks = "run/containerd/io.containerd.runtime.v2.task";
        write(&format!("{tasks}/default/c1/config.json"), hook);
        write(&format!("{tasks}/moby/c2/config.json"), hook);
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let files = LocalFiles::open(&Root::open(dir.path()).unwrap()).unwrap();
        let (containers, not_seen) = of_root(&host, &files, None);
        let names: Vec<String> = containers
            .iter()
            .map(|c| format!("{} {}", c.engine, c.name))
            .collect();
        assert_eq!(
            names,
            ["docker web", "podman train", "containerd default/c1"]
        );
        assert!(not_seen.is_empty());
        // A damaged file is no container without devices, and one whose name is not known has its ID.
        write(&format!("{docker}/a3/hostconfig.json"), "{");
        write(&format!("{docker}/a4/hostconfig.json"), request);
        let (containers, not_seen) = of_root(&host, &files, None);
        assert!(containers.iter().any(|c| c.name == "a4"));
        assert_eq!(not_seen.len(), 1, "{not_seen:?}");
        fs::remove_dir_all(dir.path().join(docker).join("a3")).unwrap();

        let data = [PathBuf::from("/var/lib")];
        write(
            "etc/alice/containers/storage.conf",
            "[storage]\ngraphroot = \"/var/lib/containers/storage\" # moved\n",
        );
        let config = [PathBuf::from("/etc/alice")];
        let (containers, _) = of_user(&files, &config, &data);
        assert!(containers.iter().any(|c| c.name == "train"));
        assert!(containers.iter().any(|c| c.name == "web"));
    }

    #[test]
    fn one_that_podman_only_created_is_known_by_its_command_line() {
        let container = |device: &str| serde_json::json!({"Config": {"CreateCommand": ["podman", "create", "--device", device]}});
        assert!(asks_for_us(&container("nvidia.com/gpu=all")));
        assert!(!asks_for_us(&container("/dev/fuse")));
        assert!(!asks_for_us(&Value::Null));
    }
}
