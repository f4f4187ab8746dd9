//! Recognizes the distribution and whether gpusetup supports it.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::init::{self, Init};
use super::os_release::field;
use super::platform;
use crate::root::Root;

static TABLE: LazyLock<DistroTable> = LazyLock::new(|| {
    toml::from_str(include_str!("../../distros.toml"))
        .expect("distros.toml is read whole by this module's test")
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DistroTable {
    distro: Vec<DistroRow>,
}

/// A row of `distros.toml`; the head of that file explains each column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistroRow {
    /// The common name; unique in the table.
    pub name: String,
    /// The values of `ID` in os-release that this row matches.
    pub ids: Vec<String>,
    /// If set, matches only this `VERSION_ID` and those that start with it and a dot.
    pub version: Option<String>,
    /// If not empty, matches only these values of `VARIANT_ID`.
    #[serde(default)]
    pub variants: Vec<String>,
    /// If set, matches only where this file exists.
    pub marker: Option<String>,
    /// A file whose first line names the system better than its os-release does, which is that of
    /// the distribution it was made from.
    pub title: Option<String>,
    /// The name of the package manager.
    pub package_manager: String,
    /// The service manager.
    #[serde(default)]
    pub service_manager: Init,
    /// How binaries get into /usr.
    #[serde(default)]
    pub usr: Usr,
    /// The directory with the configuration of container engines.
    #[serde(default = "etc")]
    pub configs: String,
    /// A command that installs a container engine.
    pub engine: Option<String>,
    /// Why gpusetup does not support the distribution; `None` if it does.
    pub reason: Option<String>,
    /// What the user can do instead of running gpusetup.
    pub instead: Option<String>,
    /// How thoroughly the distribution has been tested.
    pub tested: Tested,
    /// Where the facts in this row come from.
    pub source: String,
}

fn etc() -> String {
    "/etc".into()
}

/// How binaries get into /usr. It is read-only for all variants but the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Usr {
    /// By a package, or by hand.
    #[default]
    Writable,
    /// By a package that rpm-ostree(1) layers onto the image; takes effect after a reboot.
    Ostree,
    /// By transactional-update(8), in the snapshot for the next boot.
    Transactional,
    /// By a system extension below /var/lib/extensions (systemd-sysext(8)).
    Sysext,
    /// Not at all.
    Sealed,
}

impl Usr {
    /// Whether /usr is read-only while the system runs.
    pub fn is_read_only(self) -> bool {
        self != Self::Writable
    }
}

/// How thoroughly a distribution has been tested. The head of `distros.toml` defines the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tested {
    /// Not run; the row follows from documents and the distribution's os-release.
    Rules,
    /// Its config files were edited and then checked by its engines.
    Config,
    /// Set up, used and undone on the real system.
    Scenarios,
}

/// The distribution, from os-release(5) and the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distro {
    /// `ID`; `linux` where os-release has none.
    pub id: String,
    /// `VERSION_ID`; testing and rolling releases have none.
    pub version_id: Option<String>,
    /// `VARIANT_ID`, such as `coreos`.
    pub variant_id: Option<String>,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// `ID_LIKE`, nearest first.
    pub id_like: Vec<String>,
    /// Name of the matching row in the table.
    pub known_as: Option<String>,
    /// The name of the package manager.
    pub package_manager: Option<String>,
    /// The distribution's default service manager; [`init::detect`] tells which one runs now.
    pub service_manager: Option<Init>,
    /// How binaries get into /usr.
    pub usr: Usr,
    /// The directory with the configuration of container engines.
    pub configs: Option<String>,
    /// A command that installs a container engine.
    pub engine: Option<String>,
    /// How thoroughly the distribution has been tested.
    pub tested: Option<Tested>,
    /// Why gpusetup does not support it, as a message for the user; `None` if it does.
    pub unsupported: Option<String>,
    /// What the user can do instead of running gpusetup.
    pub instead: Option<String>,
    /// What the user should know before gpusetup changes anything.
    pub warning: Option<String>,
}

/// The rows of `distros.toml`, in the file's order.
pub fn table() -> &'static [DistroRow] {
    &TABLE.distro
}

