//! A containerd daemon: which service starts it, where it listens, and which client talks to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engines::allowed_way::{AllowedWay, CAPABILITY, SOURCE, TARGET, VARIABLE};
use crate::engines::dependent::DependentContainer;
use crate::engines::engine::{Case, Gets, Probe, argv};
use crate::engines::probe_image;
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::host::Host;
use crate::host::answer::{self, Answer, json_file, names_in};
use crate::host::service::Service;
use crate::model::setup_options::SetupOptions;

/// The containerd namespace in which the built-in image is run.
const NAMESPACE: &str = "gpusetup";
/// containerd keeps a directory here for each namespace, below both state and store. Removing a
/// namespace leaves these directories behind.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// A containerd daemon.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The engine's name.
    pub name: String,
    /// The service to restart so that it reads its files; `None` if no service is known to start
    /// it.
    pub service: Option<Service>,
    /// The command line of its `ctr`, without flags.
    pub ctr: Vec<String>,
    /// Its program.
    pub program: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// The directory of its runtime state.
    pub state: PathBuf,
    /// The directory of its persistent data.
    pub store: PathBuf,
}

impl Daemon {
    /// The beginning of a command of its client.
    pub fn ctr(&self) -> Vec<&str> {
        let mut words: Vec<&str> = self.ctr.iter().map(String::as_str).collect();
        // If ctr belongs to another containerd, such as that of k3s, its default socket is that containerd's.
        words.extend(["-a", self.socket.to_str().unwrap_or_default()]);
        words
    }

    /// The version that its program prints; `None` in a directory tree.
    pub fn version(&self, host: &Host) -> Answer<String> {
        // "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1"
        host.version(&self.program)
    }

    /// Whether it runs: `None` if nothing listens on its socket. A daemon that is busy, or that this user may not
    /// access, counts as running.
    pub fn answers(&self, host: &Host) -> Answer<()> {
        // If nothing listens, ctr would wait until its timeout.
        match answer::listener(&self.socket) {
            Answer::Known(()) => match self.version_by_ctr(host) {
                Ok(()) => Answer::Known(()),
                Err(why) => Answer::Unknown(why),
            },
            not => not,
        }
    }

