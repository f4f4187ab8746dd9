//! Sets up `MicroK8s`, a snap whose containerd reads a file that every start makes from a TOML
//! template (microk8s microk8s-resources/wrappers/run-containerd-with-args).

use std::path::Path;

use super::containerd::daemon::Daemon;
use super::containerd::edits::Place;
use super::containerd::{Containerd, Layout, known_version, notes};
use crate::engines::engine::{DaemonState, Engine, Facts, Management, major_minor};
use crate::host::Host;
use crate::host::service::{Manager, Service};

const TEMPLATE: &str = "/var/snap/microk8s/current/args/containerd-template.toml";
/// Where its configuration can name our programs.
pub const CONFIG_PATTERNS: &[&str] = &[TEMPLATE];
const SNAP: &str = "/snap/microk8s/current";

/// Looks for `MicroK8s`.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    find(host)
        .map(|e| Box::new(e) as Box<dyn Engine>)
        .into_iter()
        .collect()
}

fn find(host: &Host) -> Option<Containerd> {
    if !host.root().exists(TEMPLATE) {
        return None;
    }
    let about = host
        .root()
        .read_to_string(Path::new(SNAP).join("meta/snap.yaml"));
    let about = about.unwrap_or_default();
    let field = |name: &str| {
        let of_line = |l: &str| l.strip_prefix(name)?.strip_prefix(':').map(str::to_owned);
        let value = about.lines().find_map(of_line)?;
        Some(value.trim().trim_matches(['\'', '"']).to_owned())
    };
    let daemon = Daemon {
        name: "microk8s".into(),
        service: Some(Service {
            name: "microk8s.daemon-containerd".into(),
            manager: Manager::Snap,
        }),
        ctr: vec![format!("{SNAP}/bin/ctr")],
        program: format!("{SNAP}/bin/containerd"),
        socket: "/var/snap/microk8s/common/run/containerd.sock".into(),
        state: "/var/snap/microk8s/common/run/containerd".into(),
        store: "/var/snap/microk8s/common/var/lib/containerd".into(),
    };
    let version = daemon.version(host);
    let number = major_minor(version.known().map_or("", String::as_str));
    let place = Place::plain(TEMPLATE.into(), number);
    let files = known_version("microk8s", &version).and_then(|()| place.files(host));
    let notes = files.as_ref().map(|f| notes(host, &place, f));
    Some(Containerd {
        facts: Facts {
            name: "microk8s".into(),
            management: management(field("confinement").as_deref()),
            version: field("version").map(|v| v.trim_start_matches('v').to_owned()),
            daemon: DaemonState::of(host, || daemon.answers(host)),
            config: Some(TEMPLATE.into()),
            notes: notes.unwrap_or_default(),
        },
        daemon,
        layout: Box::new(TemplateLayout { place }),
        files,
    })
}

fn management(confinement: Option<&str>) -> Management {
    if confinement != Some("strict") {
        return Management::Managed;
    }
    Management::Unmanaged {
        why: "this MicroK8s is strictly confined, and starts no program of the host's".into(),
        instead: "`snap install microk8s --classic` is the one that can".into(),
    }
}

struct TemplateLayout {
    place: Place,
}

impl Layout for TemplateLayout {
    fn place(&self) -> &Place {
        &self.place
    }

    fn owns(&self, path: &Path) -> bool {
        path == self.place.root
    }

    fn effect(&self) -> String {
        "pods keep running".into()
    }
}
