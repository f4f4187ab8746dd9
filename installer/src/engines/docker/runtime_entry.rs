//! Judges an existing runtime of our name: whose it is, and what to do with it.

use std::path::Path;

use gpu_host::programs;
use serde_json::{Value, json};

use super::daemon_json::{DaemonJson, strict};
use crate::edit::json;
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::host::Host;
use crate::model::change::Change;
use crate::model::setup_options::{Existing, SetupOptions};

/// Where NVIDIA's GPU operator installs its programs; it also writes daemon.json (gpu-operator,
/// assets/state-container-toolkit).
const OPERATOR: &str = "/usr/local/nvidia/toolkit";
/// The names of the vendor's runtime, one for each of its modes.
const VENDOR: [&str; 3] = [
    "nvidia-container-runtime",
    "nvidia-container-runtime.cdi",
    "nvidia-container-runtime.legacy",
];
/// Who wrote a runtime entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOwner {
    /// nvidia-container-toolkit, by `nvidia-ctk runtime configure`.
    Toolkit,
    /// nvidia-docker2, whose package installed the whole file.
    NvidiaDocker2,
    /// The GPU operator of a Kubernetes cluster.
    Operator,
    /// An earlier undo left it, as plain runc.
    Undo,
    /// Somebody wrote it by hand.
    ByHand,
}

impl EntryOwner {
    fn of(config: &DaemonJson, name: &str, entry: &Value) -> Self {
        let path = entry.get("path").and_then(Value::as_str).unwrap_or("");
        let shipped = json!({"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}}});
        if path.starts_with(OPERATOR) {
            Self::Operator
        } else if *entry == plain_runc() {
            Self::Undo
        } else if name == "nvidia" && config.equals(&shipped) {
            Self::NvidiaDocker2
        } else if is_vendors(path) {
            Self::Toolkit
        } else {
            Self::ByHand
        }
    }

    /// For messages: `nvidia-container-toolkit's`.
    pub fn author(self) -> &'static str {
        match self {
            Self::Toolkit => "nvidia-container-toolkit's",
            Self::NvidiaDocker2 => "nvidia-docker2's",
            Self::Operator => "the GPU operator's",
            Self::Undo => "left as plain runc by an undo",
            Self::ByHand => "written by hand",
        }
    }
}

fn is_vendors(path: &str) -> bool {
    let name = Path::new(path).file_name().unwrap_or_default();
    let dir = Path::new(path).parent().unwrap_or(Path::new(""));
    let usual = dir.as_os_str().is_empty() || programs::DIRS.iter().any(|d| dir == Path::new(d));
    usual && VENDOR.iter().any(|v| name == *v)
}

/// A runtime that is runc, as Docker finds it on its PATH. Docker's own default runtime is the same program.
fn plain_runc() -> Value {
    json!({ "path": "runc" })
}

/// The text that an undo's change of daemon.json writes, with plain runc in place of our runtime; `None` if our runtime
/// is not what the change takes out.
pub fn with_plain_runc(change: &Change) -> Result<Option<String>, Error> {
    let name = SetupOptions::default().runtime_name;
    let after = change.after.as_deref();
    if !has_entry(change.before.as_deref()) || has_entry(after) {
        return Ok(None);
    }
    let entry = (vec!["runtimes".to_owned(), name], plain_runc());
    let text = json::set(after.unwrap_or_default(), &[entry]);
    text.map(Some).map_err(|e| strict(&change.path, e))
}

/// Whether this text of a daemon.json has a runtime of our runtime's name, whatever it starts.
pub fn has_entry(text: Option<&str>) -> bool {
    let file = text.and_then(|text| json::parse(text).ok());
    file.is_some_and(|file| !file["runtimes"][SetupOptions::default().runtime_name].is_null())
}

/// What to do with the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryDecision {
    /// There is no entry.
    None,
    /// It already starts our program.
    Ours,
    /// Replace its program with ours; undo restores it.
    Replace(EntryOwner),
    /// Leave it, so that its containers keep using it.
    Leave(EntryOwner),
}

/// Decides by the existing runtime of our name and the user's options.
pub fn judge(
    host: &Host,
    config: &DaemonJson,
    wanted: &SetupOptions,
) -> Result<EntryDecision, Error> {
    let name = &wanted.runtime_name;
    let Some(entry) = config.get(&["runtimes", name]) else {
        return Ok(EntryDecision::None);
    };
    let path = entry.get("path").and_then(Value::as_str);
    if path.is_some_and(|p| wanted.is_our_shim(host, p)) {
        return Ok(EntryDecision::Ours);
    }
    let owner = EntryOwner::of(config, name, entry);
    let is_gone = path.is_some_and(|p| !exists(host, p));
    // If a removed package left the entry behind, it starts no container, so replacing it breaks nothing. In
    // contrast, a hand-written path may be on a disk that is mounted later, and the operator restores its program
    // itself.
    let is_left_over = owner == EntryOwner::Undo
        || is_gone && matches!(owner, EntryOwner::Toolkit | EntryOwner::NvidiaDocker2);
    match wanted.existing {
        Existing::Leave => Ok(EntryDecision::Leave(owner)),
        Existing::Refuse if !is_left_over => Err(refused(config, wanted, entry, owner, is_gone)),
        Existing::Refuse | Existing::Adopt => {
            ensure_replaceable(config, name, entry)?;
            Ok(EntryDecision::Replace(owner))
        }
    }
}

