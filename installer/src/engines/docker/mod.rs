//! Sets up Docker, the system's or a user's rootless one, and detects those that are not ours to
//! set up.
//!
//! Longer than 400 lines: Rust requires a trait's implementation in one place, and Docker differs from the default in
//! nearly every method of `Engine`.

mod by_hand;
pub(crate) mod cdi_restart;
pub(crate) mod client;
mod comeback;
mod containers;
pub(crate) mod context;
pub(crate) mod daemon_json;
pub(crate) mod daemon_json_changes;
mod desktop;
pub(crate) mod drop_in;
mod health;
mod installed;
mod places;
mod probe;
mod reload;
mod restart;
mod rootless;
pub(crate) mod runtime_entry;
mod snap;
pub(crate) mod stored_container;

use std::path::{Path, PathBuf};

use by_hand::OtherDaemons;
use client::{Client, DaemonInfo};
use comeback::RetryTimes;
use context::CurrentDaemon;
use daemon_json::DaemonJson;
use installed::InstalledDocker;
use places::{CONFIG, PIDFILE};
pub use places::{CONFIG_PATTERNS, USER_CONFIG_PATTERNS};

use crate::engines::activation::{Activated, Activation};
use crate::engines::allowed_way::AllowedWay;
use crate::engines::dependent::DependentContainer;
use crate::engines::engine::{DaemonState, Engine, Facts, Management, Probe, major_minor};
use crate::engines::unmanaged::Unmanaged;
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::error::still_down::StillDown;
use crate::host::answer::Answer;
use crate::host::daemon_process::DaemonProcess;
use crate::host::service::{Manager, Service};
use crate::host::systemd_unit::Unit;
use crate::host::user::User;
use crate::host::{Host, threads};
use crate::model::change::Change;
use crate::model::setup_options::{Mode, SetupOptions};

/// The note on a Docker that does not run, and whose socket listens.
const ON_DEMAND: &str = "its socket starts it when it is used";

/// A Docker that we manage.
pub struct Docker {
    facts: Facts,
    version: Answer<(u32, u32)>,
    /// Its dockerd.
    program: PathBuf,
    config: PathBuf,
    /// What `config` contained when it was last read, or why that is not known.
    file: Result<DaemonJson, Error>,
    unit: Unit,
    /// The name of that unit, which is also its service's.
    unit_name: String,
    client: Client,
    /// What the daemon reported when it was detected; `None` in a directory tree. It is used for plans only: after a
    /// change, the daemon is queried again.
    info: Answer<DaemonInfo>,
    /// The user that it belongs to, if it is rootless.
    user: Option<User>,
    /// Whether it cannot see CDI specs, whatever its file says.
    is_blind: bool,
    /// The daemon that plain `docker` talks to.
    target: CurrentDaemon,
    /// The daemons that its service does not run.
    others: OtherDaemons,
}

/// Every Docker of this host.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    let ours = [Docker::of_system(host), Docker::of_user(host)];
    let by_hand = ours[0]
        .is_none()
        .then(|| installed::running(host))
        .flatten();
    let more: Vec<Unmanaged> = ours[0].as_ref().map_or_else(Vec::new, |docker| {
        let more = docker.others.more.iter().cloned();
        more.map(|second| second.engine(&docker.config)).collect()
    });
    for engine in ours.into_iter().flatten() {
        engines.push(Box::new(engine));
    }
    let others = [
        by_hand,
        rootless::of_others(host),
        snap::find(host),
        desktop::find(host),
    ];
    for engine in others.into_iter().flatten().chain(more) {
        engines.push(Box::new(engine));
    }
    engines
}

fn service_of(unit_name: &str, user: Option<&User>) -> Service {
    Service {
        name: unit_name.to_owned(),
        manager: match user {
            Some(_) => Manager::SystemdUser,
            None => Manager::Systemd,
        },
    }
}

/// Whether no dockerd runs, as its service's manager says. One that somebody started by hand runs
/// although its service does not.
fn is_down(host: &Host, unit_name: &str, user: Option<&User>) -> bool {
    let pid = host.root().read_to_string(PIDFILE).unwrap_or_default();
    // The file of a dockerd that was killed may have the number of another process by now.
    let name = || {
        host.root()
            .read_to_string(format!("/proc/{}/comm", pid.trim()))
    };
    let by_hand = || name().is_ok_and(|name| name.trim() == "dockerd");
    service_of(unit_name, user).is_down(host) && !by_hand()
}

