//! The container state that a hook gets on standard input (OCI runtime specification, "State").

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Message};

/// A container's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// The id that the engine has given it.
    pub id: Option<String>,
    /// Its process in the hook's pid namespace; 0 if the state has none.
    pub pid: i32,
    /// The directory of its bundle.
    pub bundle: PathBuf,
    /// Its root file system, which only crun adds to the state. It is needed where config.json
    /// cannot be read from within a user namespace.
    pub root: Option<PathBuf>,
}

impl ContainerState {
    /// Parses the JSON. Only the bundle is required.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |why: &str| Error::State(Message::of(format_args!("container state: {why}")));
        let state: Value = serde_json::from_slice(bytes).map_err(|e| bad(&e.to_string()))?;
        let text = |key| {
            let value = state.get(key).and_then(Value::as_str);
            value.filter(|t| !t.is_empty())
        };
        // runc before 17.06 called it bundlePath.
        let bundle = text("bundle").or_else(|| text("bundlePath"));
        let bundle = Path::new(bundle.ok_or_else(|| bad("no bundle"))?);
        let pid = state.get("pid").and_then(Value::as_i64);
        Ok(Self {
            id: text("id").map(str::to_owned),
            pid: pid.and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
            root: text("root").map(|root| bundle.join(root)),
            bundle: bundle.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_needs_a_bundle_and_may_have_no_process() {
        let read = |text: &str| ContainerState::parse(text.as_bytes());
        let state =
            read(r#"{"id": "web", "bundle": "/b", "pid": 7, "status": "creating", "other": {}}"#);
        let expected = ContainerState {
            id: Some("web".into()),
            pid: 7,
            bundle: "/b".into(),
            root: None,
        };
        assert_eq!(state.unwrap(), expected);
        let crun = read(r#"{"bundlePath": "/b", "root": "rootfs"}"#).unwrap();
        assert_eq!(crun.root, Some("/b/rootfs".into()));
        assert_eq!(read(r#"{"bundle": "/b", "pid": 1e99}"#).unwrap().pid, 0);
        for bad in ["", "[]", "{}", r#"{"bundle": 3}"#, "{\"bundle\": \"/b\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
