//! Sets up containerd: a runtime entry for Kubernetes' CRI, and CDI if CRI supports it.
//!
//! This module handles containerd as an engine of its own; [`super::k3s`], [`super::k0s`] and [`super::microk8s`]
//! bring the same daemon with them.

pub mod daemon;
pub mod edits;
pub mod files;
mod pods;
pub mod schema;
mod second;
pub mod settings;
pub mod view;

use std::path::{Path, PathBuf};

use self::daemon::Daemon;
use self::edits::{DROP_IN, Place};
use self::files::{File, Files};
use self::schema::Schema;
use self::view::View;
use crate::engines::activation::{Activated, Activation};
use crate::engines::allowed_way::AllowedWay;
use crate::engines::dependent::DependentContainer;
use crate::engines::engine::{DaemonState, Engine, Facts, Management, Probe, major_minor};
use crate::error::Error;
use crate::error::engine_fault::EngineFault;
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::service::Service;
use crate::host::start_flags::StartFlags;
use crate::model::change::Change;
use crate::model::setup_options::SetupOptions;

const CONFIG: &str = "/etc/containerd/config.toml";
/// Where its configuration can name our programs.
pub const CONFIG_PATTERNS: &[&str] = &[CONFIG, "/etc/containerd/conf.d/*.toml"];
/// Where containerd listens by default.
const SOCKET: &str = "/run/containerd/containerd.sock";
const STATE: &str = "/run/containerd";
const STORE: &str = "/var/lib/containerd";

/// A containerd, whichever package or distribution it came with.
pub struct Containerd {
    /// The facts that all engines have in common.
    pub facts: Facts,
    /// The daemon.
    pub daemon: Daemon,
    /// Its configuration files, or why they are not known.
    pub files: Result<Files, Error>,
    /// Where its configuration is, and what makes the daemon read it.
    pub layout: Box<dyn Layout>,
}

/// Where a containerd has its configuration, and what makes the daemon read it.
pub trait Layout: Send + Sync {
    /// See [`Engine::changes`]; uses the files as they were read when the engine was detected.
    fn changes(
        &self,
        host: &Host,
        files: &Files,
        wanted: &SetupOptions,
    ) -> Result<Vec<Change>, Error> {
        self.place().changes(host, files, wanted)
    }

    /// The root file, and how the daemon reads it.
    fn place(&self) -> &Place;

    /// See [`Engine::owns`].
    fn owns(&self, path: &Path) -> bool;

    /// The root file that the daemon's own checker can read once the changes are written.
    fn checked(&self) -> Option<&Path> {
        Some(&self.place().root)
    }

    /// Whether the daemon, or the program that starts it, reads that file by itself when it changes.
    fn watches(&self, _path: &Path) -> bool {
        false
    }

    /// Whether a kubelet uses it.
    fn is_node(&self, _host: &Host) -> bool {
        true
    }

    /// What a restart stops, as a message.
    fn effect(&self) -> String;

    /// Waits until the written files are read, if that happens without a restart.
    fn settle(&self, _host: &Host) {}
}

/// Looks for containerd as an engine of its own.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    let Some(engine) = find(host) else {
        return Vec::new();
    };
    let config = engine.facts.config.clone().unwrap_or_default();
    let more = second::find(host, &config, &engine.daemon.socket);
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(engine)];
    for one in more {
        engines.push(Box::new(one));
    }
    engines
}

