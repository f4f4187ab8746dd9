//! Scans a config.json that is too long to hold in memory. It is streamed from its file, and only
//! the parts that tell whether GPUs are requested are kept. Some engines copy an image's
//! annotations, of any length, into config.json; a container that requests no GPUs must still
//! start.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scan::{Scan, ScannedMount, ScannedProcess, ScannedText};
use crate::error::Message;

/// Upper bound for what is kept, in bytes. No container needs more: the kernel starts no program
/// with more than 6 MiB of variables (execve(2)) and no mount namespace has so many mounts.
const MAX_KEPT: usize = 16 << 20;
/// Memory for a string in addition to its bytes.
const STRING_OVERHEAD: usize = size_of::<ScannedText<'static>>();

impl Scan<'static> {
    /// Scans a text that is too long to hold in memory. Annotations and mounts are kept only if the functions accept
    /// their key or destination.
    pub fn of_long(
        text: impl Read,
        keeps_annotation: &dyn Fn(&str) -> bool,
        keeps_mount: &dyn Fn(&str) -> bool,
    ) -> Result<Self, Message> {
        read(text, keeps_annotation, keeps_mount).map_err(|e| Message::of(format_args!("{e}")))
    }
}

fn read(
    text: impl Read,
    keeps_annotation: &dyn Fn(&str) -> bool,
    keeps_mount: &dyn Fn(&str) -> bool,
) -> Result<Scan<'static>, serde_json::Error> {
    let mut reader = LongConfigReader {
        scan: Scan::default(),
        budget: MAX_KEPT,
        keeps_annotation,
        keeps_mount,
    };
    let mut text = serde_json::Deserializer::from_reader(BufReader::with_capacity(64 << 10, text));
    Part(&mut reader, PartKind::Whole).deserialize(&mut text)?;
    text.end()?;
    Ok(reader.scan)
}

struct LongConfigReader<'k> {
    scan: Scan<'static>,
    /// Bytes that may still be kept.
    budget: usize,
    keeps_annotation: &'k dyn Fn(&str) -> bool,
    keeps_mount: &'k dyn Fn(&str) -> bool,
}

#[derive(Clone, Copy)]
enum PartKind {
    Whole,
    Process,
    Env,
    Annotations,
    Mounts,
}

/// A part of config.json, to be deserialized into the scan.
struct Part<'r, 'k>(&'r mut LongConfigReader<'k>, PartKind);

impl<'k> Part<'_, 'k> {
    fn part(&mut self, kind: PartKind) -> Part<'_, 'k> {
        Part(&mut *self.0, kind)
    }

    /// Counts a string that is kept against the budget; an error if it is exceeded.
    fn charge<E: Error>(&mut self, text: &str) -> Result<(), E> {
        let budget = self.0.budget.checked_sub(text.len() + STRING_OVERHEAD);
        let why = || E::custom("more variables and mounts than a container can start with");
        self.0.budget = budget.ok_or_else(why)?;
        Ok(())
    }

    fn member<A: MapAccess<'static>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let scan = &mut self.0.scan;
        match (self.1, key) {
            (PartKind::Whole, "process") => {
                once(&mut scan.process, Some(ScannedProcess::default()))?;
                map.next_value_seed(self.part(PartKind::Process))
            }
            (PartKind::Whole, "annotations") => {
                once(&mut scan.annotations, Some(BTreeMap::new()))?;
                map.next_value_seed(self.part(PartKind::Annotations))
            }
            (PartKind::Whole, "mounts") => {
                once(&mut scan.mounts, Some(Vec::new()))?;
                map.next_value_seed(self.part(PartKind::Mounts))
            }
            (PartKind::Whole, "root") => once(&mut scan.root, map.next_value()?),
            (PartKind::Whole, "linux") => once(&mut scan.linux, map.next_value()?),
            (PartKind::Process, "env") => {
                let process = scan.process.get_or_insert_default();
                once(&mut process.env, Some(Vec::new()))?;
                map.next_value_seed(self.part(PartKind::Env))
            }
            (PartKind::Process, "capabilities") => {
                let process = scan.process.get_or_insert_default();
                once(&mut process.capabilities, map.next_value()?)
            }
            (PartKind::Annotations, key) if (self.0.keeps_annotation)(key) => {
                let value: ScannedText<'static> = map.next_value()?;
                self.charge(key)?;
                self.charge(&value.0)?;
                let annotations = self.0.scan.annotations.get_or_insert_default();
                annotations.insert(ScannedText(key.to_owned().into()), value);
                Ok(())
            }
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }

    fn item<A: SeqAccess<'static>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        if let PartKind::Mounts = self.1 {
            let Some(mount) = list.next_element::<ScannedMount<'static>>()? else {
                return Ok(false);
            };
            let destination = mount.destination.as_ref().map_or("", |text| &text.0);
            if (self.0.keeps_mount)(destination) {
                self.charge(destination)?;
                self.0.scan.mounts.get_or_insert_default().push(mount);
            }
            return Ok(true);
        }
        let Some(text) = list.next_element::<ScannedText<'static>>()? else {
            return Ok(false);
        };
        self.charge(&text.0)?;
        let process = self.0.scan.process.get_or_insert_default();
        process.env.get_or_insert_default().push(text);
        Ok(true)
    }
}