/// Whether its program exists.
pub fn exists(host: &Host, path: &str) -> bool {
    if Path::new(path).is_absolute() {
        return host.root().exists(path);
    }
    host.has_program(path)
}

fn refused(
    config: &DaemonJson,
    wanted: &SetupOptions,
    entry: &Value,
    owner: EntryOwner,
    is_gone: bool,
) -> Error {
    let gone = if is_gone {
        ", and its program is not there"
    } else {
        ""
    };
    let fault = ConfigFault::OtherRuntime {
        name: wanted.runtime_name.clone(),
        whose: format!("that is not ours: {entry} ({}{gone})", owner.author()),
        is_operators: owner == EntryOwner::Operator,
        cdi_suffices: false,
    };
    Error::config(&config.path, fault)
}

/// Only the path of an entry is changed, so its other keys must fit our program too.
fn ensure_replaceable(config: &DaemonJson, name: &str, entry: &Value) -> Result<(), Error> {
    let no = |what: String| {
        let name = name.to_owned();
        Err(Error::config(
            &config.path,
            ConfigFault::UnfitRuntime { name, what },
        ))
    };
    let Some(fields) = entry.as_object() else {
        return no(format!("that is no object: {entry}"));
    };
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    // dockerd accepts a path or a runtimeType, never both (moby daemon/runtime_unix.go, 23.0).
    let other = fields
        .iter()
        .find(|(key, value)| *key != "path" && !is_empty(value));
    match other {
        Some((key, value)) => no(format!("with {key} {value}, which is not for our program")),
        None => Ok(()),
    }
}

/// What the user should know about it.
pub fn warning(
    config: &DaemonJson,
    wanted: &SetupOptions,
    verdict: EntryDecision,
) -> Option<String> {
    let (name, file) = (&wanted.runtime_name, config.path.display());
    match verdict {
        EntryDecision::Leave(owner) => {
            let default = if wanted.default_runtime {
                "; it is not made the default either"
            } else {
                ""
            };
            Some(format!(
                "runtime {name:?} in {file} stays as it is ({}): containers with --runtime {name} do not use gpusetup's{default}",
                owner.author()
            ))
        }
        EntryDecision::Replace(EntryOwner::Operator) => Some(format!(
            "runtime {name:?} in {file} is the GPU operator's, which will write it again: take this node out of its hands"
        )),
        _ => None,
    }
}

/// Warnings about runtimes whose program is gone: no container that uses them starts.
pub fn dangling(host: &Host, config: &DaemonJson) -> Vec<String> {
    let default = config.get(&["default-runtime"]).and_then(Value::as_str);
    let lost = config.runtimes().filter(|(_, path)| {
        let name = Path::new(path).file_name().unwrap_or_default();
        let is_for_gpus =
            is_vendors(path) || path.starts_with(OPERATOR) || name == "gpu-container-runtime";
        is_for_gpus && !exists(host, path)
    });
    lost.map(|(name, path)| {
        let who = if default == Some(name) {
            "no container starts without --runtime".to_owned()
        } else {
            format!("containers with --runtime {name} do not start")
        };
        format!(
            "runtime {name:?} in {} leads to {path}, which is not there: {who}",
            config.path.display()
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::MergeKind;

    #[test]
    fn a_runtime_is_left_only_where_ours_goes() {
        let left = |before: Option<&str>, after: Option<&str>| {
            let change = Change {
                path: "/etc/docker/daemon.json".into(),
                before: before.map(str::to_owned),
                after: after.map(str::to_owned),
                mode: 0o644,
                why: String::new(),
                kind: MergeKind::Json { keys: Vec::new() },
            };
            let text = with_plain_runc(&change).unwrap()?;
            Some(json::parse(&text).unwrap())
        };
        let ours = r#"{"debug": true, "runtimes": {"nvidia": {"path": "/usr/bin/gpu-container-runtime"}}}"#;
        let runc = json!({"nvidia": {"path": "runc"}});
        assert_eq!(left(Some(ours), None), Some(json!({"runtimes": runc})));
        let with_debug = Some(json!({"debug": true, "runtimes": runc}));
        assert_eq!(left(Some(ours), Some(r#"{"debug": true}"#)), with_debug);
        // Another tool's runtime that we had taken over is there again.
        assert_eq!(left(Some(ours), Some(ours)), None);
        assert_eq!(left(Some(r#"{"debug": true}"#), None), None);
        assert_eq!(left(None, None), None);
    }
}
