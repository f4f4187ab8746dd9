//! Sets up k3s and rke2, whose containerd reads a `config.toml` that every start makes from a
//! template.
//!
//! We write a drop-in if that file imports a directory (from early 2026 on, k3s #13680), or else
//! add our lines to the template. k3s adds a runtime by itself if it finds
//! `nvidia-container-runtime` on its PATH. That runtime must not be defined a second time:
//! containerd does not read a file that has the same table twice (k3s docs #566).

mod data_dir;
mod kind;
pub mod pending;
mod template;

use std::path::{Path, PathBuf};

use self::data_dir::{data_dir, default_runtime, other_runtime};
use self::kind::{KINDS, KubernetesDistribution, SOCKET};
use self::template::Template;
use super::containerd::daemon::Daemon;
use super::containerd::edits::Place;
use super::containerd::files::Files;
use super::containerd::{Containerd, Layout, notes};
use crate::engines::engine::{DaemonState, Engine, Facts, Management, major_minor};
use crate::error::Error;
use crate::host::answer::Answer;
use crate::host::service::{Manager, Service};
use crate::host::{Host, systemd_unit};
use crate::model::change::Change;
use crate::model::setup_options::SetupOptions;

/// Where their configuration can name our programs, if the data directory was not moved.
pub const CONFIG_PATTERNS: &[&str] = &[
    "/var/lib/rancher/k3s/agent/etc/containerd/*",
    "/var/lib/rancher/k3s/agent/etc/containerd/*.d/*.toml",
    "/var/lib/rancher/rke2/agent/etc/containerd/*",
    "/var/lib/rancher/rke2/agent/etc/containerd/*.d/*.toml",
];
const STATE: &str = "/run/k3s/containerd";

/// Looks for both distributions.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    KINDS
        .iter()
        .filter_map(|kind| find(host, kind))
        .map(|e| Box::new(e) as Box<dyn Engine>)
        .collect()
}

fn find(host: &Host, kind: &KubernetesDistribution) -> Option<Containerd> {
    let service = service(host, kind);
    let program = ["/usr/local/bin", "/usr/bin", "/opt/rke2/bin", "/opt/bin"]
        .map(|dir| Path::new(dir).join(kind.name))
        .into_iter()
        .find(|p| host.root().exists(p));
    if service.is_none() && program.is_none() {
        return None;
    }
    let data = data_dir(host, kind);
    let dir = data.join("agent/etc/containerd");
    let bin = match kind.name {
        "k3s" => data.join("data/current/bin"),
        _ => data.join("bin"),
    };
    let bundled = |name: &str| bin.join(name).display().to_string();
    let daemon = Daemon {
        name: kind.name.into(),
        ctr: match &program {
            Some(k3s) if kind.name == "k3s" => vec![k3s.display().to_string(), "ctr".into()],
            _ => vec![bundled("ctr")],
        },
        program: bundled("containerd"),
        socket: SOCKET.into(),
        state: STATE.into(),
        store: data.join("agent/containerd"),
        service,
    };
    let mut place = Place {
        root: dir.join("config.toml"),
        version: (0, 0),
        merges: false,
        instead: None,
        is_generated: true,
    };
    let rendered = host.root().exists(&place.root);
    let files = place.files(host);
    if let Ok(files) = &files {
        place.version = version(host, &daemon, files);
        place.merges = place.version >= (2, 0);
    }
    let has_drop_in = files.as_ref().is_ok_and(|f| place.drop_in(f).is_some());
    let files = files.and_then(|mut files| {
        for name in template::NAMES.iter().filter(|_| !has_drop_in) {
            files.add_text(host, dir.join(name))?;
        }
        Ok(files)
    });
    let is_server = daemon
        .service
        .as_ref()
        .is_some_and(|s| s.name.trim_end_matches(".service") == kind.units[0]);
    Some(Containerd {
        facts: Facts {
            name: kind.name.into(),
            management: management(host, kind, rendered),
            version: program.and_then(|p| own_version(host, &p)),
            daemon: DaemonState::of(host, || daemon.answers(host)),
            config: Some(place.root.clone()),
            notes: files
                .as_ref()
                .map(|f| notes(host, &place, f))
                .unwrap_or_default(),
        },
        daemon,
        layout: Box::new(Rendered {
            name: kind.name,
            is_server,
            has_drop_in,
            given_default: default_runtime(host, kind),
            place,
            dir,
        }),
        files,
    })
}

