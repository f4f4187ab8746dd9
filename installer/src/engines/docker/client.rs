//! Runs the docker command line, always with an explicit daemon address. [`super::context`] determines which daemon
//! plain `docker` talks to, which depends on the shell, the context and sudo.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon_json::DaemonJson;
use crate::error::Error;
use crate::host::Host;
use crate::host::answer::{self, Answer};
use crate::host::process::Output;
use crate::host::systemd_unit::Unit;

/// Where the system's dockerd listens by default (dockerd(8), `--host`).
pub const SOCKET: &str = "unix:///var/run/docker.sock";
const LIMIT: Duration = Duration::from_secs(10);

/// A docker client for one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    program: String,
    /// The daemon's address: `unix:///var/run/docker.sock`.
    pub host: String,
    /// How long it may take to list containers; thousands of them take a while.
    patience: Duration,
}

/// What a daemon reports about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonInfo {
    /// Its runtimes by name, with their programs.
    pub runtimes: BTreeMap<String, String>,
    /// The runtime for containers that name none.
    pub default_runtime: String,
    /// Whether containers keep running while it restarts.
    pub live_restore: bool,
    /// Whether it applies CDI specs.
    pub has_cdi: bool,
    /// How many containers it has; `None` if it does not report the number.
    pub containers: Option<u64>,
    /// How many of them run.
    pub running: Option<u64>,
}

/// The version that a dockerd prints or, if it prints none, that of its package.
pub fn installed_version(host: &Host, program: &Path) -> Answer<String> {
    let packages = [
        "docker-ce",
        "docker.io",
        "moby-engine",
        "docker-engine",
        "docker",
    ];
    host.version_or_package(&program.display().to_string(), &packages)
}

impl Client {
    /// A client for the daemon that listens there. `dockerd` is its program.
    pub fn new(host: &Host, dockerd: &Path, listens: String) -> Self {
        // Uses an absolute path: /snap/bin comes first on some PATHs, and the docker of the snap cannot see /tmp.
        // Docker as an archive has both in one directory.
        let beside = dockerd.with_file_name("docker");
        let beside = Some(beside).filter(|p| p.is_absolute() && host.root().exists(p));
        let program = host.program("docker").or(beside);
        Self {
            program: program.map_or_else(|| "docker".into(), |p| p.display().to_string()),
            host: listens,
            patience: 6 * LIMIT,
        }
    }

    /// A client that runs a fake docker, and gives up on it after a second.
    #[cfg(test)]
    pub fn by(program: &Path) -> Self {
        Self {
            program: program.display().to_string(),
            host: SOCKET.into(),
            patience: Duration::from_secs(1),
        }
    }

    /// A command line of this client.
    pub fn argv(&self, parts: &[&[&str]]) -> Vec<String> {
        let start: &[&str] = &[&self.program, "-H", &self.host];
        crate::engines::engine::argv(&[&[start], parts].concat())
    }

    /// The output of a command about containers.
    pub fn list(&self, host: &Host, args: &[&str]) -> Result<String, String> {
        self.run(host, args, self.patience)
    }

    /// The lines that `docker inspect` prints for these objects, one each. An object that has been removed meanwhile
    /// has none: docker prints the others first, and then an error for each removed object. If any other object has
    /// no line, that is an error.
    pub fn inspect(&self, host: &Host, format: &str, ids: &[&str]) -> Result<Vec<String>, String> {
        let args = [&["inspect", "--format", format], ids].concat();
        let out = self.output(host, &args, self.patience);
        let out = out.map_err(|e| e.to_string())?;
        let is_gone = |l: &&str| l.to_ascii_lowercase().contains("no such object");
        let gone = out.stderr.lines().filter(is_gone).count();
        let lines: Vec<String> = out.stdout.lines().map(str::to_owned).collect();
        if lines.len() + gone < ids.len() || (!out.has_succeeded() && gone == 0) {
            return Err(format!("docker inspect: {}", out.last_line()));
        }
        Ok(lines)
    }

