//! A config.json that is too long to be held: read once from its file, and of it kept what tells
//! whether GPUs are asked for. Some engines copy an image's annotations into it, of any length; a
//! container that asks for nothing starts all the same.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scan::{Mount, Process, Scan, Text};
use crate::error::Message;

/// What is kept at most. No kernel starts a program with more than 6 MiB of variables (execve(2)),
/// nor has a mount namespace so many mounts.
const KEPT: usize = 16 << 20;
/// What a text takes beside its bytes.
const EACH: usize = size_of::<Text<'static>>();

impl Scan<'static> {
    /// Of a text that is too long to be held: of its annotations those with such a key, of its
    /// mounts those with such a destination.
    pub fn of_long(
        text: impl Read,
        keeps_annotation: &dyn Fn(&str) -> bool,
        keeps_mount: &dyn Fn(&str) -> bool,
    ) -> Result<Self, Message> {
        read(text, keeps_annotation, keeps_mount).map_err(|e| Message::of(format_args!("{e}")))
    }
}

/// Annotations are kept by their keys, mounts by their destinations.
fn read(
    text: impl Read,
    keeps_annotation: &dyn Fn(&str) -> bool,
    keeps_mount: &dyn Fn(&str) -> bool,
) -> Result<Scan<'static>, serde_json::Error> {
    let mut reader = Reader {
        scan: Scan::default(),
        left: KEPT,
        keeps_annotation,
        keeps_mount,
    };
    let mut text = serde_json::Deserializer::from_reader(BufReader::with_capacity(64 << 10, text));
    Part(&mut reader, Kind::Whole).deserialize(&mut text)?;
    text.end()?;
    Ok(reader.scan)
}

struct Reader<'k> {
    scan: Scan<'static>,
    left: usize,
    keeps_annotation: &'k dyn Fn(&str) -> bool,
    keeps_mount: &'k dyn Fn(&str) -> bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Whole,
    Process,
    Env,
    Annotations,
    Mounts,
}

/// A part of the text, to be read into the scan.
struct Part<'r, 'k>(&'r mut Reader<'k>, Kind);

impl<'k> Part<'_, 'k> {
    fn part(&mut self, kind: Kind) -> Part<'_, 'k> {
        Part(&mut *self.0, kind)
    }

    /// Whether what is kept still has an end.
    fn keeps<E: Error>(&mut self, text: &str) -> Result<(), E> {
        let left = self.0.left.checked_sub(text.len() + EACH);
        let why = || E::custom("more variables and mounts than a container can start with");
        self.0.left = left.ok_or_else(why)?;
        Ok(())
    }

    fn member<A: MapAccess<'static>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let scan = &mut self.0.scan;
        match (self.1, key) {
            (Kind::Whole, "process") => {
                once(&mut scan.process, Some(Process::default()))?;
                map.next_value_seed(self.part(Kind::Process))
            }
            (Kind::Whole, "annotations") => {
                once(&mut scan.annotations, Some(BTreeMap::new()))?;
                map.next_value_seed(self.part(Kind::Annotations))
            }
            (Kind::Whole, "mounts") => {
                once(&mut scan.mounts, Some(Vec::new()))?;
                map.next_value_seed(self.part(Kind::Mounts))
            }
            (Kind::Whole, "root") => once(&mut scan.root, map.next_value()?),
            (Kind::Whole, "linux") => once(&mut scan.linux, map.next_value()?),
            (Kind::Process, "env") => {
                let process = scan.process.get_or_insert_default();
                once(&mut process.env, Some(Vec::new()))?;
                map.next_value_seed(self.part(Kind::Env))
            }
            (Kind::Process, "capabilities") => {
                let process = scan.process.get_or_insert_default();
                once(&mut process.capabilities, map.next_value()?)
            }
            (Kind::Annotations, key) if (self.0.keeps_annotation)(key) => {
                let value: Text<'static> = map.next_value()?;
                self.keeps(key)?;
                self.keeps(&value.0)?;
                let annotations = self.0.scan.annotations.get_or_insert_default();
                annotations.insert(Text(key.to_owned().into()), value);
                Ok(())
            }
            _ => map.next_value::<IgnoredAny>().map(drop),
        }
    }

    fn item<A: SeqAccess<'static>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        if let Kind::Mounts = self.1 {
            let Some(mount) = list.next_element::<Mount<'static>>()? else {
                return Ok(false);
            };
            let to = mount.destination.as_ref().map_or("", |text| &text.0);
            if (self.0.keeps_mount)(to) {
                self.keeps(to)?;
                self.0.scan.mounts.get_or_insert_default().push(mount);
            }
            return Ok(true);
        }
        let Some(text) = list.next_element::<Text<'static>>()? else {
            return Ok(false);
        };
        self.keeps(&text.0)?;
        let process = self.0.scan.process.get_or_insert_default();
        process.env.get_or_insert_default().push(text);
        Ok(true)
    }
}