fn management(host: &Host, kind: &KubernetesDistribution, rendered: bool) -> Management {
    if let Some(endpoint) = other_runtime(host, kind) {
        return Management::Unmanaged {
            why: format!(
                "{} is told to use the container runtime at {endpoint}",
                kind.name
            ),
            instead: "that one is set up as an engine of its own, where it is found".into(),
        };
    }
    if rendered {
        return Management::Managed;
    }
    Management::Unmanaged {
        why: format!(
            "{0} has not run its own containerd here yet, so how that one reads its configuration cannot be told",
            kind.name
        ),
        instead: format!("start {} once, then run this again", kind.name),
    }
}

/// The unit that exists, or the `OpenRC` service that the install script creates.
fn service(host: &Host, kind: &KubernetesDistribution) -> Option<Service> {
    let has_unit = |name: &&&str| systemd_unit::is_there(host, &format!("{name}.service"));
    if let Some(unit) = kind.units.iter().find(has_unit) {
        return Some(Service::systemd(format!("{unit}.service")));
    }
    kind.units
        .iter()
        .find(|name| host.root().exists(Path::new("/etc/init.d").join(name)))
        .map(|name| Service {
            name: (*name).to_owned(),
            manager: Manager::OpenRc,
        })
}

fn own_version(host: &Host, program: &Path) -> Option<String> {
    // "k3s version v1.36.2+k3s1 (01b6f04a)". It is only shown.
    let version = host.version(&program.display().to_string());
    version.known().cloned()
}

/// The version of its containerd: the one it prints, or else judged by the generated file. Schema 3
/// came with containerd 2.0, and every release whose file imports a directory by itself has a later
/// containerd.
fn version(host: &Host, daemon: &Daemon, files: &Files) -> (u32, u32) {
    if let Answer::Known(version) = daemon.version(host) {
        return major_minor(&version);
    }
    let number = files.root().and_then(|r| r.version()?.as_integer());
    let own = |path: &PathBuf| path.ends_with("config.toml.d/*.toml");
    let imports_by_itself = files.imports.iter().any(own);
    match number {
        Some(3..) => (2, 0),
        _ if imports_by_itself => (2, 0),
        _ => (1, 7),
    }
}

/// `agent/etc/containerd`: the generated file, and what can be put beside it.
struct Rendered {
    name: &'static str,
    is_server: bool,
    has_drop_in: bool,
    given_default: Option<String>,
    dir: PathBuf,
    place: Place,
}

impl Rendered {
    fn template(&self) -> Template<'_> {
        Template {
            name: self.name,
            dir: &self.dir,
            place: &self.place,
        }
    }
}

impl Layout for Rendered {
    fn changes(
        &self,
        host: &Host,
        files: &Files,
        wanted: &SetupOptions,
    ) -> Result<Vec<Change>, Error> {
        let template = self.template();
        let pending = template.pending(host, files)?;
        let mut wanted = template.beside_pending(pending.as_ref(), wanted)?;
        wanted.given_default.clone_from(&self.given_default);
        let changes = if self.has_drop_in {
            self.place.changes(host, files, &wanted)?
        } else {
            template.changes(host, files, &wanted)?
        };
        if !changes.is_empty() {
            template.ensure_restart_is_safe(pending.as_ref())?;
        }
        Ok(changes)
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn owns(&self, path: &Path) -> bool {
        path.starts_with(&self.dir)
    }

    fn checked(&self) -> Option<&Path> {
        Some(self.place.root.as_path()).filter(|_| self.has_drop_in)
    }

    fn effect(&self) -> String {
        if self.is_server {
            "pods keep running; the Kubernetes API is away for a moment".into()
        } else {
            "pods keep running".into()
        }
    }
}
