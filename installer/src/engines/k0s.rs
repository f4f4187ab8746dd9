//! Sets up k0s, which reads `/etc/k0s/containerd.toml` and drop-ins beside it. k0s writes that file
//! itself as long as the first line says so, and reads the drop-ins whenever they change (k0s
//! docs/runtime.md).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::containerd::daemon::Daemon;
use super::containerd::edits::Place;
use super::containerd::files::Files;
use super::containerd::{Containerd, Layout, notes, owned};
use crate::engines::engine::{DaemonState, Engine, Facts, Management, major_minor};
use crate::host::Host;
use crate::host::answer::Answer;
use crate::host::service::Service;
use crate::host::start_flags::StartFlags;
use crate::host::systemd_unit;

const CONFIG: &str = "/etc/k0s/containerd.toml";
const DROP_INS: &str = "/etc/k0s/containerd.d";
/// Where its configuration can name our programs.
pub const CONFIG_PATTERNS: &[&str] = &[CONFIG, "/etc/k0s/containerd.d/*.toml"];
/// k0s writes the file itself while this is its first line.
const MANAGED: &str = "# k0s_managed=true";
/// k0s reads changed drop-ins after three seconds without further changes.
const TAKEN_IN: Duration = Duration::from_secs(5);

/// Looks for k0s.
pub fn detect(host: &Host) -> Vec<Box<dyn Engine>> {
    find(host)
        .map(|e| Box::new(e) as Box<dyn Engine>)
        .into_iter()
        .collect()
}

fn find(host: &Host) -> Option<Containerd> {
    if !host.has_program("k0s") {
        return None;
    }
    let units = ["k0sworker.service", "k0scontroller.service"];
    let unit = units.iter().find(|name| systemd_unit::is_there(host, name));
    let data = unit
        .and_then(|u| StartFlags::read(host, u).get(&["data-dir"], ""))
        .and_then(|given| given.path().map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from("/var/lib/k0s"));
    let bundled = |name: &str| data.join("bin").join(name).display().to_string();
    let daemon = Daemon {
        name: "k0s".into(),
        service: unit.map(|u| Service::systemd(*u)),
        // k0s contains ctr.
        ctr: vec!["k0s".into(), "ctr".into()],
        program: bundled("containerd"),
        socket: "/run/k0s/containerd.sock".into(),
        state: "/run/k0s/containerd".into(),
        store: data.join("containerd"),
    };
    let text = host.lossy_text(Path::new(CONFIG));
    let is_managed = text.as_deref().is_some_and(is_managed);
    let mut place = Place::plain(CONFIG.into(), (0, 0));
    if is_managed {
        // k0s merges the drop-ins itself, whatever the file imports.
        place.merges = true;
        place.instead = Some(Path::new(DROP_INS).join("*.toml"));
    }
    let files = place.files(host);
    if let Ok(files) = &files {
        place.version = version(host, &daemon, files);
        place.merges |= place.version >= (2, 0);
    }
    let notes = files.as_ref().map(|f| notes(host, &place, f));
    let owned = files.as_ref().map(|f| owned(&place, f));
    Some(Containerd {
        facts: Facts {
            name: "k0s".into(),
            management: management(text.is_some()),
            version: own_version(host),
            daemon: DaemonState::of(host, || daemon.answers(host)),
            config: Some(CONFIG.into()),
            notes: notes.unwrap_or_default(),
        },
        daemon,
        layout: Box::new(EtcK0s {
            owned: owned.unwrap_or_default(),
            place,
        }),
        files,
    })
}

/// Whether k0s writes the file itself. Before 1.30, k0s began the file with an empty line.
fn is_managed(text: &str) -> bool {
    text.strip_prefix('\n').unwrap_or(text).lines().next() == Some(MANAGED)
}

fn management(has_config: bool) -> Management {
    if has_config {
        return Management::Managed;
    }
    // We must know which version of drop-in it reads: from 1.36 on, k0s does not start with
    // drop-ins of version 2, and older releases know no other.
    Management::Unmanaged {
        why: format!("{CONFIG} is not there: no worker runs here, or none has yet"),
        instead: "start k0s once, then run this again".into(),
    }
}

fn version(host: &Host, daemon: &Daemon, files: &Files) -> (u32, u32) {
    if let Answer::Known(version) = daemon.version(host) {
        return major_minor(&version);
    }
    let number = files.root().and_then(|r| r.version()?.as_integer());
    if number >= Some(3) { (2, 0) } else { (1, 7) }
}

fn own_version(host: &Host) -> Option<String> {
    let out = host
        .run(&["k0s", "version"], Duration::from_secs(10))
        .ok()?;
    Some(out.stdout.trim().trim_start_matches('v').to_owned()).filter(|v| !v.is_empty())
}

struct EtcK0s {
    place: Place,
    owned: Vec<PathBuf>,
}

impl Layout for EtcK0s {
    fn place(&self) -> &Place {
        &self.place
    }

    fn owns(&self, path: &Path) -> bool {
        path.starts_with(DROP_INS) || self.owned.iter().any(|o| o == path)
    }

    fn watches(&self, path: &Path) -> bool {
        path.starts_with(DROP_INS)
    }

    fn effect(&self) -> String {
        "pods keep running; a controller's Kubernetes API is away for a moment".into()
    }

    fn settle(&self, host: &Host) {
        let drop_in = Path::new(DROP_INS).join(super::containerd::edits::DROP_IN);
        let changed = host.root().metadata(drop_in).and_then(|m| m.modified());
        if let Some(age) = changed.ok().and_then(|t| t.elapsed().ok())
            && let Some(left) = TAKEN_IN.checked_sub(age)
        {
            std::thread::sleep(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_makes_it_managed() {
        for (text, is) in [
            ("# k0s_managed=true\nversion = 3\n", true),
            ("\n# k0s_managed=true\n", true),
            (" # k0s_managed=true\n", false),
            ("version = 3\n# k0s_managed=true\n", false),
            ("", false),
        ] {
            assert_eq!(is_managed(text), is, "{text:?}");
        }
    }
}
