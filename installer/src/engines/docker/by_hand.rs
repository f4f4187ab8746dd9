//! Finds the dockerd processes that the service of the system's Docker does not run.
//!
//! While the service does not run, one that reads the same daemon.json is the Docker of this host, run by other means: it
//! is set up, and who has started it restarts it. Every other one is a Docker of its own, which is named and left alone.
//! Where that one has the socket, the PID file or the data of the service, the service is not started: it would take them
//! over, or fail.

use std::path::{Path, PathBuf};

use super::client;
use super::daemon_json::DaemonJson;
use super::places::{CONFIG, PIDFILE};
use super::stored_container;
use crate::engines::unmanaged::Unmanaged;
use crate::host::Host;
use crate::host::daemon_process::{self, DaemonProcess};
use crate::host::service::Service;
use crate::host::systemd_unit::Unit;

/// What runs besides the service of a Docker.
#[derive(Default)]
pub struct OtherDaemons {
    /// The process that runs as this Docker.
    pub instead: Option<DaemonProcess>,
    /// Why its service must not be started.
    pub held: Option<String>,
    /// Dockers of their own.
    pub more: Vec<SecondDocker>,
}

/// A dockerd with a configuration of its own.
#[derive(Clone)]
pub struct SecondDocker {
    process: DaemonProcess,
    uses: Uses,
}

/// What a dockerd needs for itself, and its file.
#[derive(Clone, Debug)]
struct Uses {
    config: PathBuf,
    socket: String,
    pidfile: PathBuf,
    data: PathBuf,
}

impl Uses {
    fn of(host: &Host, started: &Unit) -> Self {
        let config = config(started);
        let file = DaemonJson::read(host, &config).ok();
        Self {
            socket: client::listens(started, file.as_ref(), client::SOCKET),
            pidfile: pidfile(started, file.as_ref()),
            data: stored_container::data_root(
                started,
                file.as_ref(),
                Path::new(stored_container::DATA_ROOT),
            ),
            config,
        }
    }

    /// What two daemons cannot both have.
    fn shared_with(&self, other: &Self) -> Option<String> {
        if client::is_same(&self.socket, &other.socket) {
            return Some(self.socket.clone());
        }
        let both = [(&self.pidfile, &other.pidfile), (&self.data, &other.data)];
        let shared = both.into_iter().find(|(a, b)| a == b);
        shared.map(|(path, _)| path.display().to_string())
    }
}

fn config(started: &Unit) -> PathBuf {
    started
        .flag("--config-file")
        .map_or_else(|| CONFIG.into(), PathBuf::from)
}

/// The file in which a dockerd that is started so writes its process id.
pub fn pidfile(started: &Unit, file: Option<&DaemonJson>) -> PathBuf {
    let by_flag = started
        .flag("--pidfile")
        .or_else(|| started.flag("-p"))
        .map(PathBuf::from);
    let by_file = || Some(file?.get(&["pidfile"])?.as_str()?.into());
    by_flag.or_else(by_file).unwrap_or_else(|| PIDFILE.into())
}

/// How a process was started, as if that service started it: an environment is not known.
pub fn started(unit: &Unit, process: &DaemonProcess) -> Unit {
    let from = PathBuf::from(format!("/proc/{}/cmdline", process.pid));
    unit.started_as(&process.argv, &from)
}

/// Looks for them.
pub fn find(host: &Host, unit: &Unit, service: &Service) -> OtherDaemons {
    let mut all = daemon_process::running(host, "dockerd");
    all.retain(|process| !process.is_of_unit(&service.name));
    if all.is_empty() {
        return OtherDaemons::default();
    }
    // Where control groups do not tell.
    let main = service.main_process(host);
    all.retain(|process| Some(process.pid) != main);
    let its = Uses::of(host, unit);
    let is_down = service.is_down_or_missing(host);
    let mut found = OtherDaemons::default();
    for process in all {
        let uses = Uses::of(host, &started(unit, &process));
        if is_down && found.instead.is_none() && uses.config == its.config {
            found.instead = Some(process);
        } else {
            found.more.push(SecondDocker { process, uses });
        }
    }
    if is_down && found.instead.is_none() {
        found.held = found.more.iter().find_map(|second| {
            let shared = second.uses.shared_with(&its)?;
            let (name, process) = (&service.name, second.process.text());
            Some(format!(
                "{name} is not started, for {shared} is in use by {process}"
            ))
        });
    }
    found
}

impl SecondDocker {
    /// What is shown of it. `config` is the file of this host's Docker.
    pub fn engine(self, config: &Path) -> Unmanaged {
        let Self { process, uses } = self;
        let socket = uses.socket.trim_start_matches("unix://");
        let file = uses.config.display();
        let instead = if uses.config == config {
            format!("it reads {file} too, so restart it as it was started")
        } else {
            format!(
                "put \"runtimes\": {{\"nvidia\": {{\"path\": \"/usr/bin/gpu-container-runtime\"}}}} into {file}, and \
                 restart it as it was started"
            )
        };
        let why = format!(
            "{} is a Docker of its own, which docker's service does not run",
            process.text()
        );
        Unmanaged::new(&format!("docker@{socket}"), why, instead)
            .with(None, Some(&uses.config))
            .run_as(process)
    }
}
