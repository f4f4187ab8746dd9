//! Reads a container's device rules from its config.json (`linux.resources.devices`), and adds the rules that every
//! low-level runtime adds.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Excerpt};

/// The kind of device that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Block,
    Char,
}

/// One rule. A field that is `None` matches every device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccessRule {
    pub(super) allows: bool,
    pub(super) kind: Option<NodeKind>,
    pub(super) major: Option<i32>,
    pub(super) minor: Option<i32>,
    /// The accesses that the rule covers, as in the kernel: 1 mknod, 2 reading, 4 writing.
    pub(super) access: u8,
}

/// Maximum bytes of a config.json.
const LIMIT: u64 = 16 << 20;
/// Maximum number of rules. Each compiles to at most ten instructions, and no jump is longer than one rule.
const MAX_RULES: usize = 4096;

/// The rules in this config.json, in order.
pub(super) fn of_config(path: &Path) -> Result<Vec<AccessRule>, Error> {
    let read = || -> io::Result<Vec<AccessRule>> {
        let mut text = Vec::new();
        File::open(path)?.take(LIMIT).read_to_end(&mut text)?;
        // The same parser as in the rest of this program, because another one would make it larger.
        let config: Value = serde_json::from_slice(&text)?;
        let written = config.pointer("/linux/resources/devices");
        let written = written
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if written.len() > MAX_RULES {
            let why = format!(
                "{} device rules; at most {MAX_RULES} are read",
                written.len()
            );
            return Err(io::Error::other(why));
        }
        let rules = written.iter().map(|one| {
            let why = || format!("no device rule: {}", Excerpt::of(one.to_string()));
            rule(one).ok_or_else(|| io::Error::other(why()))
        });
        rules.collect()
    };
    let mut rules = read().map_err(Error::host(path))?;
    rules.extend(of_every_container());
    Ok(rules)
}

/// A rule as config.json has it (OCI runtime specification, "Allowed Device list").
fn rule(written: &Value) -> Option<AccessRule> {
    let text = |key| written.get(key).map(|value| value.as_str().unwrap_or("?"));
    let kind = match text("type") {
        None | Some("" | "a") => None,
        Some("b") => Some(NodeKind::Block),
        Some("c" | "u") => Some(NodeKind::Char),
        Some(_) => return None,
    };
    // -1 stands for every number. A number that no device can have matches none.
    let number = |key| match written.get(key).map(Value::as_i64) {
        None | Some(Some(-1)) => Some(None),
        Some(n) => Some(Some(i32::try_from(n?).unwrap_or(i32::MAX))),
    };
    let access = text("access").unwrap_or("rwm");
    let bit = |letter, bit| if access.contains(letter) { bit } else { 0 };
    Some(AccessRule {
        allows: written.get("allow")?.as_bool()?,
        kind,
        major: number("major")?,
        minor: number("minor")?,
        access: bit('m', 1) | bit('r', 2) | bit('w', 4),
    })
}

/// The rules that runc and crun add for every container, whatever its config.json says (runc `libcontainer/specconv`,
/// `AllowedDevices`; crun `default_devices`): creating any node, and opening the devices that every /dev has.
fn of_every_container() -> impl Iterator<Item = AccessRule> {
    let rule = |kind, major, minor, access| AccessRule {
        allows: true,
        kind: Some(kind),
        major,
        minor,
        access,
    };
    let make = [NodeKind::Char, NodeKind::Block].map(|kind| rule(kind, None, None, 1));
    // null, zero, full, random, urandom, tty, ptmx, pts.
    let open = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
    let open = open.map(|(major, minor)| rule(NodeKind::Char, Some(major), Some(minor), 7));
    let pts = rule(NodeKind::Char, Some(136), None, 7);
    make.into_iter().chain(open).chain([pts])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_the_specification_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let text = r#"{"ociVersion": "1.0.2", "linux": {"resources": {"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 195, "minor": -1, "access": "rw"},
            {"allow": true, "type": "b", "major": 8, "minor": 1}
        ]}}}"#;
        std::fs::write(&path, text).unwrap();
        let rules = of_config(&path).unwrap();
        let expected = [
            (false, None, None, None, 7),
            (true, Some(NodeKind::Char), Some(195), None, 6),
            (true, Some(NodeKind::Block), Some(8), Some(1), 7),
        ];
        for (rule, (allows, kind, major, minor, access)) in rules.iter().zip(expected) {
            let expected = AccessRule {
                allows,
                kind,
                major,
                minor,
                access,
            };
            assert_eq!(*rule, expected);
        }
        assert_eq!(rules.len(), expected.len() + of_every_container().count());
        std::fs::write(&path, r#"{"linux": {}}"#).unwrap();
        assert_eq!(
            of_config(&path).unwrap().len(),
            of_every_container().count()
        );
        for wrong in [
            r#"{"allow": true, "type": "p"}"#,
            r#"{"allow": true, "major": "x"}"#,
            r#"{"type": "c"}"#,
        ] {
            let text = format!(r#"{{"linux": {{"resources": {{"devices": [{wrong}]}}}}}}"#);
            std::fs::write(&path, text).unwrap();
            assert!(of_config(&path).is_err(), "{wrong}");
        }
    }
}