    /// Runs a command; the error is the last line of its output.
    fn run(&self, host: &Host, args: &[&str], limit: Duration) -> Result<String, String> {
        match self.output(host, args, limit) {
            Ok(out) if out.has_succeeded() => Ok(out.stdout),
            Ok(out) => Err(out.last_line().to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Starts a container; the error is the daemon's reason.
    pub fn start(&self, host: &Host, name: &str, limit: Duration) -> Result<(), String> {
        match self.output(host, &["start", name], limit) {
            Ok(out) if out.has_succeeded() => Ok(()),
            Ok(out) => Err(reason(&out)),
            Err(e) => Err(e.to_string()),
        }
    }

    fn output(&self, host: &Host, args: &[&str], limit: Duration) -> Result<Output, Error> {
        let argv = self.argv(&[args]);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        host.run(&argv, limit)
    }

    /// dockerd loses its connection to containerd while containerd restarts, and until it
    /// reconnects no container starts (seen on 20.10: "error while dialing"). It lists the
    /// components that it is connected to.
    pub fn wait_for_containerd(&self, host: &Host) {
        let end = Instant::now() + 2 * LIMIT;
        let args = ["version", "--format", "{{json .Server.Components}}"];
        while Instant::now() < end {
            match self.run(host, &args, LIMIT) {
                Ok(components) if !components.contains("\"containerd\"") => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                // dockerd is connected, or this docker does not report its components.
                _ => return,
            }
        }
    }

    /// Queries the daemon; `None` if nothing listens on its socket. A daemon that is busy, or that this user may not
    /// access, counts as running.
    pub fn info(&self, host: &Host) -> Answer<DaemonInfo> {
        match self.try_info(host) {
            Ok(info) => Answer::Known(info),
            Err(why) => match self.host.strip_prefix("unix://").map(Path::new) {
                Some(socket) => match answer::listener(socket) {
                    Answer::Known(()) => Answer::Unknown(why),
                    Answer::None => Answer::None,
                    // Shorter than docker's own message.
                    Answer::Unknown(why) => Answer::Unknown(why),
                },
                None if why.contains("connection refused") => Answer::None,
                None => Answer::Unknown(why),
            },
        }
    }

    /// Queries the daemon, with the reason if it does not answer. Without a daemon, `docker info` still succeeds and
    /// reports the error in its output.
    pub fn try_info(&self, host: &Host) -> Result<DaemonInfo, String> {
        let document = self.run(host, &["info", "--format", "{{json .}}"], LIMIT)?;
        info(&document)
    }
}

fn info(text: &str) -> Result<DaemonInfo, String> {
    let all: Value = serde_json::from_str(text).map_err(|e| format!("docker info: {e}"))?;
    let errors = all["ServerErrors"].as_array().map(Vec::as_slice);
    if let Some(first) = errors.unwrap_or_default().first() {
        return Err(first.as_str().unwrap_or("docker info fails").to_owned());
    }
    let runtimes = all["Runtimes"].as_object().into_iter().flatten();
    let runtimes = runtimes.map(|(name, runtime)| {
        let path = runtime["path"].as_str().unwrap_or_default();
        (name.clone(), path.to_owned())
    });
    Ok(DaemonInfo {
        runtimes: runtimes.collect(),
        default_runtime: all["DefaultRuntime"].as_str().unwrap_or_default().into(),
        live_restore: all["LiveRestoreEnabled"] == true,
        // Listed if CDI is on (moby 25.0).
        has_cdi: all["CDISpecDirs"].as_array().is_some_and(|d| !d.is_empty()),
        containers: all["Containers"].as_u64(),
        running: all["ContainersRunning"].as_u64(),
    })
}

/// Why `docker start` failed. The client's last line only repeats the names: "Error: failed to start
/// containers: web".
fn reason(out: &Output) -> String {
    const DAEMON: &str = "Error response from daemon:";
    let of_daemon = out.stderr.lines().find_map(|l| l.split_once(DAEMON));
    match of_daemon {
        Some((_, said)) => said.trim().to_owned(),
        None => out.first_line().to_owned(),
    }
}

/// The address on which a daemon started like that listens, as a client names it.
pub fn listens(unit: &Unit, config: Option<&DaemonJson>, otherwise: &str) -> String {
    let mut all: Vec<&str> = unit.flags("--host");
    all.extend(unit.flags("-H"));
    let joined = unit.arguments().filter_map(|a| a.strip_prefix("-H"));
    all.extend(joined.filter(|a| a.contains("://")));
    all.extend(config.map(DaemonJson::hosts).unwrap_or_default());
    let socket = all.iter().find(|h| h.starts_with("unix://"));
    // fd:// means docker.socket, which listens at the default address.
    let none = all.is_empty() || all.iter().any(|h| h.starts_with("fd://"));
    match (socket, none) {
        (Some(socket), _) => (*socket).to_owned(),
        (None, true) => otherwise.to_owned(),
        (None, false) => all[0].to_owned(),
    }
}

/// Whether two addresses mean the same socket: /var/run is a link to /run.
pub fn is_same(a: &str, b: &str) -> bool {
    let plain = |h: &str| {
        let path = h.strip_prefix("unix://").unwrap_or(h);
        Path::new(path.strip_prefix("/var").unwrap_or(path)).to_owned()
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_daemons_own_socket_is_used() {
        let listens = |flags: &str, json: &str| {
            let dir = tempfile::tempdir().unwrap();
            let units = dir.path().join("etc/systemd/system");
            fs::create_dir_all(&units).unwrap();
            let unit = format!("[Service]\nExecStart=/usr/bin/dockerd {flags}\n");
            fs::write(units.join("docker.service"), unit).unwrap();
            fs::write(dir.path().join("daemon.json"), json).unwrap();
            let host = Host::open(dir.path(), Path::new("/")).unwrap();
            let unit = Unit::read(&host, "docker.service");
            let config = DaemonJson::read(&host, Path::new("/daemon.json")).unwrap();
            listens(&unit, Some(&config), SOCKET)
        };
        assert_eq!(listens("-H fd://", "{}"), SOCKET);
        assert_eq!(listens("", "{}"), SOCKET);
        assert_eq!(listens("-H tcp://127.0.0.1:2375 -H fd://", "{}"), SOCKET);
        assert_eq!(
            listens("--host=unix:///run/x.sock", "{}"),
            "unix:///run/x.sock"
        );
        assert_eq!(listens("-Hunix:///run/x.sock", "{}"), "unix:///run/x.sock");
        let json = "{\"hosts\": [\"tcp://127.0.0.1:2375\", \"unix:///run/y.sock\"]}";
        assert_eq!(listens("", json), "unix:///run/y.sock");
        assert_eq!(
            listens("-H tcp://127.0.0.1:2375", "{}"),
            "tcp://127.0.0.1:2375"
        );
        assert!(is_same("unix:///run/docker.sock", SOCKET));
        assert!(!is_same("unix:///run/user/1000/docker.sock", SOCKET));
    }

    #[test]
    fn docker_info_is_parsed() {
        let text = r#"{"Runtimes":{"runc":{"path":"runc"},"nvidia":{"path":"/x"}},"DefaultRuntime":"runc","LiveRestoreEnabled":true,"CDISpecDirs":["/etc/cdi"],"Containers":3,"ContainersRunning":0}"#;
        let daemon = info(text).unwrap();
        assert_eq!(daemon.runtimes["nvidia"], "/x");
        assert!(daemon.live_restore && daemon.has_cdi && daemon.default_runtime == "runc");
        assert_eq!((daemon.containers, daemon.running), (Some(3), Some(0)));
        let none =
            r#"{"ID":"","Runtimes":null,"ServerErrors":["Cannot connect to the Docker daemon"]}"#;
        assert_eq!(
            info(none).unwrap_err(),
            "Cannot connect to the Docker daemon"
        );
        assert!(info("").is_err());
    }
}