fn find(host: &Host) -> Option<Containerd> {
    if !host.has_program("containerd") || is_anothers(host) {
        return None;
    }
    let flags = StartFlags::read(host, "containerd.service");
    // containerd's flags have no variables.
    let given = |names: &[&str]| flags.get(names, "").map(|given| given.value);
    let root = given(&["config"])
        .map(PathBuf::from)
        // Other commands in a unit may have a -c too.
        .or_else(|| Some(PathBuf::from(given(&["c"])?)).filter(|p| is_toml(p)))
        .unwrap_or_else(|| CONFIG.into());
    let mut daemon = Daemon {
        name: "containerd".into(),
        service: Some(Service::systemd("containerd.service")),
        ctr: vec!["ctr".into()],
        program: "containerd".into(),
        socket: SOCKET.into(),
        state: STATE.into(),
        store: STORE.into(),
    };
    let version = host.version_or_package(&daemon.program, &["containerd.io", "containerd"]);
    let number = major_minor(version.known().map_or("", String::as_str));
    let place = Place::plain(root.clone(), number);
    // `changes` reports files that cannot be read, and a daemon of which it is not known how it reads them.
    let files = known_version("containerd", &version).and_then(|()| place.files(host));
    let root_file = files.as_ref().ok().and_then(Files::root);
    if let Some(socket) = given(&["address", "a"]).or_else(|| socket(root_file)) {
        daemon.socket = socket.into();
    }
    let set = |key| {
        let in_file = || Some(root_file?.get(&[key])?.as_str()?.to_owned());
        given(&[key]).or_else(in_file)
    };
    if let Some(state) = set("state") {
        daemon.state = state.into();
    }
    if let Some(store) = set("root") {
        daemon.store = store.into();
    }
    let notes = files.as_ref().map(|f| notes(host, &place, f));
    let owned = files.as_ref().map(|f| owned(&place, f));
    Some(Containerd {
        facts: Facts {
            name: "containerd".into(),
            management: Management::Managed,
            daemon: DaemonState::of(host, || daemon.answers(host)),
            config: Some(root),
            notes: notes.unwrap_or_default(),
            version: version.known().cloned(),
        },
        daemon,
        layout: Box::new(EtcContainerd {
            owned: owned.unwrap_or_default(),
            place,
        }),
        files,
    })
}

/// Fails if an engine's version is needed but not known: the version decides what it reads.
pub fn known_version(engine: &str, version: &Answer<String>) -> Result<(), Error> {
    match version.unknown() {
        None => Ok(()),
        Some(why) => Err(Error::engine(
            engine,
            EngineFault::VersionUnknown {
                why: why.to_owned(),
            },
        )),
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "toml")
}

/// Whether the program is part of a Kubernetes distribution, which is detected separately.
fn is_anothers(host: &Host) -> bool {
    host.program("containerd")
        .and_then(|path| host.root().canonicalize(path).ok())
        .is_some_and(|real| {
            ["/var/lib/rancher", "/var/lib/k0s", "/snap"]
                .iter()
                .any(|dir| real.starts_with(dir))
        })
}

fn socket(root: Option<&File>) -> Option<String> {
    let root = root?;
    let places: [&[&str]; 2] = [
        &["grpc", "address"],
        // From schema 4 on.
        &["plugins", "io.containerd.server.v1.grpc", "address"],
    ];
    let address = places.iter().find_map(|p| root.get(p)?.as_str())?;
    Some(address.to_owned()).filter(|a| !a.is_empty())
}

/// Notes on a containerd's configuration files.
pub fn notes(host: &Host, place: &Place, files: &Files) -> Vec<String> {
    let mut notes = Vec::new();
    if schema::is_off(files) {
        let rest = if has_kubelet(host) {
            "no pod gets a GPU from it until that line goes"
        } else {
            "so there is nothing to set up for it; ctr and nerdctl use CDI or name the runtime themselves"
        };
        notes.push(format!("CRI is disabled here (disabled_plugins): {rest}"));
    }
    if schema::is_unread(files, place.version) {
        notes.push(format!(
            "{} has no version, so containerd {}.{} does not read its [plugins.cri]; \
             `containerd config migrate` writes it anew",
            place.root.display(),
            place.version.0,
            place.version.1
        ));
    }
    let Ok(schema) = Schema::of(files, place.version) else {
        return notes;
    };
    let view = View::new(files, &schema, place.merges);
    let hidden = files.root().is_some_and(|r| schema::has_cri(r, &schema));
    if let Some(last) = view.last_file()
        && !place.merges
        && hidden
        && last.path != files.root
    {
        notes.push(format!(
            "{} hides what {} says of CRI: before 2.0 the last file counts, whole (containerd #5837)",
            last.path.display(),
            files.root.display()
        ));
    }
    notes.extend(settings::dangling(host, &view));
    notes
}

