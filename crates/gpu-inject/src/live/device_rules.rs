//! The device rules of a container as its config.json has them (`linux.resources.devices`), with those that every
//! low-level runtime adds.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Excerpt};

/// The kind of device that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Block,
    Char,
}

/// One rule. What is `None` fits every device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceRule {
    pub(super) allows: bool,
    pub(super) kind: Option<DeviceKind>,
    pub(super) major: Option<i32>,
    pub(super) minor: Option<i32>,
    /// The accesses it speaks of, as in the kernel: 1 mknod, 2 reading, 4 writing.
    pub(super) access: u8,
}

/// Maximum bytes of a config.json.
const LIMIT: u64 = 16 << 20;
/// Maximum number of rules. Each has at most ten instructions, and a jump is never longer than one rule.
const MAX_RULES: usize = 4096;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    linux: Linux,
}

#[derive(Default, Deserialize)]
struct Linux {
    #[serde(default)]
    resources: Resources,
}

#[derive(Default, Deserialize)]
struct Resources {
    #[serde(default)]
    devices: Vec<Written>,
}

/// A rule as it is written (OCI runtime specification, "Allowed Device list").
#[derive(Deserialize)]
struct Written {
    allow: bool,
    #[serde(default, rename = "type")]
    kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    access: Option<String>,
}

/// The rules in this config.json, in order.
pub(super) fn of_config(path: &Path) -> Result<Vec<DeviceRule>, Error> {
    let file = File::open(path).map_err(Error::host(path))?;
    let config: Config = serde_json::from_reader(BufReader::new(file.take(LIMIT)))
        .map_err(|e| Error::host(path)(e.into()))?;
    let written = config.linux.resources.devices;
    if written.len() > MAX_RULES {
        let why = format!(
            "{} device rules; at most {MAX_RULES} are read",
            written.len()
        );
        return Err(Error::host(path)(io::Error::other(why)));
    }
    let mut rules = Vec::with_capacity(written.len() + 16);
    for one in &written {
        let why = || {
            io::Error::other(format!(
                "a device rule of type {:?}",
                Excerpt::of(&one.kind)
            ))
        };
        rules.push(one.rule().ok_or_else(why).map_err(Error::host(path))?);
    }
    rules.extend(of_every_container());
    Ok(rules)
}

impl Written {
    fn rule(&self) -> Option<DeviceRule> {
        let kind = match self.kind.as_str() {
            "" | "a" => None,
            "b" => Some(DeviceKind::Block),
            "c" | "u" => Some(DeviceKind::Char),
            _ => return None,
        };
        // -1 is every number. One that no device can have fits none.
        let number = |n: Option<i64>| match n {
            None | Some(-1) => None,
            Some(n) => Some(i32::try_from(n).unwrap_or(i32::MAX)),
        };
        let access = self.access.as_deref().unwrap_or("rwm");
        let bit = |letter, bit| if access.contains(letter) { bit } else { 0 };
        Some(DeviceRule {
            allows: self.allow,
            kind,
            major: number(self.major),
            minor: number(self.minor),
            access: bit('m', 1) | bit('r', 2) | bit('w', 4),
        })
    }
}

/// What runc and crun allow every container, whatever its config.json says (runc `libcontainer/specconv`,
/// `AllowedDevices`; crun `default_devices`): making any node, and opening the devices that every /dev has.
fn of_every_container() -> impl Iterator<Item = DeviceRule> {
    let rule = |kind, major, minor, access| DeviceRule {
        allows: true,
        kind: Some(kind),
        major,
        minor,
        access,
    };
    let make = [DeviceKind::Char, DeviceKind::Block].map(|kind| rule(kind, None, None, 1));
    // null, zero, full, random, urandom, tty, ptmx, pts.
    let open = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
    let open = open.map(|(major, minor)| rule(DeviceKind::Char, Some(major), Some(minor), 7));
    let pts = rule(DeviceKind::Char, Some(136), None, 7);
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
            (true, Some(DeviceKind::Char), Some(195), None, 6),
            (true, Some(DeviceKind::Block), Some(8), Some(1), 7),
        ];
        for (rule, (allows, kind, major, minor, access)) in rules.iter().zip(expected) {
            let expected = DeviceRule {
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
        std::fs::write(
            &path,
            r#"{"linux": {"resources": {"devices": [{"allow": true, "type": "p"}]}}}"#,
        )
        .unwrap();
        assert!(of_config(&path).is_err());
    }
}
