//! A containerd that may run: who starts it, where it listens, what speaks with it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engines::engine::{Case, Probe, argv};
use crate::engines::probe_image;
use crate::error::Error;
use crate::host::Host;
use crate::host::service::Service;
use crate::model::setup_options::SetupOptions;

/// Where the built-in image is run.
const NAMESPACE: &str = "gpusetup";
/// What containerd has a directory in for each namespace, below state and store; one that is removed leaves them.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// A daemon.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// As people call it.
    pub name: String,
    /// What must be restarted for it to read its files; `None` where nothing is known to start it.
    pub service: Option<Service>,
    /// The command line of its `ctr`, without flags.
    pub ctr: Vec<String>,
    /// Its program.
    pub program: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// Where its running state is.
    pub state: PathBuf,
    /// Where it keeps the rest.
    pub store: PathBuf,
}

impl Daemon {
    fn ctr(&self) -> Vec<&str> {
        let mut words: Vec<&str> = self.ctr.iter().map(String::as_str).collect();
        // Where ctr is another's, for instance k3s', its default is that one's socket.
        words.extend(["-a", self.socket.to_str().unwrap_or_default()]);
        words
    }

    /// Its version, told by its program; `None` in a tree.
    pub fn version(&self, host: &Host) -> Option<String> {
        let out = host
            .run(&[&self.program, "--version"], Duration::from_secs(10))
            .ok()?;
        // "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1"
        let version = out.stdout.split_whitespace().nth(2)?;
        Some(version.trim_start_matches('v').to_owned())
    }

