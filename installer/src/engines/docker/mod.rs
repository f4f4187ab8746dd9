//! Sets up Docker, the system's or a user's rootless one, and detects those that are not ours to
//! set up.

pub(crate) mod client;
mod comeback;
mod containers;
pub(crate) mod context;
pub(crate) mod daemon_json;
pub(crate) mod daemon_json_changes;
mod desktop;
pub(crate) mod drop_in;
mod health;
mod places;
mod probe;
mod reload;
mod rootless;
pub(crate) mod runtime_entry;
mod snap;
mod unmanaged;

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, DaemonInfo};
use comeback::Patience;
use context::CurrentDaemon;
use daemon_json::DaemonJson;
use places::CONFIG;
pub use places::{CONFIG_PATTERNS, USER_CONFIG_PATTERNS};

use crate::engines::activation::{Activated, Activation};
use crate::engines::engine::{DaemonState, Engine, Facts, Management, Probe, argv, major_minor};
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::host::answer::Answer;
use crate::host::service::{Manager, Service};
use crate::host::systemd_unit::Unit;
use crate::host::user::User;
use crate::host::{Host, threads};
use crate::model::change::Change;
use crate::model::setup_options::{Mode, SetupOptions};
use crate::model::still_down::StillDown;

/// The default PID file (dockerd(8), `--pidfile`).
pub const PIDFILE: &str = "/var/run/docker.pid";

