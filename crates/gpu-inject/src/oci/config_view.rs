//! The parts of an OCI config that a request is read from.

use std::fmt;
use std::path::{Component, Path};

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Deserializer, Value};

use super::scan::{Scan, ScannedRoot, ScannedText};
use super::words;

/// The parts of a container's config.json that a request is read from.
#[derive(Clone, Copy, Debug)]
pub struct ContainerView<'a>(Of<'a>);

#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    Value(&'a Value),
    Scan(&'a Scan<'a>),
}

/// A mount in the form that both sources share.
struct MountView<'a> {
    source: Option<&'a str>,
    destination: Option<&'a str>,
    kind: Option<&'a str>,
    is_read_only: bool,
    is_bound: bool,
}

/// `root.path` of a config.json that the runtime has already accepted. Engines write it before the long parts, such
/// as mounts and a thousand nodes, which are not read. `None` if the text is not that simple, for example if there
/// could be another `root` after the first.
pub fn early_root_path(text: &[u8]) -> Option<String> {
    struct Early<'a>(&'a mut Option<String>);
    impl<'de> Visitor<'de> for Early<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(ScannedText(key)) = map.next_key()? {
                if key == "root" {
                    let root: ScannedRoot<'_> = map.next_value()?;
                    *self.0 = root.path.map(|path| path.0.into_owned());
                    return Ok(());
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let is_once = words::places(text, br#""root""#).take(2).count() == 1;
    if !is_once || has_hidden_letters(text) {
        return None;
    }
    let mut path = None;
    // The visitor ends with an error once the value is found, so that the rest of the object is not read.
    let _ = Deserializer::from_slice(text).deserialize_map(Early(&mut path));
    path
}

/// Whether a lower-case letter such as `r`, `o` or `t` could be written as an escape, which no engine does.
pub(super) fn has_hidden_letters(text: &[u8]) -> bool {
    let letters = [br"\u006", br"\u007"];
    words::has(text, br"\u00") && letters.iter().any(|escape| words::has(text, *escape))
}

impl<'a> ContainerView<'a> {
    /// Reads the parts from `config`, the whole config.json.
    pub fn new(config: &'a Value) -> Self {
        Self(Of::Value(config))
    }

    /// Reads the parts from the result of a scan of config.json.
    pub fn of(scan: &'a Scan<'a>) -> Self {
        Self(Of::Scan(scan))
    }

    /// The value of an environment variable. The last one counts, as for programs that read their environment.
    pub fn env(&self, name: &str) -> Option<&'a str> {
        self.variables()
            .filter(|(k, _)| *k == name)
            .last()
            .map(|(_, v)| v)
    }

    /// Environment variables in order. An entry without `=` is skipped and not an error, because the kernel accepts
    /// such entries.
    pub fn variables(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let scanned = |scan: &'a Scan<'a>| scan.process.as_ref()?.env.as_ref();
        self.strings("/process/env", scanned)
            .filter_map(|v| v.split_once('='))
    }

    /// `annotations`.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (value, scan) = self.either();
        let values = value
            .and_then(|v| v.get("annotations")?.as_object())
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
        let scanned = scan
            .and_then(|s| s.annotations.as_ref())
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.0.as_ref(), v.0.as_ref()));
        values.chain(scanned)
    }

    /// Whether it may do everything on the host anyway: `CAP_SYS_ADMIN` is in its bounding set. That set limits a
    /// process of any user in the container, so a container started with `--privileged --user 1000` counts
    /// (nvidia-container-toolkit `internal/config/image`).
    pub fn is_privileged(&self) -> bool {
        let scanned = |scan: &'a Scan<'a>| {
            let capabilities = scan.process.as_ref()?.capabilities.as_ref()?;
            capabilities.bounding.as_ref()
        };
        self.strings("/process/capabilities/bounding", scanned)
            .any(|c| c == "CAP_SYS_ADMIN")
    }

    /// `root.path` as written.
    pub fn root_path(&self) -> Option<&'a str> {
        match self.0 {
            Of::Value(config) => config.pointer("/root/path")?.as_str(),
            Of::Scan(scan) => Some(&scan.root.as_ref()?.path.as_ref()?.0),
        }
    }

    /// Whether it has a user namespace that is not the engine's own.
    pub fn has_user_namespace(&self) -> bool {
        self.namespaces()
            .is_some_and(|mut kinds| kinds.any(|kind| kind == "user"))
    }

    /// Whether its namespaces are listed and no mount namespace is among them, so that it shares the engine's.
    pub fn lacks_mount_namespace(&self) -> bool {
        self.namespaces()
            .is_some_and(|mut kinds| kinds.all(|kind| kind != "mount"))
    }

    /// The listed kinds; `None` if there is no list.
    fn namespaces(&self) -> Option<impl Iterator<Item = &'a str>> {
        let (value, scan) = self.either();
        let values = value.and_then(|v| v.pointer("/linux/namespaces")?.as_array());
        let scanned = scan.and_then(|s| s.linux.as_ref()?.namespaces.as_ref());
        if values.is_none() && scanned.is_none() {
            return None;
        }
        let values = values.into_iter().flatten();
        let scanned = scanned.into_iter().flatten();
        let values = values.filter_map(|n| n.get("type")?.as_str());
        Some(values.chain(scanned.filter_map(|n| Some(n.kind.as_ref()?.0.as_ref()))))
    }

    /// Paths where it cannot write: its root, if that is read-only, and its read-only mounts.
    pub fn read_only(&self) -> impl Iterator<Item = &'a str> {
        let root = match self.0 {
            Of::Value(config) => config.pointer("/root/readonly").and_then(Value::as_bool),
            Of::Scan(scan) => scan.root.as_ref().and_then(|root| root.readonly),
        };
        let root = root.unwrap_or_default().then_some("/");
        let mounts = self.each_mount().filter(|m| m.is_read_only);
        root.into_iter().chain(mounts.filter_map(|m| m.destination))
    }

    /// The destination of each mount.
    pub fn destinations(&self) -> impl Iterator<Item = &'a str> {
        self.each_mount().filter_map(|m| m.destination)
    }

    /// (source, destination) of each mount.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.each_mount()
            .filter_map(|m| Some((m.source?, m.destination?)))
    }

    /// Whether /dev is a tmpfs that the runtime makes for this container: it is the only mount there and no directory
    /// of the host.
    pub fn has_own_dev(&self) -> bool {
        let mut at_dev = self.each_mount().filter(|m| !is_elsewhere(m.destination));
        let one = at_dev.next();
        let is_own = one
            .is_some_and(|m| m.destination == Some(DEV) && m.kind == Some("tmpfs") && !m.is_bound);
        is_own && at_dev.next().is_none()
    }

    fn each_mount(&self) -> impl Iterator<Item = MountView<'a>> {
        const RO: &str = "ro";
        let (value, scan) = self.either();
        let values = value
            .and_then(|v| v.get("mounts")?.as_array())
            .into_iter()
            .flatten()
            .map(|m| {
                let options = m.get("options").and_then(Value::as_array);
                MountView {
                    source: m.get("source").and_then(Value::as_str),
                    destination: m.get("destination").and_then(Value::as_str),
                    kind: m.get("type").and_then(Value::as_str),
                    is_read_only: options.is_some_and(|list| list.iter().any(|o| o == RO)),
                    is_bound: options
                        .is_some_and(|list| list.iter().any(|o| o.as_str().is_some_and(is_bind))),
                }
            });
        let scanned = scan
            .and_then(|s| s.mounts.as_ref())
            .into_iter()
            .flatten()
            .map(|m| {
                let options = m.options.as_ref();
                MountView {
                    source: m.source.as_ref().map(|text| text.0.as_ref()),
                    destination: m.destination.as_ref().map(|text| text.0.as_ref()),
                    kind: m.kind.as_ref().map(|text| text.0.as_ref()),
                    is_read_only: options.is_some_and(|list| list.iter().any(|o| o.0 == RO)),
                    is_bound: options.is_some_and(|list| list.iter().any(|o| is_bind(&o.0))),
                }
            });
        values.chain(scanned)
    }

    fn either(&self) -> (Option<&'a Value>, Option<&'a Scan<'a>>) {
        match self.0 {
            Of::Value(value) => (Some(value), None),
            Of::Scan(scan) => (None, Some(scan)),
        }
    }

    /// The strings of a list, by its place in either form.
    fn strings(
        &self,
        pointer: &str,
        scanned: impl Fn(&'a Scan<'a>) -> Option<&'a Vec<ScannedText<'a>>>,
    ) -> impl Iterator<Item = &'a str> {
        let (value, scan) = self.either();
        let values = value
            .and_then(|v| v.pointer(pointer)?.as_array())
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let scanned = scan.and_then(scanned).into_iter().flatten();
        values.chain(scanned.map(|text| text.0.as_ref()))
    }
}

