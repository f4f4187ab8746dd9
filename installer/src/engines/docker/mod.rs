//! Sets up Docker, the system's or a user's rootless one, and detects those that are not ours to
//! set up.

pub(crate) mod client;
mod containers;
pub(crate) mod context;
pub(crate) mod daemon_json;
pub(crate) mod daemon_json_changes;
mod desktop;
pub(crate) mod drop_in;
mod health;
mod probe;
mod reload;
mod rootless;
pub(crate) mod runtime_entry;
mod snap;
mod unmanaged;

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, Info};
use daemon_json::DaemonJson;

use crate::engines::activation::{Activated, Activation, StoppedContainers};
use crate::engines::engine::{Engine, Facts, Management, Probe, argv, major_minor};
use crate::error::Error;
use crate::host::service::{Manager, Service};
use crate::host::systemd_unit::Unit;
use crate::host::user::User;
use crate::host::{Host, threads};
use crate::model::change::Change;
use crate::model::setup_options::{Mode, SetupOptions};

const CONFIG: &str = "/etc/docker/daemon.json";
/// The default PID file (dockerd(8), `--pidfile`).
pub const PIDFILE: &str = "/var/run/docker.pid";

/// A Docker that is ours to set up.
pub struct Docker {
    facts: Facts,
    version: (u32, u32),
    config: PathBuf,
    /// What `config` contained when it was last read, or why that is not known.
    file: Result<DaemonJson, Error>,
    unit: Unit,
    client: Client,
    /// What the daemon reported when it was detected; `None` if none runs. It is used for plans
    /// only: after a change, the daemon is asked again.
    info: Option<Info>,
    /// The user that it belongs to, if it is rootless.
    user: Option<User>,
    /// Whether it cannot see CDI specs, whatever its file says.
    is_blind: bool,
}

/// Every Docker of this host.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    let ours = [Docker::of_system(host), Docker::of_user(host)];
    for engine in ours.into_iter().flatten() {
        engines.push(Box::new(engine));
    }
    let others = [
        rootless::of_others(host),
        snap::find(host),
        desktop::find(host),
    ];
    for engine in others.into_iter().flatten() {
        engines.push(Box::new(engine));
    }
    engines
}

/// The socket that plain `docker` should use for the user who runs gpusetup: their own Docker's if
/// they have one, or else the system's.
pub fn own_socket(host: &Host) -> String {
    match host.user() {
        Some(user) if rootless::is_there(host, user) => {
            format!("unix://{}", rootless::socket(user).display())
        }
        _ => client::SOCKET.to_owned(),
    }
}

/// Whether this user has a rootless Docker of their own.
pub fn is_rootless_for(host: &Host, user: &User) -> bool {
    rootless::is_there(host, user)
}

impl Docker {
    fn of_system(host: &Host) -> Option<Self> {
        let program = host.program("dockerd")?;
        let unit = Unit::read(host, "docker.service");
        Some(Self::new(host, &program, unit, None))
    }

    fn of_user(host: &Host) -> Option<Self> {
        let user = host.user()?.clone();
        if !rootless::is_there(host, &user) {
            return None;
        }
        let unit = rootless::unit(host, &user);
        // dockerd is usually beside the script that starts it: docs.docker.com puts both in ~/bin.
        let script = unit.program().unwrap_or_default();
        let beside = Path::new(script).with_file_name("dockerd");
        let program = Some(beside).filter(|p| host.root().exists(p));
        let program = program.or_else(|| host.program("dockerd"));
        let program = program.unwrap_or_else(|| "dockerd".into());
        Some(Self::new(host, &program, unit, Some(user)))
    }