/// A Docker that is ours to set up.
pub struct Docker {
    facts: Facts,
    version: Answer<(u32, u32)>,
    config: PathBuf,
    /// What `config` contained when it was last read, or why that is not known.
    file: Result<DaemonJson, Error>,
    unit: Unit,
    client: Client,
    /// What the daemon reported when it was detected; `None` in a directory tree. It is used for
    /// plans only: after a change, the daemon is asked again.
    info: Answer<DaemonInfo>,
    /// The user that it belongs to, if it is rootless.
    user: Option<User>,
    /// Whether it cannot see CDI specs, whatever its file says.
    is_blind: bool,
    /// The daemon that plain `docker` talks to.
    target: CurrentDaemon,
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

fn service_of(user: Option<&User>) -> Service {
    Service {
        name: "docker.service".into(),
        manager: match user {
            Some(_) => Manager::SystemdUser,
            None => Manager::Systemd,
        },
    }
}

/// Whether no dockerd runs, as its service's manager says. One that somebody started by hand runs
/// although its service does not.
fn is_down(host: &Host, user: Option<&User>) -> bool {
    let pid = host.root().read_to_string(PIDFILE).unwrap_or_default();
    let by_hand = || !pid.is_empty() && host.root().exists(format!("/proc/{}", pid.trim()));
    service_of(user).is_down(host) && !by_hand()
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
            // Not even a question to one that does not run: its socket would start it.
            let can_answer = host.is_live() && !is_down(host, user.as_ref());
            let info = can_answer.then(|| client.info(host));
            (version.end(), info.unwrap_or(Answer::None))
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
                daemon: DaemonState::of(host, || info.clone().map(drop)),
                config: Some(config.clone()),
                notes,
                version: version.known().cloned(),
            },
            version: version.map(|v| major_minor(&v)),
            config,
            file,
            unit,
            client,
            info,
            user,
            is_blind,
            target: context::target(host),
        }
    }

    fn service(&self) -> Service {
        service_of(self.user.as_ref())
    }

    /// Its version; (0, 0), so very old, in a directory tree without its package. Fails if the
    /// program does not tell: what must be in its file depends on it.
    fn number(&self) -> Result<(u32, u32), Error> {
        match &self.version {
            Answer::Known(version) => Ok(*version),
            Answer::None => Ok((0, 0)),
            Answer::Unknown(why) => {
                let why = why.clone();
                Err(Error::engine("docker", EngineFault::VersionUnknown { why }))
            }
        }
    }

    /// Its daemon.json, as last read.
    pub fn daemon_json(&self) -> Result<&DaemonJson, &Error> {
        self.file.as_ref()
    }

    /// The daemon that plain `docker` talks to.
    pub fn target(&self) -> &CurrentDaemon {
        &self.target
    }

    /// The unit that starts it, as read when it was detected.
    pub fn unit(&self) -> &Unit {
        &self.unit
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
            None => drop_in::change(host, &self.unit, wanted),
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

    fn changes(&self, host: &Host, wanted: &SetupOptions) -> Result<Vec<Change>, Error> {
        let file = self.file.as_ref().map_err(Clone::clone)?;
        let wanted = &SetupOptions {
            mode: self.mode(wanted),
            ..wanted.clone()
        };
        let both = [
            file.change(host, wanted, self.number()?, &self.unit)?,
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

    fn warnings(&self, _host: &Host) -> Vec<String> {
        let elsewhere = self.target.warning(&self.client.host);
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
        let not_known = |why: &str| Activation::Restart {
            of: with(&format!("which of its containers stop is not known: {why}")),
            containers: Answer::Unknown(why.to_owned()),
        };
        let info = match &self.info {
            Answer::Known(info) => info,
            Answer::None => {
                return Activation::restart(with("it does not run now; this starts it"));
            }
            Answer::Unknown(why) => return not_known(why),
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
            Some(0) => Answer::Known(Vec::new()),
            _ => containers::running(host, &self.client),
        };
        match running {
            Answer::Unknown(_) if info.live_restore => {
                Activation::restart(with(containers::KEEP_RUNNING))
            }
            Answer::Unknown(why) => not_known(&why),
            running => {
                let names = running.known().map_or(&[][..], Vec::as_slice);
                let of = with(&containers::effect(names, info.live_restore));
                let stops = if info.live_restore {
                    Answer::None
                } else {
                    running
                };
                Activation::Restart {
                    of,
                    containers: stops,
                }
            }
        }
    }

    fn daemon_service(&self, _host: &Host) -> Option<Service> {
        Some(self.service())
    }

    fn is_idle(&self, host: &Host) -> bool {
        let running = containers::running(host, &self.client);
        running.known().is_some_and(Vec::is_empty)
    }

    fn dependent_containers(&self, host: &Host) -> Answer<Vec<String>> {
        match &self.info {
            Answer::Known(info) if info.containers == Some(0) => Answer::None,
            Answer::Known(_) => containers::dependent_containers(host, &self.client),
            // It does not run, so it cannot be asked.
            Answer::None => Answer::None,
            Answer::Unknown(why) => Answer::Unknown(why.clone()),
        }
    }

    fn stopping(&self, host: &Host, planned: &[String]) -> Vec<String> {
        let stops = self.info.known().is_some_and(|info| !info.live_restore);
        let now = stops.then(|| containers::running(host, &self.client));
        match now {
            Some(Answer::Known(now)) => now,
            // Those in the plan, which ran a moment ago.
            Some(Answer::None | Answer::Unknown(_)) | None => planned.to_vec(),
        }
    }

    fn start_again(&self, host: &Host, stopped: &[String]) -> Vec<StillDown> {
        comeback::start_again(host, &self.client, stopped, Patience::USUAL)
    }

    fn stale_after_reload(&self, host: &Host) -> Option<String> {
        let name = SetupOptions::default().runtime_name;
        let file = self.file()?;
        let info = match self.client.info(host) {
            Answer::Known(info) => info,
            Answer::None => return None,
            Answer::Unknown(why) => {
                return Some(format!(
                    "whether docker still knows runtime {name:?} is not known: {why}"
                ));
            }
        };
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
            cdi: !self.is_blind
                && match self.client.info(host) {
                    Answer::Known(info) => info.has_cdi,
                    Answer::None => false,
                    // The container tells.
                    Answer::Unknown(_) => true,
                },
        };
        Some(probe::of(&self.client, archive, ways))
    }

    fn check(&self, host: &Host) -> Result<bool, Error> {
        // dockerd has `--validate` from 23.0 on; for older versions, what we wrote was checked as
        // it was made. A rootless dockerd is not started outside rootlesskit.
        let can = host.is_live() && self.user.is_none() && self.number()? >= (23, 0);
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
        if out.has_succeeded() {
            return Ok(true);
        }
        let said = out.last_line().to_owned();
        Err(Error::engine("dockerd", EngineFault::Refuses { said }))
    }

    fn health(&self, host: &Host) -> Result<(), Error> {
        health::wait(host, &self.client, self.file(), self.user.is_some())
    }
}

#[cfg(test)]
mod tests;
