//! Tests that doctor finds every problem that has a check on a host that has it, and no problem on
//! healthy hosts. Needs root, for device nodes.
#![allow(clippy::unwrap_used)]

mod doctor_host;

use doctor_host::breaks::{BREAKS, Break};
use doctor_host::{Base, Host, PCI};

#[derive(serde::Deserialize)]
struct Table {
    problem: Vec<Row>,
}

#[derive(serde::Deserialize)]
struct Row {
    id: String,
    checked: bool,
}

fn table() -> Vec<Row> {
    toml::from_str::<Table>(include_str!("../problems.toml"))
        .unwrap()
        .problem
}

/// Problems of services, which a directory tree does not run. tests/due.rs has running hosts with them.
const OF_RUNNING_HOSTS: [&str; 2] = ["engine-down", "engine-not-restarted"];

/// Without a host that has the problem, nobody would have seen the check find anything.
#[test]
fn every_checked_problem_has_a_broken_host() {
    let mut checked: Vec<String> = table()
        .into_iter()
        .filter(|r| r.checked && !OF_RUNNING_HOSTS.contains(&r.id.as_str()))
        .map(|r| r.id)
        .collect();
    let mut there: Vec<&str> = BREAKS.iter().map(|(id, _, _)| *id).collect();
    checked.sort_unstable();
    there.sort_unstable();
    assert_eq!(checked, there);
}

#[test]
fn every_problem_is_found_on_its_host_and_on_no_other() {
    // Several at once: each host is a tree of its own.
    let shares = BREAKS.chunks(BREAKS.len().div_ceil(4));
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = shares
            .map(|share| scope.spawn(|| wrong_in(share)))
            .collect();
        all.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn wrong_in(share: &[(&str, Base, Break)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, base, broken) in share {
        let Some(host) = Host::new(*base) else {
            return wrong;
        };
        broken(&host);
        let problems = host.problems();
        if !problems.iter().any(|(found, _)| found == id) {
            wrong.push(format!(
                "{id} on {base:?} is not found; found: {problems:?}"
            ));
        }
        if problems.len() > 5 {
            wrong.push(format!("{id} on {base:?} raises too much: {problems:?}"));
        }
    }
    wrong
}

/// Cases that look like a problem but are intended.
#[test]
fn intended_settings_are_no_problem() {
    let ids = |host: &Host| -> Vec<String> { host.problems().into_iter().map(|p| p.0).collect() };
    // GPUs that are reserved for virtual machines need no driver here.
    let Some(host) = Host::new(Base::Bare) else {
        return;
    };
    let gpu = format!("{PCI}/0000:3b:00.0");
    host.write(&format!("{gpu}/vendor"), "0x10de\n");
    host.write(&format!("{gpu}/class"), "0x030200\n");
    host.link(
        &format!("{gpu}/driver"),
        "../../../../bus/pci/drivers/vfio-pci",
    );
    assert_eq!(ids(&host), ["vfio-bound"]);
    // containerd 2.x tells kubelet its cgroup driver.
    let host = Host::new(Base::Node).unwrap();
    host.edit("var/lib/kubelet/config.yaml", "systemd", "cgroupfs");
    assert!(ids(&host).is_empty());
    // This runc names devices by their numbers.
    let host = Host::new(Base::Toolkit).unwrap();
    host.remove("dev/char");
    assert_eq!(ids(&host), ["dev-char"]);
    host.package("runc", "1.2.4+ds1-1");
    assert!(ids(&host).is_empty());
}

#[test]
fn healthy_hosts_raise_no_alarm() {
    for base in Base::SET_UP.into_iter().chain(Base::OTHERS) {
        let Some(host) = Host::new(base) else { return };
        let (document, code) = host.doctor(&[]);
        let problems = document["problems"].as_array().unwrap();
        assert!(problems.is_empty(), "{base:?}: {problems:#?}");
        assert_eq!(code, 0, "{base:?}");
        let out = host.run(&["doctor"]);
        let text = String::from_utf8(out.stdout).unwrap();
        let engines = document["engines"].as_array().unwrap();
        // A line for each engine or for their absence, an empty one, and two for the checks.
        let lines = engines.len().max(1) + 3;
        assert_eq!(text.lines().count(), lines, "{base:?}: {text}");
    }
}
