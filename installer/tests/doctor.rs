//! Every problem that has a check is found on a host that has it, and healthy hosts raise no
//! alarm. Needs root, for device nodes.
#![allow(clippy::unwrap_used)]

mod doctor_host;

use doctor_host::breaks::BREAKS;
use doctor_host::{Base, Host};

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

/// A row without a host that has the problem would be a check that nobody has seen fire.
#[test]
fn every_row_has_a_host_that_has_it() {
    let mut said: Vec<String> = table()
        .into_iter()
        .filter(|r| r.checked)
        .map(|r| r.id)
        .collect();
    let mut there: Vec<&str> = BREAKS.iter().map(|(id, _, _)| *id).collect();
    said.sort_unstable();
    there.sort_unstable();
    assert_eq!(said, there);
}

#[test]
fn every_problem_is_found_where_it_is_and_not_where_it_is_not() {
    let mut wrong = Vec::new();
    for (id, base, broken) in BREAKS {
        let Some(host) = Host::new(*base) else { return };
        broken(&host);
        let found = host.problems();
        if !found.iter().any(|(found, _)| found == id) {
            wrong.push(format!("{id} on {base:?} is not found; found: {found:?}"));
        }
        if found.len() > 5 {
            wrong.push(format!("{id} on {base:?} raises too much: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn healthy_hosts_raise_no_alarm() {
    for base in Base::ALL {
        let Some(host) = Host::new(base) else { return };
        let (said, code) = host.doctor(&[]);
        let found = said["problems"].as_array().unwrap();
        assert!(found.is_empty(), "{base:?}: {found:#?}");
        assert_eq!(code, 0, "{base:?}");
        let out = host.run(&["doctor"]);
        let text = String::from_utf8(out.stdout).unwrap();
        assert_eq!(text.lines().count(), 2, "{base:?}: {text}");
    }
}
