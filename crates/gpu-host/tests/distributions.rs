//! Tests the table of distributions with os-release files of real systems, and checks the page generated from it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use gpu_host::Root;
use gpu_host::distro::{self, Distro, DistroRow, Tested, Usr};
use gpu_host::init::Init;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    system: Vec<System>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct System {
    file: String,
    #[serde(default)]
    files: Vec<String>,
    id: String,
    version: Option<String>,
    row: Option<String>,
    package_manager: Option<String>,
    service_manager: Option<Init>,
    usr: Usr,
    acts: bool,
    #[serde(rename = "from")]
    _from: String,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/os-release")
}

fn expected() -> Vec<System> {
    let text = fs::read_to_string(fixtures().join("expected.toml")).unwrap();
    toml::from_str::<Expected>(&text).unwrap().system
}

fn recognized(system: &System) -> Distro {
    let tree = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for path in &system.files {
        write(path, b"");
    }
    let text = fs::read(fixtures().join(&system.file)).unwrap();
    write("etc/os-release", &text);
    distro::detect(&Root::open(tree.path()).unwrap())
}

#[test]
fn os_release_files_of_real_systems_are_recognized() {
    for system in expected() {
        let distro = recognized(&system);
        let actual = (
            &distro.id,
            &distro.version_id,
            &distro.known_as,
            &distro.package_manager,
            distro.service_manager,
            distro.usr,
            distro.unsupported.is_none(),
        );
        let expected = (
            &system.id,
            &system.version,
            &system.row,
            &system.package_manager,
            system.service_manager,
            system.usr,
            system.acts,
        );
        assert_eq!(actual, expected, "{} with {:?}", system.file, system.files);
        // The user is always told when a distribution is not known.
        assert_eq!(
            distro.warning.is_some(),
            system.acts && system.row.is_none(),
            "{}",
            system.file
        );
        // A refusal names the distribution by its pretty name.
        if let Some(why) = distro.unsupported.filter(|_| system.row.is_some()) {
            assert!(why.starts_with(&distro.pretty_name), "{why}");
        }
    }
}

#[test]
fn every_fixture_is_listed_and_every_row_has_a_fixture() {
    let expected = expected();
    let files: BTreeSet<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "expected.toml")
        .collect();
    let named: BTreeSet<String> = expected.iter().map(|s| s.file.clone()).collect();
    assert_eq!(files, named);
    let met: BTreeSet<&String> = expected.iter().filter_map(|s| s.row.as_ref()).collect();
    let rows: BTreeSet<&String> = distro::table().iter().map(|r| &r.name).collect();
    assert_eq!(met, rows);
}

/// `UPDATE_DOCS=1 cargo test -p gpu-host --test distributions` regenerates the page.
#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/distributions.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == page,
        "docs/distributions.md is not what distros.toml says; UPDATE_DOCS=1 writes it anew"
    );
}

fn page() -> String {
    let mut files: HashMap<String, BTreeSet<String>> = HashMap::new();
    for system in expected() {
        if let Some(row) = system.row {
            files.entry(row).or_default().insert(system.file);
        }
    }
    let mut out = String::from(
        "# Distributions

<!-- Made from crates/gpu-host/distros.toml by its tests; change it there. -->

Whether `gpusetup` works on a distribution, and how far that was shown. `gpusetup detect` says what it takes your host
for; what to type is in [Install](install.md).

It works where systemd runs the system and /etc can be written, also on a distribution that is not in this table, then
with a warning. On the others it refuses, says why, and what to write instead: [below](#not-acted-on).

How far each was shown: **scenarios**, set up, used and undone on the real system by the tests, with a fake driver;
**config**, its own config files edited and checked by its own engines; **rules**, from documents and from os-release
files of real systems alone, so nobody has seen a container get a GPU there yet.

| distribution | gpusetup | shown by | packages | services | /usr | recognised from |
|---|---|---|---|---|---|---|
",
    );
    for row in distro::table() {
        let acts = if row.reason.is_some() {
            "refuses"
        } else {
            "acts"
        };
        let fixtures: Vec<&str> = files[&row.name].iter().map(String::as_str).collect();
        let _ = writeln!(
            out,
            "| {} | {acts} | {} | {} | {} | {} | {} |",
            row.name,
            tested(row.tested),
            row.package_manager,
            services(row.service_manager),
            usr(row.usr),
            fixtures.join(", "),
        );
    }
    out.push_str(
        "
WSL, Jetson, DGX, containers and ostree are told apart from the distribution: Ubuntu is Ubuntu on each.
Any distribution booted from ostree counts as one with a read-only /usr.
",
    );
    for (title, refused) in [("Not acted on", true), ("Set up from the start", false)] {
        let _ = writeln!(out, "\n## {title}");
        for row in distro::table() {
            if let Some(instead) = row
                .instead
                .as_ref()
                .filter(|_| row.reason.is_some() == refused)
            {
                section(&mut out, row, instead);
            }
        }
    }
    out
}

fn section(out: &mut String, row: &DistroRow, instead: &str) {
    let _ = writeln!(out, "\n### {}\n", row.name);
    if let Some(reason) = &row.reason {
        let _ = writeln!(out, "Why: {reason}.\n");
    }
    if row.configs != "/etc" {
        let _ = writeln!(out, "Configuration lives in {}.\n", row.configs);
    }
    let _ = writeln!(out, "```text\n{instead}```");
}

fn tested(tested: Tested) -> &'static str {
    match tested {
        Tested::Scenarios => "scenarios",
        Tested::Config => "config",
        Tested::Rules => "rules",
    }
}

fn services(init: Init) -> &'static str {
    match init {
        Init::Systemd => "systemd",
        Init::OpenRc => "OpenRC",
        Init::Other => "other",
    }
}

fn usr(usr: Usr) -> &'static str {
    match usr {
        Usr::Writable => "writable",
        Usr::Ostree => "read-only; rpm-ostree install, reboot",
        Usr::Transactional => "read-only; transactional-update, reboot",
        Usr::Sysext => "read-only; systemd-sysext",
        Usr::Sealed => "read-only",
    }
}