    /// Whether it answers; an error says what it says.
    pub fn answers(&self, host: &Host) -> Result<(), String> {
        // ctr waits out its time where nobody listens.
        UnixStream::connect(&self.socket).map_err(|e| format!("{}: {e}", self.socket.display()))?;
        let argv = [self.ctr(), vec!["--timeout", "5s", "version"]].concat();
        match host.run(&argv, Duration::from_secs(10)) {
            Ok(out) if out.ok() => Ok(()),
            Ok(out) => Err(out.last_line().to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    /// The daemon can answer while its CRI plugin has refused the configuration.
    fn cri_loads(&self, host: &Host) -> Result<(), String> {
        let argv = [self.ctr(), vec!["plugins", "ls"]].concat();
        let listed = host.run(&argv, Duration::from_secs(10));
        let out = listed.map_err(|e| e.to_string())?;
        // TYPE ID PLATFORMS STATUS; 2.x has CRI in several plugins of one type.
        let is_cri = |words: &[&str]| {
            matches!(
                words,
                ["io.containerd.grpc.v1", "cri", ..] | ["io.containerd.cri.v1", ..]
            )
        };
        for line in out.stdout.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if is_cri(&words) && words.last() == Some(&"error") {
                return Err("its CRI plugin does not load this configuration".into());
            }
        }
        Ok(())
    }

    /// Waits until it answers and CRI is there.
    pub fn wait(&self, host: &Host) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match self.answers(host).and_then(|()| self.cri_loads(host)) {
                Ok(()) => return Ok(()),
                Err(said) if Instant::now() >= end => {
                    let why = format!("{} did not come back: {said}", self.name);
                    return Err(Error::failed(why, ""));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Its own reading of a root file. The daemon starts without one, while `config dump` of 1.6 then fails: after an undo
    /// that took away the file that install had made there is nothing to refuse.
    pub fn check(&self, host: &Host, root: &Path) -> Result<bool, Error> {
        if !host.is_live() || !host.root().exists(root) {
            return Ok(false);
        }
        let file = root.display().to_string();
        let out = host.run(
            &[&self.program, "--config", &file, "config", "dump"],
            Duration::from_secs(30),
        )?;
        if out.ok() {
            return Ok(true);
        }
        Err(Error::failed(
            format!(
                "{} refuses its configuration: {}",
                self.name,
                out.last_line()
            ),
            "",
        ))
    }

    /// Running containers whose shim was told to start our runtime. Stopped ones of CRI are made
    /// anew from the pod, so they do not count.
    pub fn dependent_containers(&self, host: &Host) -> Vec<String> {
        if !host.is_live() {
            return Vec::new();
        }
        self.tasks_of(host, &SetupOptions::default().runtime_path)
    }

    fn tasks_of(&self, host: &Host, runtime: &Path) -> Vec<String> {
        let root = host.root();
        let tasks = self.state.join(TASKS);
        let mut users = Vec::new();
        // Docker names its own containers, and better.
        let namespaces = root.read_dir(&tasks).unwrap_or_default();
        for namespace in namespaces.iter().filter(|n| *n != "moby") {
            let dir = tasks.join(namespace);
            for id in root.read_dir(&dir).unwrap_or_default() {
                let document = |name: &str| -> Value {
                    let bytes = root.read(dir.join(&id).join(name)).ok();
                    bytes
                        .and_then(|b| serde_json::from_slice(&b).ok())
                        .unwrap_or_default()
                };
                // What the runc shim was given (containerd cmd/containerd-shim-runc-v2, options.json).
                let options = document("options.json");
                if options["binary_name"].as_str().map(Path::new) == Some(runtime) {
                    let id = format!("{}/{}", namespace.display(), id.display());
                    users.push(pod(&document("config.json")).unwrap_or(id));
                }
            }
        }
        // Each container of a pod, and its sandbox, has a task.
        users.sort();
        users.dedup();
        users
    }

    /// How the built-in image runs in it.
    pub fn probe(&self, archive: &Path) -> Probe {
        let archive = archive.display().to_string();
        let bare = self.ctr();
        let ctr = [bare.clone(), vec!["-n", NAMESPACE]].concat();
        let runtime = SetupOptions::default().runtime_path.display().to_string();
        // Docker's containerd has no nvidia runtime that ctr could name, so the shim is named itself.
        let run: &[&str] = &["run", "--rm", "--runc-binary", &runtime];
        let ids = ["probe-0", "probe-1"];
        let emptied = [
            self.state.join(TASKS),
            self.store.join(TASKS),
            // Of its runc shim.
            "/run/containerd/runc".into(),
        ];
        let emptied = emptied.map(|d| d.join(NAMESPACE).display().to_string());
        // ctr's words take the place of the image's program too.
        let ends = |n: usize| {
            [
                probe_image::NAME,
                ids[n],
                probe_image::PROGRAM,
                probe_image::AGAIN,
            ]
        };
        let tidy = |id| {
            let task = argv(&[&ctr, &["tasks", "rm", "-f", id]]);
            [task, argv(&[&ctr, &["containers", "rm", id]])]
        };
        Probe {
            load: argv(&[&ctr, &["images", "import", &archive]]),
            cases: vec![
                Case {
                    how: "gpu-container-runtime".into(),
                    argv: argv(&[
                        &ctr,
                        run,
                        &["--env", "NVIDIA_VISIBLE_DEVICES=all"],
                        &ends(0),
                    ]),
                    gets: true,
                },
                Case {
                    how: Case::PLAIN.into(),
                    argv: argv(&[&ctr, run, &ends(1)]),
                    gets: false,
                },
            ],
            leftovers: ids.into_iter().flat_map(tidy).collect(),
            unload: vec![
                // --sync: what it is made of goes at once, so that the namespace can.
                argv(&[&ctr, &["images", "rm", "--sync", probe_image::NAME]]),
                // Empty now, unless somebody else uses that name.
                argv(&[&bare, &["namespaces", "rm", NAMESPACE]]),
                argv(&[&["rmdir"], &emptied.each_ref().map(String::as_str)]),
            ],
        }
    }
}

/// The pod of a container, which is how people know it (annotations of containerd's CRI plugin,
/// pkg/cri/annotations).
fn pod(config: &Value) -> Option<String> {
    let annotation = |name: &str| {
        let name = format!("io.kubernetes.cri.sandbox-{name}");
        config["annotations"][&name].as_str()
    };
    Some(format!(
        "pod {}/{}",
        annotation("namespace")?,
        annotation("name")?
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_are_named_as_people_know_them() {
        let dir = tempfile::tempdir().unwrap();
        let task = |path: &str, binary: &str, annotations: Value| {
            let path = dir
                .path()
                .join("s/io.containerd.runtime.v2.task")
                .join(path);
            std::fs::create_dir_all(&path).unwrap();
            let write = |name: &str, value: Value| {
                std::fs::write(path.join(name), value.to_string()).unwrap();
            };
            write("options.json", json!({"binary_name": binary}));
            write("config.json", json!({"annotations": annotations}));
        };
        let of = |name: &str| json!({"io.kubernetes.cri.sandbox-namespace": "ml", "io.kubernetes.cri.sandbox-name": name});
        task("k8s.io/1", "/ours", of("trainer"));
        task("k8s.io/2", "/ours", of("trainer"));
        task("k8s.io/3", "/usr/bin/runc", of("web"));
        task("default/4", "/ours", json!(null));
        task("moby/5", "/ours", json!(null));
        let daemon = Daemon {
            name: "containerd".into(),
            service: None,
            ctr: vec!["ctr".into()],
            program: "containerd".into(),
            socket: "/s/c.sock".into(),
            state: "/s".into(),
            store: "/l".into(),
        };
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let users = daemon.tasks_of(&host, Path::new("/ours"));
        assert_eq!(users, ["default/4", "pod ml/trainer"]);
    }
}