/// What is there twice could be read in two ways.
fn once<T, E: Error>(part: &mut Option<T>, found: Option<T>) -> Result<(), E> {
    if part.is_some() {
        return Err(E::custom("a part of it is there twice"));
    }
    *part = found;
    Ok(())
}

impl DeserializeSeed<'static> for Part<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'static>>(self, text: D) -> Result<(), D::Error> {
        // Each may be null instead.
        text.deserialize_any(self)
    }
}

impl Visitor<'static> for Part<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.1 {
            Kind::Env | Kind::Mounts => "a list",
            _ => "an object",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.1 {
            Kind::Whole => Err(E::custom("null is no container")),
            _ => Ok(()),
        }
    }

    fn visit_map<A: MapAccess<'static>>(mut self, mut map: A) -> Result<(), A::Error> {
        if let Kind::Env | Kind::Mounts = self.1 {
            return Err(A::Error::custom("an object where a list must be"));
        }
        while let Some(key) = map.next_key::<Text<'static>>()? {
            self.member(&key.0, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'static>>(mut self, mut list: A) -> Result<(), A::Error> {
        if !matches!(self.1, Kind::Env | Kind::Mounts) {
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

    fn of(text: &str) -> Result<Scan<'static>, serde_json::Error> {
        read(text.as_bytes(), &|key| key.starts_with("cdi/"), &|to| {
            to.starts_with("/ask")
        })
    }

    #[test]
    fn what_asks_is_kept_and_the_rest_is_not() {
        let text = r#"{"ociVersion": "1", "process": {"args": ["x"], "env": ["A=1", "B=\n"],
            "capabilities": {"bounding": ["CAP_SYS_ADMIN"], "effective": []}},
            "root": {"path": "r", "readonly": true}, "annotations": {"cdi/a": "x", "other": "y"},
            "mounts": [{"source": "/dev/null", "destination": "/ask/0"}, {"destination": "/proc"}],
            "linux": {"namespaces": [{"type": "user"}], "seccomp": {"a": [1, {}]}}}"#;
        let scan = of(text).unwrap();
        let view = ContainerView::of(&scan);
        assert_eq!(view.env("B"), Some("\n"));
        assert_eq!(view.root_path(), Some("r"));
        assert!(view.is_privileged() && view.has_user_namespace());
        assert_eq!(view.annotations().collect::<Vec<_>>(), [("cdi/a", "x")]);
        assert_eq!(view.destinations().collect::<Vec<_>>(), ["/ask/0"]);
    }

    #[test]
    fn null_is_nothing_and_what_is_odd_is_an_error() {
        for fine in [
            "{}",
            r#"{"process": null, "mounts": null, "annotations": null}"#,
        ] {
            of(fine).unwrap();
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
            assert!(of(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let many = vec![r#""A=""#; KEPT / EACH].join(",");
        let error = of(&format!(r#"{{"process": {{"env": [{many}]}}}}"#)).unwrap_err();
        assert!(error.to_string().contains("more variables"), "{error}");
        of(&format!(
            r#"{{"annotations": {{"x": [{many}], "cdi/a": "{}"}}}}"#,
            "y".repeat(KEPT / 2)
        ))
        .unwrap();
    }
}
