//! Skips that are no failure: the file `excused`, and the conditions it names.

use std::path::Path;

/// A row of the file that holds on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excused {
    /// A need, or the name of a stage; `*` stands for any letters at its end.
    pub what: &'static str,
    /// The condition.
    pub condition: &'static str,
    /// For people.
    pub why: &'static str,
}

/// The row that excuses a skip for want of this, where one does on this machine.
pub fn excused(what: &str) -> Option<Excused> {
    rows().find(|row| is_named(row.what, what) && is_so(row.condition))
}

fn is_named(pattern: &str, what: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => what.starts_with(start),
        None => pattern == what,
    }
}

fn rows() -> impl Iterator<Item = Excused> {
    let lines = include_str!("../excused").lines();
    let lines = lines.filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|line| {
        let mut parts = line.splitn(3, '|').map(str::trim);
        let mut next = || parts.next().expect("a row of `excused` has three parts");
        Excused {
            what: next(),
            condition: next(),
            why: next(),
        }
    })
}

fn is_so(condition: &str) -> bool {
    match condition {
        "always" => true,
        // The unified hierarchy is not at the top, or has no controllers there.
        "hybrid-cgroups" => {
            !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
                && Path::new("/sys/fs/cgroup").exists()
        }
        other => panic!("`excused` names a condition that nobody looks for: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_condition_and_a_reason() {
        let mut count = 0;
        for row in rows() {
            // Panics where it is unknown.
            is_so(row.condition);
            assert!(row.why.len() > 10, "{row:?}");
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn a_row_is_for_its_own_name() {
        assert!(excused("containerd-2").is_some());
        assert!(excused("containerd").is_none());
        assert!(excused("root").is_none());
        assert!(excused("debian-sid-booted").is_some());
        assert!(excused("debian-13-booted").is_none());
    }
}