/// Paths that our changes may touch.
pub fn owned(place: &Place, files: &Files) -> Vec<PathBuf> {
    let mut owned: Vec<PathBuf> = files.read.iter().map(|f| f.path.clone()).collect();
    owned.extend(files.drop_in(DROP_IN));
    owned.push(place.root.clone());
    owned
}

/// `/etc/containerd/config.toml`, or the file that the unit names, and what it imports.
struct EtcContainerd {
    place: Place,
    owned: Vec<PathBuf>,
}

impl Layout for EtcContainerd {
    fn changes(
        &self,
        host: &Host,
        files: &Files,
        wanted: &SetupOptions,
    ) -> Result<Vec<Change>, Error> {
        // Docker's packages disable CRI, so nothing would read what we write there.
        if schema::is_off(files) && !has_kubelet(host) {
            return Ok(Vec::new());
        }
        self.place.changes(host, files, wanted)
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn owns(&self, path: &Path) -> bool {
        // The root file may no longer import our drop-in.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_drop_in = name.ends_with(DROP_IN) && path.starts_with("/etc/containerd");
        is_drop_in || self.owned.iter().any(|o| o == path)
    }

    fn is_node(&self, host: &Host) -> bool {
        has_kubelet(host)
    }

    fn effect(&self) -> String {
        "running containers keep running".into()
    }
}

/// Whether this host is a Kubernetes node.
pub fn has_kubelet(host: &Host) -> bool {
    host.has_program("kubelet") || host.root().exists("/var/lib/kubelet/config.yaml")
}

impl Engine for Containerd {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn changes(&self, host: &Host, wanted: &SetupOptions) -> Result<Vec<Change>, Error> {
        if !self.is_ours() {
            return Ok(Vec::new());
        }
        let files = self.files.as_ref().map_err(Clone::clone)?;
        self.layout.changes(host, files, wanted)
    }

    fn text_of(&self, path: &Path) -> Option<&str> {
        self.files.as_ref().ok()?.text(path)
    }

    fn owns(&self, path: &Path) -> bool {
        self.layout.owns(path)
    }

    fn reads(&self) -> Vec<PathBuf> {
        let read = self.files.iter().flat_map(Files::paths).cloned();
        read.chain(self.facts.config.clone()).collect()
    }

    fn rendered(&self) -> Option<&Path> {
        let place = self.layout.place();
        place.is_generated.then_some(place.root.as_path())
    }

    fn activation(&self, _host: &Host, changes: &[Change]) -> Activation {
        if changes.iter().all(|c| self.layout.watches(&c.path)) {
            return Activation::default();
        }
        let service = self.daemon.service.clone();
        service.map_or(Activation::None, |service| {
            Activation::restart(Activated {
                service,
                unit_changes: false,
                effect: self.layout.effect(),
            })
        })
    }

    fn watches(&self, path: &Path) -> bool {
        self.layout.watches(path)
    }

    fn daemon_service(&self, _host: &Host) -> Option<Service> {
        self.daemon.service.clone()
    }

    fn warnings(&self, _host: &Host) -> Vec<String> {
        let name = &self.facts.name;
        let notes = self.facts.notes.iter();
        notes.map(|note| format!("{name}: {note}")).collect()
    }

    fn dependent_containers(&self, host: &Host) -> Answer<Vec<DependentContainer>> {
        self.daemon.dependent_containers(host)
    }

    fn probe(&self, host: &Host, archive: &Path) -> Option<Probe> {
        self.layout.settle(host);
        Some(self.daemon.probe(archive, AllowedWay::of(host)))
    }

    fn pods(&self, host: &Host, archive: &Path) -> Option<Probe> {
        // Its files have been written since detection, and generated files change only at a restart.
        let place = self.layout.place();
        let files = place.files(host).ok()?;
        let is_node = self.layout.is_node(host);
        pods::probe(host, &self.daemon, place, &files, is_node, archive)
    }

    fn check(&self, host: &Host) -> Result<bool, Error> {
        match self.layout.checked() {
            Some(root) => self.daemon.check(host, root),
            None => Ok(false),
        }
    }

    fn health(&self, host: &Host) -> Result<(), Error> {
        self.daemon.wait(host)
    }
}