const DEV: &str = "/dev";

fn is_bind(option: &str) -> bool {
    option == "bind" || option == "rbind"
}

/// Whether a mount with this destination is certainly not at /dev.
fn is_elsewhere(destination: Option<&str>) -> bool {
    // Without a destination a runtime mounts on the root directory, or not at all.
    let Some(destination) = destination else {
        return true;
    };
    let parts = || {
        Path::new(destination)
            .components()
            .filter(|p| *p != Component::RootDir)
    };
    let is_plain = parts().all(|p| matches!(p, Component::Normal(_)));
    is_plain && !parts().eq([Component::Normal("dev".as_ref())])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arrangement::Arrangement;
    use super::*;

    /// All facts of a view.
    fn described(view: ContainerView<'_>) -> String {
        let mut annotations: Vec<_> = view.annotations().collect();
        annotations.sort_unstable();
        let variables: Vec<_> = view.variables().collect();
        let mounts: Vec<_> = view.mounts().collect();
        let (root, privileged) = (view.root_path(), view.is_privileged());
        let destinations: Vec<_> = view.destinations().collect();
        let read_only: Vec<_> = view.read_only().collect();
        let apart = (
            view.has_user_namespace(),
            view.lacks_mount_namespace(),
            view.has_own_dev(),
        );
        format!(
            "{variables:?} {annotations:?} {mounts:?} {destinations:?} {privileged} {root:?} {apart:?} {read_only:?}"
        )
    }

    fn is_same(text: &str) -> Result<bool, TestCaseError> {
        let Some(scan) = Scan::read(text.as_bytes()) else {
            return Ok(false);
        };
        // Skipped parts are not fully checked, for example for half a surrogate pair.
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            let (one, other) = (ContainerView::of(&scan), ContainerView::new(&value));
            prop_assert_eq!(described(one), described(other));
            prop_assert_eq!(
                Arrangement::has_own_dev(text.as_bytes()),
                other.has_own_dev()
            );
            if let Some(early) = early_root_path(text.as_bytes()) {
                prop_assert_eq!(Some(early.as_str()), other.root_path());
            }
        }
        Ok(true)
    }

    #[test]
    fn both_views_agree() {
        let full = r#" {"ociVersion": "1.0", "process": {"args": ["NVIDIA_VISIBLE_DEVICES=all"],
            "env": ["A=b=c", "none", "A=\"\u00e9\\", "A="], "odd": [{}, null, 1e400],
            "capabilities": {"bounding": ["CAP_X", "CAP_SYS\u005fADMIN"], "x": 1}},
            "mounts": [{"destination": "/d"}, {"source": "/s", "destination": "/d", "options": []},
            {"destination": "/e", "options": ["rbind", "r\u006f"]}],
            "annotations": {"b": "1", "a": "2", "b": "3"}, "root": {"path": "r", "readonly": true},
            "linux": {"namespaces": [{"type": "pid", "path": "/p"}, {}, {"type": "\u0075ser"}, {"type": "mount"}], "seccomp": {}},
            "hooks": {"process": {"env": ["NO=1"]}}, "unknown": "\ud800"} "#;
        assert!(is_same(full).unwrap());
        for odd in [
            "{}",
            r#"{"process": null, "mounts": null, "annotations": null, "root": null, "linux": null}"#,
            r#"{"linux": {"namespaces": null}, "mounts": [{"destination": null}]}"#,
            r#"{"process": {"env": null, "capabilities": {"bounding": null}}, "mounts": [{"source": null}]}"#,
        ] {
            assert!(is_same(odd).unwrap(), "{odd}");
        }
    }

    #[test]
    fn unspecified_forms_are_left_to_the_other_view() {
        for odd in [
            "",
            "{} x",
            r#"{"process": {"env": ["A=1", 2]}}"#,
            r#"{"process": {"env": ["A=1"]}, "process": {"env": ["A=2"]}}"#,
            r#"{"annotations": {"a": 1}}"#,
            r#"{"mounts": [{"source": 1}]}"#,
            r#"{"linux": {"namespaces": [{"type": 1}]}}"#,
            r#"{"mounts": [{"options": "ro"}]}"#,
            r#"{"root": {"readonly": "true"}}"#,
            r#"{"process": {"env": ["A=\ud800"]}}"#,
        ] {
            assert!(Scan::read(odd.as_bytes()).is_none(), "{odd}");
        }
    }

    #[test]
    fn the_root_is_known_early_if_there_is_only_one() {
        let usual = r#"{"process": {"args": ["\u0026"]}, "root": {"path": "r"}, "mounts": []}"#;
        assert_eq!(early_root_path(usual.as_bytes()).as_deref(), Some("r"));
        for odd in [
            "",
            r#"["root", {"path": "a"}]"#,
            r#"{"process": {"root": {"path": "a"}}}"#,
            r#"{"root": {"path": "a"}, "root": {"path": "b"}}"#,
            r#"{"root": {"path": "a"}, "ro\u006ft": {"path": "b"}}"#,
            r#"{"root": {"path": "a", "path": "b"}}"#,
            r#"{"root": {"path": 1}}"#,
            r#"{"root": {}}"#,
            r#"{"root": null}"#,
        ] {
            assert_eq!(early_root_path(odd.as_bytes()), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn a_truncated_text_never_gives_another_request(at: prop::sample::Index, to in "[{}\\[\\]\",:a0\\\\ ]") {
            let text = r#"{"a":[{"env":1}],"root":{"path":"r"},"process":{"x":"\\","env":["A=1","B=\n"]},"mounts":[{"source":"/s","destination":"/d"}],"annotations":{"k":"v"}}"#;
            let mut text = text.to_owned();
            let at = at.index(text.len());
            text.replace_range(at..=at, &to);
            is_same(&text)?;
        }
    }
}