/// Recognizes the distribution by `/etc/os-release`, or `/usr/lib/os-release` if that is missing.
pub fn detect(root: &Root) -> Distro {
    let text = root
        .read_to_string("/etc/os-release")
        .or_else(|_| root.read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let mut distro = os_release(&text);
    match distro.row(root) {
        Some(row) => {
            if let Some(title) = &row.title {
                distro.pretty_name = title_of(root, title, &row.name);
            }
            distro.apply_row(row);
        }
        None => distro.mark_unknown(init::has_systemd(root)),
    }
    if distro.usr == Usr::Writable && platform::is_ostree(root) {
        distro.usr = Usr::Ostree;
        distro.package_manager = Some("rpm-ostree".into());
        distro.engine = None;
    }
    distro
}

/// The system's own name, taken from the first line of that file.
fn title_of(root: &Root, path: &str, name: &str) -> String {
    let text = root.read_to_string(path).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default().trim();
    let clean = line.trim_start_matches("version=").trim_matches('"');
    if clean.is_empty() {
        name.to_owned()
    } else if clean.starts_with(|c: char| c.is_ascii_digit()) {
        format!("{name} {clean}")
    } else {
        clean.to_owned()
    }
}

/// The fields of os-release.
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
    fn row(&self, root: &Root) -> Option<&'static DistroRow> {
        std::iter::once(&self.id)
            .chain(&self.id_like)
            .find_map(|id| {
                table()
                    .iter()
                    .find(|row| row.ids.contains(id) && self.fits(row, root))
            })
    }

    fn fits(&self, row: &DistroRow, root: &Root) -> bool {
        let version = row.version.as_ref().is_none_or(|expected| {
            let rest = self
                .version_id
                .as_ref()
                .and_then(|v| v.strip_prefix(expected));
            rest.is_some_and(|r| r.is_empty() || r.starts_with('.'))
        });
        let variant = row.variants.is_empty()
            || self
                .variant_id
                .as_ref()
                .is_some_and(|v| row.variants.contains(v));
        version && variant && row.marker.as_ref().is_none_or(|m| root.exists(m))
    }

    fn apply_row(&mut self, row: &DistroRow) {
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

    fn mark_unknown(&mut self, has_systemd: bool) {
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
    fn every_row_of_the_table_is_complete_and_reachable() {
        let mut names = HashSet::new();
        let mut matched_by_id = HashSet::new();
        for row in table() {
            let name = &row.name;
            assert!(names.insert(name), "{name} twice");
            assert!(!row.ids.is_empty(), "{name}");
            assert!(!row.source.is_empty(), "{name}");
            // For an unsupported distribution the table says what to do instead.
            assert!(row.reason.is_none() || row.instead.is_some(), "{name}");
            // Our binaries cannot be installed into a sealed /usr, and our units need systemd.
            let is_impossible = row.usr == Usr::Sealed || row.service_manager != Init::Systemd;
            assert!(!is_impossible || row.reason.is_some(), "{name}");
            let is_wide = row.version.is_none() && row.variants.is_empty() && row.marker.is_none();
            for id in &row.ids {
                assert!(!matched_by_id.contains(id), "{name}: {id} is never reached");
                if is_wide {
                    matched_by_id.insert(id);
                }
            }
        }
    }

    #[test]
    fn a_derivative_is_treated_like_the_first_known_name_in_id_like() {
        let new = with("ID=newmint\nID_LIKE=\"ubuntu debian\"\n", &[]);
        assert_eq!(new.known_as.as_deref(), Some("Ubuntu"));
        assert_eq!((new.unsupported, new.warning), (None, None));
        // The order of ID_LIKE counts, not the order of the table.
        let kin = with("ID=x\nID_LIKE=\"unheard-of arch debian\"\n", &[]);
        assert_eq!(kin.package_manager.as_deref(), Some("pacman"));
    }

    #[test]
    fn a_version_matches_only_whole_numbers() {
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
    fn an_unknown_distribution_is_supported_if_it_has_systemd() {
        let without = with("ID=odd", &[]);
        assert!(without.unsupported.unwrap().contains("odd"));
        for systemd in ["run/systemd/system/x", "usr/lib/systemd/systemd"] {
            let odd = with("ID=odd", &[systemd]);
            assert_eq!(odd.unsupported, None);
            assert!(odd.warning.unwrap().contains("odd is not in the table"));
        }
    }

    #[test]
    fn ostree_makes_usr_read_only_on_any_distribution() {
        let rhel = "ID=rhel\nVERSION_ID=9.6\n";
        assert!(!with(rhel, &[]).usr.is_read_only());
        let image = with(rhel, &["run/ostree-booted"]);
        assert_eq!(image.usr, Usr::Ostree);
        assert_eq!(image.package_manager.as_deref(), Some("rpm-ostree"));
        assert_eq!(image.unsupported, None);
    }

    #[test]
    fn an_appliance_is_known_by_its_marker_and_named_by_its_own_file() {
        let debian = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let nas = with(debian, &["usr/bin/midclt"]);
        assert_eq!(nas.pretty_name, "TrueNAS SCALE");
        assert!(nas.unsupported.unwrap().starts_with("TrueNAS SCALE: "));
        assert_eq!(with(debian, &[]).unsupported, None);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("version"), "TrueNAS-25.10.4\n").unwrap();
        fs::write(dir.path().join("unraid"), "version=\"7.3.0\"\n").unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(title_of(&root, "/version", "x"), "TrueNAS-25.10.4");
        assert_eq!(title_of(&root, "/unraid", "Unraid"), "Unraid 7.3.0");
    }

    #[test]
    fn usr_lib_os_release_is_the_fallback() {
        let text = "ID=arch\n";
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::write(dir.path().join("usr/lib/os-release"), text).unwrap();
        let distro = detect(&Root::open(dir.path()).unwrap());
        assert_eq!(distro.id, "arch");
    }

    #[test]
    fn malformed_files_do_not_panic() {
        for text in ["", "=", "ID", "ID=\"", "ID='\\", "ID=\\"] {
            assert!(!os_release(text).id.is_empty());
        }
    }
}