/// Sets a part. A part that occurs twice is an error, since parsers differ in which one counts.
fn once<T, E: Error>(part: &mut Option<T>, value: Option<T>) -> Result<(), E> {
    if part.is_some() {
        return Err(E::custom("a part of it is there twice"));
    }
    *part = value;
    Ok(())
}

impl DeserializeSeed<'static> for Part<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'static>>(self, text: D) -> Result<(), D::Error> {
        // Every part may be null instead.
        text.deserialize_any(self)
    }
}

impl Visitor<'static> for Part<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.1 {
            PartKind::Env | PartKind::Mounts => "a list",
            _ => "an object",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.1 {
            PartKind::Whole => Err(E::custom("null is no container")),
            _ => Ok(()),
        }
    }

    fn visit_map<A: MapAccess<'static>>(mut self, mut map: A) -> Result<(), A::Error> {
        if let PartKind::Env | PartKind::Mounts = self.1 {
            return Err(A::Error::custom("an object where a list must be"));
        }
        while let Some(key) = map.next_key::<ScannedText<'static>>()? {
            self.member(&key.0, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'static>>(mut self, mut list: A) -> Result<(), A::Error> {
        if !matches!(self.1, PartKind::Env | PartKind::Mounts) {
            return Err(A::Error::custom("a list where an object must be"));
        }
        while self.item(&mut list)? {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ContainerView;

    fn scan(text: &str) -> Result<Scan<'static>, serde_json::Error> {
        read(text.as_bytes(), &|key| key.starts_with("cdi/"), &|to| {
            to.starts_with("/ask")
        })
    }

    #[test]
    fn only_parts_that_can_request_gpus_are_kept() {
        let text = r#"{"ociVersion": "1", "process": {"args": ["x"], "env": ["A=1", "B=\n"],
            "capabilities": {"bounding": ["CAP_SYS_ADMIN"], "effective": []}},
            "root": {"path": "r", "readonly": true}, "annotations": {"cdi/a": "x", "other": "y"},
            "mounts": [{"source": "/dev/null", "destination": "/ask/0"}, {"destination": "/proc"}],
            "linux": {"namespaces": [{"type": "user"}], "seccomp": {"a": [1, {}]}}}"#;
        let scan = scan(text).unwrap();
        let view = ContainerView::of(&scan);
        assert_eq!(view.env("B"), Some("\n"));
        assert_eq!(view.root_path(), Some("r"));
        assert!(view.is_privileged() && view.has_user_namespace());
        assert_eq!(view.annotations().collect::<Vec<_>>(), [("cdi/a", "x")]);
        assert_eq!(view.destinations().collect::<Vec<_>>(), ["/ask/0"]);
    }

    #[test]
    fn null_parts_are_accepted_and_malformed_ones_are_errors() {
        for fine in [
            "{}",
            r#"{"process": null, "mounts": null, "annotations": null}"#,
        ] {
            scan(fine).unwrap();
        }
        for odd in [
            "",
            "[]",
            "null",
            "{} {}",
            r#"{"process": [], "root": {}}"#,
            r#"{"process": {"env": {}}}"#,
            r#"{"process": {"env": [1]}}"#,
            r#"{"process": {}, "process": {"env": []}}"#,
            r#"{"process": {"env": ["A=1"]"#,
        ] {
            assert!(scan(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_amount_that_is_kept_is_limited() {
        let many = vec![r#""A=""#; MAX_KEPT / STRING_OVERHEAD].join(",");
        let error = scan(&format!(r#"{{"process": {{"env": [{many}]}}}}"#)).unwrap_err();
        assert!(error.to_string().contains("more variables"), "{error}");
        scan(&format!(
            r#"{{"annotations": {{"x": [{many}], "cdi/a": "{}"}}}}"#,
            "y".repeat(MAX_KEPT / 2)
        ))
        .unwrap();
    }
}