/// The socket that plain `docker` should use for the user who runs gpusetup: the socket of the user's own Docker if
/// there is one, otherwise the system's.
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

/// The unit of that user's own Docker.
pub fn user_unit(host: &Host, user: &User) -> Unit {
    rootless::unit(host, user)
}

/// The data directory of the system's Docker, if that is installed.
pub fn system_data_root(host: &Host) -> Option<PathBuf> {
    Docker::of_system(host).map(|docker| docker.data_root())
}

impl Docker {
    fn of_system(host: &Host) -> Option<Self> {
        let InstalledDocker { program, unit } = InstalledDocker::find(host)?;
        let started_by = Unit::read(host, &unit);
        Some(Self::new(host, &program, (unit, started_by), None))
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
        let unit = (rootless::UNIT.to_owned(), unit);
        Some(Self::new(host, &program, unit, Some(user)))
    }

    fn new(
        host: &Host,
        program: &Path,
        (unit_name, unit): (String, Unit),
        user: Option<User>,
    ) -> Self {
        let others = match &user {
            Some(_) => OtherDaemons::default(),
            None => by_hand::find(host, &unit, &service_of(&unit_name, None)),
        };
        // Its own command line counts, not that of a service which does not run it.
        let unit = match &others.instead {
            Some(process) => by_hand::started(&unit, process),
            None => unit,
        };
        let config = match (unit.flag("--config-file"), &user) {
            (Some(file), _) => PathBuf::from(file),
            // Without a unit, what runs was started by hand, and is started so again.
            (None, Some(user)) if user.daemon_json.is_some() && !unit.exists() => {
                user.daemon_json.clone().unwrap_or_default()
            }
            (None, Some(user)) => user.config.join("docker/daemon.json"),
            (None, None) => CONFIG.into(),
        };
        let file = DaemonJson::read(host, &config);
        let otherwise = match &user {
            Some(user) => format!("unix://{}", rootless::socket(user).display()),
            None => client::SOCKET.to_owned(),
        };
        let listens = client::listens(&unit, file.as_ref().ok(), &otherwise);
        let client = Client::new(host, program, listens);
        let is_blind = user.is_some() && rootless::hides_specs(host, &unit);
        // In parallel: neither needs the other's answer, and dockerd is slow at both.
        let mut is_on_demand = false;
        let (version, info) = std::thread::scope(|scope| {
            let version = threads::begin(scope, || client::installed_version(host, program));
            // Not even a question to one that does not run: its socket would start it.
            let is_down = host.is_live()
                && others.instead.is_none()
                // What answers at its socket may be another Docker.
                && (others.held.is_some() || is_down(host, &unit_name, user.as_ref()));
            let info = (host.is_live() && !is_down).then(|| client.info(host));
            is_on_demand = is_down && service_of(&unit_name, user.as_ref()).is_socket_up(host);
            (version.end(), info.unwrap_or(Answer::None))
        });
        let mut notes = file
            .as_ref()
            .map(|f| runtime_entry::dangling(host, f))
            .unwrap_or_default();
        notes.extend(is_on_demand.then(|| ON_DEMAND.to_owned()));
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
            program: program.to_owned(),
            config,
            file,
            unit,
            unit_name,
            client,
            info,
            user,
            is_blind,
            target: context::target(host),
            others,
        }
    }

    fn service(&self) -> Service {
        service_of(&self.unit_name, self.user.as_ref())
    }

    /// Its version, which decides what must be in its file. In a directory tree without its package the version is
    /// (0, 0), so very old.
    fn number(&self) -> Result<(u32, u32), Error> {
        match &self.version {
            Answer::Known(version) => Ok(*version),
            Answer::None => Ok((0, 0)),
            Answer::Unknown(why) => Err(Error::engine(
                "docker",
                EngineFault::VersionUnknown { why: why.clone() },
            )),
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

    /// Whether it cannot see CDI specs, whatever its file says.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// The unit that starts it, as read when it was detected.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    fn file(&self) -> Option<&DaemonJson> {
        self.file.as_ref().ok()
    }

    /// The file in which the daemon writes its process id.
    pub fn pidfile(&self) -> PathBuf {
        by_hand::pidfile(&self.unit, self.file())
    }

    fn data_root(&self) -> PathBuf {
        let of_user = self.user.as_ref().map(|user| user.data.join("docker"));
        let usual = of_user.unwrap_or_else(|| stored_container::DATA_ROOT.into());
        stored_container::data_root(&self.unit, self.file(), &usual)
    }

    fn drop_in(&self, host: &Host, wanted: &SetupOptions) -> Result<Option<Change>, Error> {
        // The hook would have to change device cgroups, which a user has no permission for.
        match self.user {
            Some(_) => Ok(None),
            None => drop_in::change(
                host,
                (&self.unit_name, &self.unit),
                wanted,
                self.version.known().copied(),
            ),
        }
    }

    /// Whether containers run on while it restarts: for that, both the daemon that ends and the one that begins need
    /// live-restore.
    fn keeps_containers(&self) -> bool {
        let file = self
            .file()
            .and_then(|file| file.get(&["live-restore"])?.as_bool());
        self.info.known().is_some_and(|info| info.live_restore) && file != Some(false)
    }

    /// What making our runtime the default does to the containers that are made from then on.
    fn pins_warning(&self, wanted: &SetupOptions) -> Option<String> {
        let name = &wanted.runtime_name;
        let is_default = self.file().is_some_and(|file| {
            file.get(&["default-runtime"]).and_then(|d| d.as_str()) == Some(name)
        });
        (wanted.default_runtime && wanted.mode != Mode::Cdi && !is_default).then(|| {
            format!(
                "{}: containers made while runtime {name:?} is the default have that name recorded in them, \
                 whether they ask for GPUs or not: they start only while Docker has a runtime of that name",
                self.facts.name
            )
        })
    }

    fn cdi_restart_warning(&self) -> Option<String> {
        cdi_restart::warning(*self.version.known()?)
    }

    /// The mode to set up: CDI is not enabled if it would not work, unless the user has asked for CDI only.
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
        let cdi = self.mode(wanted) != Mode::Runtime;
        let restarts = self.cdi_restart_warning().filter(|_| cdi);
        let pins = self.pins_warning(wanted);
        existing.into_iter().chain(pins).chain(restarts).collect()
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
        path == self.config || (self.user.is_none() && path == drop_in::path_of(&self.unit_name))
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
            unit_changes: {
                let drop_in = drop_in::path_of(&self.unit_name);
                changes.iter().any(|c| c.path == drop_in)
            },
            effect: effect.into(),
        };
        if !host.is_live() {
            return Activation::restart(with(""));
        }
        // A rootless dockerd runs under rootlesskit, which may not forward the signal.
        let can_reload = |info: &DaemonInfo| {
            self.user.is_none()
                && reload::is_enough(changes, &self.unit, info)
                && !self
                    .file()
                    .is_some_and(|f| reload::keeps_our_default(f, &self.unit, info))
                && drop_in::is_started_with(host, &self.unit, &self.pidfile())
        };
        match &self.info {
            Answer::Known(info) if can_reload(info) => {
                Activation::Reload(with("running containers keep running (reload)"))
            }
            info => {
                let mut info = info.clone();
                if let Answer::Known(info) = &mut info {
                    info.live_restore = self.keeps_containers();
                }
                restart::planned(host, &self.client, &info, with)
            }
        }
    }

    fn not_in_effect(&self, host: &Host, wanted: &SetupOptions) -> Answer<Option<String>> {
        let info = match &self.info {
            Answer::Known(info) => info,
            Answer::None => return Answer::Unknown("it does not answer".into()),
            Answer::Unknown(why) => return Answer::Unknown(why.clone()),
        };
        let file = match &self.file {
            Ok(file) => file,
            Err(e) => return Answer::Unknown(e.to_string()),
        };
        if let Some(how) = health::disagrees(file, info) {
            return Answer::Known(Some(format!("it {how}")));
        }
        let needs_cdi = self.mode(wanted) != Mode::Runtime
            && file
                .get(&["features", "cdi"])
                .and_then(serde_json::Value::as_bool)
                == Some(true);
        if needs_cdi && !info.has_cdi {
            return Answer::Known(Some("CDI is not on in it yet".into()));
        }
        let needs_hook = self.user.is_none() && wanted.mode != Mode::Cdi;
        if !needs_hook || !drop_in::finds_ours(host, &self.unit, wanted) {
            return Answer::Known(None);
        }
        match drop_in::runs_with(host, &self.pidfile()) {
            Ok(path) if drop_in::leads_to_ours(host, &path, wanted) => Answer::Known(None),
            Ok(_) => Answer::Known(Some("its PATH does not lead to the hook yet".into())),
            Err(why) => Answer::Unknown(why),
        }
    }

    fn still_in_effect(&self, host: &Host) -> Answer<Option<String>> {
        let info = match &self.info {
            Answer::Known(info) => info,
            Answer::None => return Answer::Known(None),
            Answer::Unknown(why) => return Answer::Unknown(why.clone()),
        };
        match &self.file {
            Ok(file) => Answer::Known(health::has_more(host, file, &self.unit, info)),
            Err(e) => Answer::Unknown(e.to_string()),
        }
    }

    fn daemon_service(&self, _host: &Host) -> Option<Service> {
        Some(self.service())
    }

    fn run_by_another(&self) -> Option<&DaemonProcess> {
        self.others.instead.as_ref()
    }

    fn is_held(&self) -> Option<String> {
        self.others.held.clone()
    }

    fn is_idle(&self, host: &Host) -> bool {
        let running = containers::running(host, &self.client);
        running.known().is_some_and(Vec::is_empty)
    }

    fn dependent_containers(&self, host: &Host) -> Answer<Vec<DependentContainer>> {
        match &self.info {
            Answer::Known(info) if info.containers == Some(0) => Answer::None,
            Answer::Known(_) => containers::dependent_containers(host, &self.client),
            // The daemon does not run, so it cannot be queried. It is started, and its containers with it.
            Answer::None => containers::stored_dependents(host, &self.data_root()),
            Answer::Unknown(why) => Answer::Unknown(why.clone()),
        }
    }

    fn stopping(&self, host: &Host, planned: &[String]) -> Vec<String> {
        // With live-restore too: whether they outlive the restart is seen after it. One that does not run is not asked: its
        // socket would start it.
        let runs = self.info.known().is_some();
        match runs.then(|| containers::up(host, &self.client)) {
            Some(Answer::Known(now)) => now,
            // The containers in the plan, which ran a moment ago.
            _ => planned.to_vec(),
        }
    }

    fn removed_on_stop(&self, host: &Host, names: &[String]) -> Vec<String> {
        if self.keeps_containers() {
            return Vec::new();
        }
        containers::removed_on_stop(host, &self.client, names)
    }

    fn start_again(&self, host: &Host, stopped: &[String]) -> Vec<StillDown> {
        comeback::start_again(host, &self.client, stopped, RetryTimes::USUAL)
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

    fn caveats(&self, host: &Host) -> Vec<String> {
        // If it is not known whether CDI is enabled, an unnecessary warning does less harm than a missing one.
        let has_cdi = match self.client.info(host) {
            Answer::Known(info) => info.has_cdi,
            Answer::None => false,
            Answer::Unknown(_) => true,
        };
        let warning = self
            .cdi_restart_warning()
            .filter(|_| has_cdi && !self.is_blind);
        warning.into_iter().collect()
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
            // A runtime of another tool that was left in place is not tested.
            runtime: self.file().and_then(is_ours).unwrap_or(true),
            cdi: !self.is_blind
                && match self.client.info(host) {
                    Answer::Known(info) => info.has_cdi,
                    Answer::None => false,
                    // The container itself reports the result.
                    Answer::Unknown(_) => true,
                },
            allowed: AllowedWay::of(host),
        };
        Some(probe::of(&self.client, archive, ways))
    }

    fn check(&self, host: &Host) -> Result<bool, Error> {
        // dockerd has `--validate` from 23.0 on; for older versions, our edit was checked when it was made. A
        // rootless dockerd is not started outside rootlesskit.
        let can = host.is_live() && self.user.is_none() && self.number()? >= (23, 0);
        if !can || !host.root().exists(&self.config) {
            return Ok(false);
        }
        health::ensure_valid(host, &self.program, &self.config, &self.unit)?;
        Ok(true)
    }

    fn health(&self, host: &Host) -> Result<(), Error> {
        health::wait(host, &self.client, self.file(), self.user.is_some())
    }
}

#[cfg(test)]
mod tests;