    fn version_by_ctr(&self, host: &Host) -> Result<(), String> {
        let argv = [self.ctr(), vec!["--timeout", "5s", "version"]].concat();
        match host.run(&argv, Duration::from_secs(10)) {
            Ok(out) if out.has_succeeded() => Ok(()),
            Ok(out) => Err(out.last_line().to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Checks that the CRI plugin loads: the daemon can answer although the plugin has refused the
    /// configuration.
    fn cri_loads(&self, host: &Host) -> Result<(), String> {
        let argv = [self.ctr(), vec!["plugins", "ls"]].concat();
        let listed = host.run(&argv, Duration::from_secs(10));
        let out = listed.map_err(|e| e.to_string())?;
        // The columns are TYPE ID PLATFORMS STATUS. In 2.x, CRI consists of several plugins of one
        // type.
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

    /// Waits until the daemon answers and its CRI plugin is loaded.
    pub fn wait(&self, host: &Host) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let answers = match self.answers(host) {
                Answer::Known(()) => self.cri_loads(host),
                Answer::None => Err(format!("{}: nobody listens", self.socket.display())),
                Answer::Unknown(why) => Err(why),
            };
            match answers {
                Ok(()) => return Ok(()),
                Err(message) if Instant::now() >= end => {
                    let fix = self.service.as_ref().map(Service::log_hint);
                    return Err(Error::engine(
                        &self.name,
                        EngineFault::NotBack { said: message, fix },
                    ));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Runs the daemon's own checker on a root file. Without a file there is nothing to check, for example after an
    /// undo that removed the file that install had created: the daemon starts without a file, but `config dump` of
    /// 1.6 fails.
    pub fn check(&self, host: &Host, root: &Path) -> Result<bool, Error> {
        if !host.is_live() || !host.root().exists(root) {
            return Ok(false);
        }
        let file = root.display().to_string();
        let out = host.run(
            &[&self.program, "--config", &file, "config", "dump"],
            Duration::from_secs(30),
        )?;
        if out.has_succeeded() {
            return Ok(true);
        }
        let message = out.last_line().to_owned();
        Err(Error::engine(
            &self.name,
            EngineFault::Refuses { said: message },
        ))
    }

    /// Running containers whose shim was started with our runtime. Stopped CRI containers do not count, since they
    /// are created again from the pod.
    pub fn dependent_containers(&self, host: &Host) -> Answer<Vec<DependentContainer>> {
        if !host.is_live() {
            return Answer::None;
        }
        match self.tasks_of(host, &SetupOptions::default().runtime_path) {
            Ok(names) => Answer::Known(
                names
                    .into_iter()
                    .map(DependentContainer::with_gpus)
                    .collect(),
            ),
            Err(why) => Answer::Unknown(why),
        }
    }

    /// Fails if the files of a task exist but cannot be read, because the task may use our runtime.
    fn tasks_of(&self, host: &Host, runtime: &Path) -> Result<Vec<String>, String> {
        let tasks = self.state.join(TASKS);
        let mut users = Vec::new();
        // Docker lists its own containers, with better names.
        let namespaces = names_in(host.root(), &tasks)?;
        for namespace in namespaces.iter().filter(|n| *n != "moby") {
            let dir = tasks.join(namespace);
            for id in names_in(host.root(), &dir)? {
                // The options that the runc shim was given (containerd cmd/containerd-shim-runc-v2, options.json).
                // Other shims have no such file, and neither does a task that is just ending.
                let file = dir.join(&id).join("options.json");
                let Some(options) = json_file(host.root(), &file)? else {
                    continue;
                };
                if options["binary_name"].as_str().map(Path::new) == Some(runtime) {
                    // The config is used only for a better name.
                    let config = json_file(host.root(), &dir.join(&id).join("config.json"));
                    let named = config.ok().flatten().and_then(|config| pod(&config));
                    let id = format!("{}/{}", namespace.display(), id.display());
                    users.push(named.unwrap_or(id));
                }
            }
        }
        // Each container of a pod, and its sandbox, has a task.
        users.sort();
        users.dedup();
        Ok(users)
    }

    /// The command lines that run the built-in image in this containerd.
    pub fn probe(&self, archive: &Path, way: AllowedWay) -> Probe {
        let archive = archive.display().to_string();
        let bare = self.ctr();
        let ctr = [bare.clone(), vec!["-n", NAMESPACE]].concat();
        let runtime = SetupOptions::default().runtime_path.display().to_string();
        // Docker's containerd has no nvidia runtime that ctr could name, so we name the shim
        // directly.
        let run: &[&str] = &["run", "--rm", "--runc-binary", &runtime];
        let ids = ["probe-0", "probe-1", "probe-2"];
        let ids = if way.denies_variable() {
            &ids[..]
        } else {
            &ids[..2]
        };
        let emptied = [
            self.state.join(TASKS),
            self.store.join(TASKS),
            // The directory of its runc shim.
            "/run/containerd/runc".into(),
        ];
        let emptied = emptied.map(|d| d.join(NAMESPACE).display().to_string());
        // The words given to ctr replace the image's entry point too, so the program comes first.
        let ends = |n: usize| {
            [
                probe_image::NAME,
                ids[n],
                probe_image::PROGRAM,
                probe_image::AGAIN,
            ]
        };
        let variable: &[&str] = &["--env", VARIABLE];
        let mount = format!("type=bind,src={SOURCE},dst={TARGET},options=rbind:ro");
        let asking: &[&str] = match way {
            AllowedWay::Variable => variable,
            AllowedWay::Mount => &["--mount", &mount],
            AllowedWay::Privileged => &["--cap-add", CAPABILITY, variable[0], variable[1]],
        };
        let program = "gpu-container-runtime";
        let mut cases = vec![
            Case {
                how: program.into(),
                argv: argv(&[&ctr, run, asking, &ends(0)]),
                gets: Gets::Gpus,
            },
            Case {
                how: Case::PLAIN.into(),
                argv: argv(&[&ctr, run, &ends(1)]),
                gets: Gets::Nothing,
            },
        ];
        if way.denies_variable() {
            cases.push(Case {
                how: format!("{program} {}", Case::VARIABLE_ALONE),
                argv: argv(&[&ctr, run, variable, &ends(2)]),
                gets: Gets::NothingByPolicy,
            });
        }
        let tidy = |id: &str| {
            let task = argv(&[&ctr, &["tasks", "rm", "-f", id]]);
            [task, argv(&[&ctr, &["containers", "rm", id]])]
        };
        Probe {
            load: vec![argv(&[&ctr, &["images", "import", &archive]])],
            cases,
            leftovers: ids.iter().copied().flat_map(tidy).collect(),
            unload: vec![
                // With --sync, the image's content is removed at once, so that the namespace can be
                // removed.
                argv(&[&ctr, &["images", "rm", "--sync", probe_image::NAME]]),
                // The namespace is empty now, unless another program uses that name.
                argv(&[&bare, &["namespaces", "rm", NAMESPACE]]),
                argv(&[&["rmdir"], &emptied.each_ref().map(String::as_str)]),
            ],
            ..Probe::default()
        }
    }
}

/// The pod of a container, which users know it by (annotations of containerd's CRI plugin,
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
    fn clients_are_named_by_their_common_names() {
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
        assert_eq!(users.unwrap(), ["default/4", "pod ml/trainer"]);
        // A task that cannot be read may use our runtime.
        let options = "s/io.containerd.runtime.v2.task/k8s.io/3/options.json";
        std::fs::write(dir.path().join(options), "{").unwrap();
        let why = daemon.tasks_of(&host, Path::new("/ours")).unwrap_err();
        assert!(why.contains("k8s.io/3/options.json"), "{why}");
    }
}
