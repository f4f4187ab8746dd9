//! Which distribution this is, and whether it is one we act on.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::init::{self, Init};
use super::os_release::field;
use super::platform;
use crate::root::Root;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    toml::from_str(include_str!("../../distros.toml"))
        .expect("distros.toml is read whole by this module's test")
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    distro: Vec<Row>,
}

/// A row of `distros.toml`, where each column is explained.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What people call it; no two rows have the same.
    pub name: String,
    /// Values of `ID` it goes by.
    pub ids: Vec<String>,
    /// Only this `VERSION_ID`, or those that start with it and a dot.
    pub version: Option<String>,
    /// Only these values of `VARIANT_ID`; any where empty.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Only where this file is there.
    pub marker: Option<String>,
    /// What installs packages, by name.
    pub package_manager: String,
    /// What runs services.
    #[serde(default)]
    pub service_manager: Init,
    /// How binaries get into /usr.
    #[serde(default)]
    pub usr: Usr,
    /// Where the configuration of engines lives.
    #[serde(default = "etc")]
    pub configs: String,
    /// A command that installs an engine.
    pub engine: Option<String>,
    /// Why we do not act; where there is none, we do.
    pub reason: Option<String>,
    /// What to write in place of running gpusetup.
    pub instead: Option<String>,
    /// How far it has been shown to work.
    pub tested: Tested,
    /// Where all this is from.
    pub source: String,
}

fn etc() -> String {
    "/etc".into()
}

/// How binaries get into /usr; all but the first are read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Usr {
    /// By a package, or by hand.
    #[default]
    Writable,
    /// By a package that rpm-ostree(1) lays over the image; seen after a reboot.
    Ostree,
    /// By transactional-update(8), in the snapshot of the next boot.
    Transactional,
    /// By an extension below /var/lib/extensions, systemd-sysext(8).
    Sysext,
    /// Not at all.
    Sealed,
}

impl Usr {
    /// Whether nothing can be written there while the system runs.
    pub fn is_read_only(self) -> bool {
        self != Self::Writable
    }
}

/// How far we have shown that a distribution works. The table's head says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tested {
    /// From documents and its os-release alone.
    Rules,
    /// Its config files edited, and checked by its engines.
    Config,
    /// Set up, used and undone on the real system.
    Scenarios,
}

/// The distribution, from os-release(5) and the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distro {
    /// `ID`, `linux` where it says none.
    pub id: String,
    /// `VERSION_ID`; testing and rolling releases have none.
    pub version_id: Option<String>,
    /// `VARIANT_ID`, such as `coreos`.
    pub variant_id: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// `ID_LIKE`, nearest first.
    pub id_like: Vec<String>,
    /// Name of its row in the table.
    pub known_as: Option<String>,
    /// What installs packages.
    pub package_manager: Option<String>,
    /// What runs services here by default; [`init::detect`] says what runs now.
    pub service_manager: Option<Init>,
    /// How binaries get into /usr.
    pub usr: Usr,
    /// Where the configuration of engines lives.
    pub configs: Option<String>,
    /// A command that installs an engine.
    pub engine: Option<String>,
    /// How far it has been shown to work.
    pub tested: Option<Tested>,
    /// `None`: we act on it. Else why not, in words for the user.
    pub unsupported: Option<String>,
    /// What to write in place of running gpusetup.
    pub instead: Option<String>,
    /// What the user should know before we act.
    pub warning: Option<String>,
}

/// The table, in its own order.
pub fn table() -> &'static [Row] {
    &TABLE.distro
}