    fn new(host: &Host, program: &Path, unit: Unit, user: Option<User>) -> Self {
        let config = match (unit.flag("--config-file"), &user) {
            (Some(file), _) => PathBuf::from(file),
            (None, Some(user)) => user.config.join("docker/daemon.json"),
            (None, None) => CONFIG.into(),
        };
        let file = DaemonJson::read(host, &config);
        let otherwise = match &user {
            Some(user) => format!("unix://{}", rootless::socket(user).display()),
            None => client::SOCKET.to_owned(),
        };
        let listens = client::listens(&unit, file.as_ref().ok(), &otherwise);
        let client = Client::new(host, listens);
        let is_blind = user.is_some() && rootless::hides_specs(host, &unit);
        // In parallel: neither needs the other's answer, and dockerd is slow at both.
        let (version, info) = std::thread::scope(|scope| {
            let version = threads::begin(scope, || client::installed_version(host, program));
            let info = host.is_live().then(|| client.info(host).ok()).flatten();
            (version.end(), info)
        });
        let notes = file
            .as_ref()
            .map(|f| runtime_entry::dangling(host, f))
            .unwrap_or_default();
        Self {
            facts: Facts {
                name: match user {
                    Some(_) => rootless::NAME.into(),
                    None => "docker".into(),
                },
                management: Management::Managed,
                running: host.is_live().then_some(info.is_some()),
                config: Some(config.clone()),
                configured: false,
                outdated: Vec::new(),
                notes,
                version: version.clone(),
            },
            version: major_minor(version.as_deref().unwrap_or_default()),
            config,
            file,
            unit,
            client,
            info,
            user,
            is_blind,
        }
    }

    fn service(&self) -> Service {
        Service {
            name: "docker.service".into(),
            manager: match self.user {
                Some(_) => Manager::SystemdUser,
                None => Manager::Systemd,
            },
        }
    }

    fn file(&self) -> Option<&DaemonJson> {
        self.file.as_ref().ok()
    }

    fn pidfile(&self) -> PathBuf {
        let by_flag = self.unit.flag("--pidfile").or_else(|| self.unit.flag("-p"));
        let by_file = || {
            let pidfile = self.file()?.get(&["pidfile"])?;
            Some(pidfile.as_str()?.to_owned())
        };
        by_flag
            .or_else(by_file)
            .map_or_else(|| PIDFILE.into(), PathBuf::from)
    }

    fn drop_in(&self, host: &Host, wanted: &SetupOptions) -> Result<Option<Change>, Error> {
        // The hook would have to change device cgroups, which a user has no permission for.
        match self.user {
            Some(_) => Ok(None),
            None => drop_in::change(host, &self.unit, wanted, self.version),
        }
    }

    /// The mode to set up: CDI is not turned on if it would not work, unless the user asked for CDI
    /// alone.
    fn mode(&self, wanted: &SetupOptions) -> Mode {
        match wanted.mode {
            Mode::Both if self.is_blind => Mode::Runtime,
            mode => mode,
        }
    }
}

