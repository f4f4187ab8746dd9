//! What an OCI runtime tells a hook on standard input (OCI runtime specification, "State").

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Message};

/// A container's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What its engine calls it.
    pub id: Option<String>,
    /// Its process as the hook sees it; 0 where the state names none.
    pub pid: i32,
    /// Its bundle's directory.
    pub bundle: PathBuf,
    /// Its root file system, which crun tells: config.json may be nobody's to read in a user
    /// namespace.
    pub root: Option<PathBuf>,
}

impl State {
    /// Reads the JSON. Only what is used need be there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |why: &str| Error::State(Message::of(format_args!("container state: {why}")));
        let state: Value = serde_json::from_slice(bytes).map_err(|e| bad(&e.to_string()))?;
        let text = |key| {
            let found = state.get(key).and_then(Value::as_str);
            found.filter(|t| !t.is_empty())
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
        let read = |text: &str| State::parse(text.as_bytes());
        let state =
            read(r#"{"id": "web", "bundle": "/b", "pid": 7, "status": "creating", "other": {}}"#);
        let wanted = State {
            id: Some("web".into()),
            pid: 7,
            bundle: "/b".into(),
            root: None,
        };
        assert_eq!(state.unwrap(), wanted);
        let crun = read(r#"{"bundlePath": "/b", "root": "rootfs"}"#).unwrap();
        assert_eq!(crun.root, Some("/b/rootfs".into()));
        assert_eq!(read(r#"{"bundle": "/b", "pid": 1e99}"#).unwrap().pid, 0);
        for bad in ["", "[]", "{}", r#"{"bundle": 3}"#, "{\"bundle\": \"/b\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