/// Reads `/etc/os-release`, or `/usr/lib/os-release` where that is missing.
pub fn detect(root: &Root) -> Distro {
    let text = root
        .read_to_string("/etc/os-release")
        .or_else(|_| root.read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let mut distro = os_release(&text);
    match distro.row(root) {
        Some(row) => distro.is_as(row),
        None => distro.is_unknown(init::has_systemd(root)),
    }
    if distro.usr == Usr::Writable && platform::is_ostree(root) {
        distro.usr = Usr::Ostree;
        distro.package_manager = Some("rpm-ostree".into());
        distro.engine = None;
    }
    distro
}

/// What the file itself says.
fn os_release(text: &str) -> Distro {
    let id = field(text, "ID").unwrap_or_else(|| "linux".into());
    Distro {
        pretty_name: field(text, "PRETTY_NAME").unwrap_or_else(|| id.clone()),
        version_id: field(text, "VERSION_ID"),
        variant_id: field(text, "VARIANT_ID"),
        id_like: field(text, "ID_LIKE")
            .map(|l| l.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        id,
        ..Distro::default()
    }
}

impl Distro {
    fn row(&self, root: &Root) -> Option<&'static Row> {
        std::iter::once(&self.id)
            .chain(&self.id_like)
            .find_map(|id| {
                table()
                    .iter()
                    .find(|row| row.ids.contains(id) && self.fits(row, root))
            })
    }

    fn fits(&self, row: &Row, root: &Root) -> bool {
        let version = row.version.as_ref().is_none_or(|wanted| {
            let rest = self
                .version_id
                .as_ref()
                .and_then(|v| v.strip_prefix(wanted));
            rest.is_some_and(|r| r.is_empty() || r.starts_with('.'))
        });
        let variant = row.variants.is_empty()
            || self
                .variant_id
                .as_ref()
                .is_some_and(|v| row.variants.contains(v));
        version && variant && row.marker.as_ref().is_none_or(|m| root.exists(m))
    }

    fn is_as(&mut self, row: &Row) {
        self.known_as = Some(row.name.clone());
        self.package_manager = Some(row.package_manager.clone());
        self.service_manager = Some(row.service_manager);
        self.usr = row.usr;
        self.configs = Some(row.configs.clone());
        self.engine = row.engine.clone();
        self.tested = Some(row.tested);
        self.instead = row.instead.clone();
        self.unsupported = row
            .reason
            .as_ref()
            .map(|reason| format!("{}: {reason}", self.pretty_name));
    }

    fn is_unknown(&mut self, has_systemd: bool) {
        let unknown = format!("{} is not in the table of known distributions", self.id);
        if has_systemd {
            self.warning = Some(format!(
                "{unknown}; acting because systemd runs it, so its engines are taken to be set up as elsewhere"
            ));
        } else {
            self.unsupported = Some(format!("{unknown}, and systemd does not run it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;

    use super::*;

    fn with(os_release: &str, files: &[&str]) -> Distro {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files
            .iter()
            .map(|f| (*f, ""))
            .chain([("etc/os-release", os_release)])
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        detect(&Root::open(dir.path()).unwrap())
    }

    #[test]
    fn the_whole_table_is_sound() {
        let mut names = HashSet::new();
        let mut narrow = HashSet::new();
        for row in table() {
            let name = &row.name;
            assert!(names.insert(name), "{name} twice");
            assert!(!row.ids.is_empty(), "{name}");
            assert!(!row.source.is_empty(), "{name}");
            // Nobody is sent away without a way to go.
            assert!(row.reason.is_none() || row.instead.is_some(), "{name}");
            // Nothing of ours gets into a sealed /usr, and our units need systemd.
            let hopeless = row.usr == Usr::Sealed || row.service_manager != Init::Systemd;
            assert!(!hopeless || row.reason.is_some(), "{name}");
            let is_wide = row.version.is_none() && row.variants.is_empty() && row.marker.is_none();
            for id in &row.ids {
                assert!(!narrow.contains(id), "{name}: {id} is never reached");
                if is_wide {
                    narrow.insert(id);
                }
            }
        }
    }

    #[test]
    fn derivatives_follow_what_they_are_like() {
        let new = with("ID=newmint\nID_LIKE=\"ubuntu debian\"\n", &[]);
        assert_eq!(new.known_as.as_deref(), Some("Ubuntu"));
        assert_eq!((new.unsupported, new.warning), (None, None));
        // The first that is known, not the first in the table.
        let kin = with("ID=x\nID_LIKE=\"unheard-of arch debian\"\n", &[]);
        assert_eq!(kin.package_manager.as_deref(), Some("pacman"));
    }

    #[test]
    fn a_version_is_not_cut_in_the_middle() {
        let amazon = |version: &str| {
            with(&format!("ID=amzn\nVERSION_ID={version}\n"), &[])
                .known_as
                .unwrap()
        };
        assert_eq!(amazon("2"), "Amazon Linux 2");
        assert_eq!(amazon("2.0"), "Amazon Linux 2");
        assert_eq!(amazon("2023"), "Amazon Linux 2023");
        assert_eq!(amazon("2018.03"), "Amazon Linux 1");
    }

    #[test]
    fn an_unknown_one_is_acted_on_where_systemd_runs_it() {
        let without = with("ID=odd", &[]);
        assert!(without.unsupported.unwrap().contains("odd"));
        for systemd in ["run/systemd/system/x", "usr/lib/systemd/systemd"] {
            let odd = with("ID=odd", &[systemd]);
            assert_eq!(odd.unsupported, None);
            assert!(odd.warning.unwrap().contains("odd is not in the table"));
        }
    }

    #[test]
    fn ostree_makes_usr_read_only_whoever_it_is() {
        let rhel = "ID=rhel\nVERSION_ID=9.6\n";
        assert!(!with(rhel, &[]).usr.is_read_only());
        let image = with(rhel, &["run/ostree-booted"]);
        assert_eq!(image.usr, Usr::Ostree);
        assert_eq!(image.package_manager.as_deref(), Some("rpm-ostree"));
        assert_eq!(image.unsupported, None);
    }

    #[test]
    fn usr_lib_is_second() {
        let text = "ID=arch\n";
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::write(dir.path().join("usr/lib/os-release"), text).unwrap();
        let found = detect(&Root::open(dir.path()).unwrap());
        assert_eq!(found.id, "arch");
    }

    #[test]
    fn odd_files_do_not_panic() {
        for text in ["", "=", "ID", "ID=\"", "ID='\\", "ID=\\"] {
            assert!(!os_release(text).id.is_empty());
        }
    }
}