impl Engine for Docker {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }

    fn changes(&self, host: &Host, wanted: &SetupOptions) -> Result<Vec<Change>, Error> {
        let file = self.file.as_ref().map_err(Error::again)?;
        let wanted = &SetupOptions {
            mode: self.mode(wanted),
            ..wanted.clone()
        };
        let both = [
            file.change(host, wanted, self.version, &self.unit)?,
            self.drop_in(host, wanted)?,
        ];
        Ok(both
            .into_iter()
            .flatten()
            .filter(Change::is_needed)
            .collect())
    }

    fn consequences(&self, host: &Host, wanted: &SetupOptions) -> Vec<String> {
        let existing = self.file().and_then(|file| {
            let verdict = runtime_entry::judge(host, file, wanted).ok()?;
            runtime_entry::warning(file, wanted, verdict).filter(|_| wanted.mode != Mode::Cdi)
        });
        existing.into_iter().collect()
    }

    fn warnings(&self, host: &Host) -> Vec<String> {
        let elsewhere = context::target(host).warning(&self.client.host);
        let blind = self.is_blind.then(|| rootless::BLIND.to_owned());
        elsewhere.into_iter().chain(blind).collect()
    }

    fn is_of_user(&self) -> bool {
        self.user.is_some()
    }

    fn owns(&self, path: &Path) -> bool {
        path == self.config || (self.user.is_none() && path == Path::new(drop_in::PATH))
    }

    fn read_again(&mut self, host: &Host) {
        self.file = DaemonJson::read(host, &self.config);
    }

    fn text_of(&self, path: &Path) -> Option<&str> {
        let file = self.file().filter(|file| file.path == path)?;
        file.text.as_deref()
    }

    fn activation(&self, host: &Host, changes: &[Change]) -> Activation {
        if changes.is_empty() {
            return Activation::default();
        }
        let with = |effect: &str| Activated {
            service: self.service(),
            unit_changes: changes.iter().any(|c| c.path == Path::new(drop_in::PATH)),
            effect: effect.into(),
        };
        if !host.is_live() {
            return Activation::restart(with(""));
        }
        let Some(info) = &self.info else {
            return Activation::restart(with("it does not run now; this starts it"));
        };
        // A rootless dockerd runs under rootlesskit, which may not forward the signal.
        if self.user.is_none()
            && reload::is_enough(changes, &self.unit, info)
            && drop_in::is_started_with(host, &self.unit, &self.pidfile())
        {
            return Activation::Reload(with("running containers keep running (reload)"));
        }
        // If none runs, there are no names to ask for.
        let running = match info.running {
            Some(0) => Some(Vec::new()),
            _ => containers::running(host, &self.client),
        };
        let Some(running) = running else {
            return Activation::Restart {
                of: with(&containers::effect_of_unnamed(info.live_restore)),
                containers: if info.live_restore {
                    StoppedContainers::NONE
                } else {
                    StoppedContainers::Unknown
                },
            };
        };
        Activation::Restart {
            of: with(&containers::effect(&running, info.live_restore)),
            containers: if info.live_restore {
                StoppedContainers::NONE
            } else {
                StoppedContainers::Named(running)
            },
        }
    }

    fn dependent_containers(&self, host: &Host) -> Vec<String> {
        match &self.info {
            Some(info) if info.containers == Some(0) => Vec::new(),
            Some(_) => containers::dependent_containers(host, &self.client)
                .unwrap_or_else(|| vec!["those that `docker ps -a` did not name".into()]),
            // It does not run, so it cannot be asked.
            None => Vec::new(),
        }
    }

    fn stopping(&self, host: &Host, planned: &[String]) -> Vec<String> {
        match &self.info {
            Some(info) if !info.live_restore => {
                containers::running(host, &self.client).unwrap_or_else(|| planned.to_vec())
            }
            _ => planned.to_vec(),
        }
    }

    fn start_again(&self, host: &Host, stopped: &[String]) -> Result<(), Error> {
        containers::start_again(host, &self.client, stopped)
    }

    fn stale_after_reload(&self, host: &Host) -> Option<String> {
        let name = SetupOptions::default().runtime_name;
        let info = self.client.info(host).ok()?;
        let file = self.file()?;
        let is_kept = info.runtimes.contains_key(&name) && file.get(&["runtimes", &name]).is_none();
        is_kept.then(|| {
            format!(
                "docker knows runtime {name:?} until its next restart, for a reload takes none back; no container uses it"
            )
        })
    }

    fn wait_ready(&self, host: &Host) {
        self.client.wait_for_containerd(host);
    }

    fn probe(&self, host: &Host, archive: &Path) -> Option<Probe> {
        let wanted = SetupOptions::default();
        let is_ours = |file: &DaemonJson| {
            let entry = file.get(&["runtimes", &wanted.runtime_name])?;
            Some(entry.get("path").and_then(|p| p.as_str()) == wanted.runtime_path.to_str())
        };
        let ways = probe::Ways {
            gpus: self.user.is_none(),
            // A runtime of another tool that was left in place is not ours to test.
            runtime: self.file().and_then(is_ours).unwrap_or(true),
            cdi: !self.is_blind && self.client.info(host).is_ok_and(|info| info.has_cdi),
        };
        Some(probe::of(&self.client, archive, ways))
    }

    fn check(&self, host: &Host) -> Result<bool, Error> {
        // dockerd has `--validate` from 23.0 on; for older versions, what we wrote was checked as
        // it was made. A rootless dockerd is not started outside rootlesskit.
        let can = host.is_live() && self.user.is_none() && self.version >= (23, 0);
        if !can || !host.root().exists(&self.config) {
            return Ok(false);
        }
        let file = self.config.display().to_string();
        let mut argv = argv(&[&["dockerd", "--validate", "--config-file", &file]]);
        // With the flags of its unit, it also reports keys that are set both by flag and in the
        // file.
        if self.unit.program().is_some_and(|p| p.ends_with("/dockerd"))
            && self.unit.flag("--config-file").is_none()
        {
            argv.extend(self.unit.arguments().map(str::to_owned));
        }
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let out = host.run(&words, Duration::from_secs(30))?;
        if out.ok() {
            return Ok(true);
        }
        Err(Error::failed(
            format!("dockerd refuses its configuration: {}", out.last_line()),
            "",
        ))
    }

    fn health(&self, host: &Host) -> Result<(), Error> {
        health::wait(host, &self.client, self.file(), self.user.is_some())
    }
}

#[cfg(test)]
mod tests;
