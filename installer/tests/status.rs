//! Tests what status and detect report about a setup: that it exists, and which parts are outdated.
#![allow(clippy::unwrap_used)]

mod doctor_host;

use doctor_host::{Base, CONFIG_TOML, DAEMON_JSON, Host, OTHER, SPEC, VERSION};
use serde_json::Value;

/// For each engine, whether it is configured and which of its files are out of date.
fn engines(host: &Host) -> Vec<(String, bool, Vec<String>)> {
    let out = host.run(&["detect", "--json"]);
    let document: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let engine = |e: &Value| {
        let outdated = e["outdated"].as_array().unwrap().iter().map(text);
        let is_configured = e["configured"].as_bool().unwrap();
        (text(&e["name"]), is_configured, outdated.collect())
    };
    let engines: Vec<_> = document["engines"]
        .as_array()
        .unwrap()
        .iter()
        .map(engine)
        .collect();
    // Checks of all engines would pass if there were none.
    assert!(!engines.is_empty(), "{document}");
    engines
}

fn status(host: &Host) -> String {
    let out = host.run(&[]);
    assert_eq!(out.status.code(), Some(0));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn an_engine_is_unconfigured_before_install_and_configured_after() {
    let Some(host) = Host::untouched(Base::Debian) else {
        return;
    };
    let states = engines(&host);
    assert!(
        states.iter().all(|(_, is, old)| !is && old.is_empty()),
        "{states:?}"
    );
    assert!(status(&host).contains("what would change"));
    for base in Base::SET_UP {
        let host = Host::new(base).unwrap();
        let states = engines(&host);
        assert!(
            states.iter().all(|(_, is, old)| *is && old.is_empty()),
            "{base:?}: {states:?}"
        );
        let text = status(&host);
        assert!(
            text.contains("configured") && !text.contains("not configured"),
            "{text}"
        );
        assert!(text.contains("gpusetup undo"), "{text}");
    }
}

#[test]
fn another_driver_makes_the_setup_outdated() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    host.edit(SPEC, VERSION, OTHER);
    let spec = format!("/{SPEC}");
    for (name, configured, outdated) in engines(&host) {
        assert_eq!(
            (configured, &outdated),
            (false, &vec![spec.clone()]),
            "{name}"
        );
    }
    let text = status(&host);
    assert!(
        text.contains("out of date") && !text.contains("not configured"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{spec} is not of this driver")),
        "{text}"
    );
    assert!(text.contains("renew it"), "{text}");
    assert_eq!(host.run(&["install", "--yes"]).status.code(), Some(0));
    assert!(engines(&host).iter().all(|(_, is, _)| *is));
}

#[test]
fn an_engine_that_lost_its_configuration_is_named_with_the_file() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    host.write(DAEMON_JSON, "{}\n");
    let states = engines(&host);
    let docker = states.iter().find(|(name, ..)| name == "docker").unwrap();
    assert_eq!(docker.2, [format!("/{DAEMON_JSON}")]);
    let others = states.iter().filter(|(name, ..)| name != "docker");
    assert!(others.clone().next().is_some(), "{states:?}");
    assert!(others.clone().all(|(_, is, _)| *is), "{states:?}");
    assert!(status(&host).contains("out of date: /etc/docker/daemon.json"));
    // A file that cannot be read counts as having lost its part.
    host.write(DAEMON_JSON, "{,}\n");
    let text = status(&host);
    assert!(
        text.contains("out of date: /etc/docker/daemon.json"),
        "{text}"
    );
}

#[test]
fn an_engine_installed_later_is_unconfigured() {
    let Some(host) = Host::new(Base::Wsl) else {
        return;
    };
    host.write("usr/bin/containerd", "");
    host.package("containerd", "1.7.24~ds1-6");
    host.write(CONFIG_TOML, "version = 2\n");
    let states = engines(&host);
    let state = |name: &str| states.iter().find(|(n, ..)| n == name).unwrap().clone();
    assert!(state("docker").1, "{states:?}");
    assert_eq!(
        (state("containerd").1, state("containerd").2.len()),
        (false, 0)
    );
    assert!(status(&host).contains("what would change"));
}

/// A receipt that an older gpusetup wrote has no times.
#[test]
fn a_receipt_without_times_is_read() {
    let Some(host) = Host::new(Base::Debian) else {
        return;
    };
    let receipt = "var/lib/gpusetup/receipt.json";
    let mut value = doctor_host::fixture::without_checksums(&host.read(receipt));
    let times = value.as_object_mut().unwrap().remove("written").unwrap();
    let changes = value["changes"].as_array().unwrap().len();
    assert_eq!(times.as_object().unwrap().len(), changes);
    host.write(receipt, &value.to_string());
    assert!(engines(&host).iter().all(|(_, is, _)| *is));
    assert_eq!(host.run(&["undo", "--yes"]).status.code(), Some(0));
    assert!(!host.path(receipt).exists());
}

/// In a directory tree nothing runs, so no command to try is shown.
#[test]
fn advice_for_a_tree_names_the_tree() {
    let Some(host) = Host::untouched(Base::Debian) else {
        return;
    };
    let out = host.run(&["install", "--yes"]);
    let stdout = String::from_utf8(out.stdout).unwrap();
    assert!(!stdout.contains("Try:"), "{stdout}");
    let undo = format!("Undo: gpusetup undo --root {}", host.root().display());
    assert!(stdout.contains(&undo), "{stdout}");
}

/// Docker 28.2 and later read the CDI spec by default: none of their files is edited.
#[test]
fn an_engine_that_needed_no_edit_is_configured_as_requested() {
    let Some(host) = Host::untouched(Base::Debian) else {
        return;
    };
    host.package("docker.io", "28.5.1");
    let docker = || {
        let states = engines(&host);
        states.into_iter().find(|(n, ..)| n == "docker").unwrap()
    };
    let install = |args: &[&str]| {
        let args = [&["install", "--yes", "--engine"], args].concat();
        let out = host.run(&args);
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    install(&["containerd", "--mode", "cdi"]);
    assert!(!docker().1);
    // There is nothing to write, but the choice must still be recorded.
    assert!(install(&["docker", "--mode", "cdi"]).contains("Nothing to do"));
    assert_eq!(docker(), ("docker".into(), true, Vec::new()));
    install(&["docker", "--mode", "both"]);
    assert!(docker().1);
    let before = host.read(DAEMON_JSON);
    assert!(before.contains("nvidia"), "{before}");
    host.write(DAEMON_JSON, "{}\n");
    assert_eq!(docker().2, [format!("/{DAEMON_JSON}")]);
}
