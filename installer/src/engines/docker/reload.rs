//! Decides whether a reload of dockerd is enough, or a restart is needed.
//!
//! On SIGHUP, dockerd applies `runtimes` and `default-runtime` from the file, but keeps a key in memory that the file
//! no longer has (moby `daemon/reload_unix.go`; seen on 20.10 and 26.1). It also forgets runtimes that were set by
//! flag. If the default was one of them, 20.10.24 crashes and 26.1.5 applies nothing, so with such flags only a
//! restart is safe. dockerd looks for CDI specs and the hook only at its start.
//!
//! If a run fails after a reload, its rollback reloads dockerd too. An extra runtime that stays in dockerd's memory
//! is harmless then, but an extra default runtime is not: every container would keep using it. So a default is set by
//! reload only if the file named one before, which a reload can restore.

use serde_json::{Map, Value};

use super::client::DaemonInfo;
use super::daemon_json::DaemonJson;
use crate::edit::json;
use crate::host::systemd_unit::Unit;
use crate::model::change::{Change, MergeKind};
use crate::model::setup_options::SetupOptions;

/// Flags whose values a reload loses.
const FLAGS: [&str; 2] = ["--add-runtime", "--default-runtime"];
/// Prefixes of the built-in runtimes of dockerd.
const BUILT_IN: [&str; 2] = ["runc", "io.containerd."];

/// Whether dockerd, given its flags and state, would be the same after a reload as after a restart.
pub fn is_enough(changes: &[Change], unit: &Unit, info: &DaemonInfo) -> bool {
    let [change] = changes else {
        return false;
    };
    let MergeKind::Json { keys } = &change.kind else {
        return false;
    };
    if FLAGS.iter().any(|f| unit.where_is(f).is_some()) {
        return false;
    }
    let only = |keys: &Vec<String>| matches!(keys[0].as_str(), "runtimes" | "default-runtime");
    let (before, after) = (
        object(change.before.as_deref()),
        object(change.after.as_deref()),
    );
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    let runtimes = |file: &Map<String, Value>| -> Vec<String> {
        let all = file.get("runtimes").and_then(Value::as_object);
        all.into_iter().flatten().map(|(n, _)| n.clone()).collect()
    };
    let (old, new) = (runtimes(&before), runtimes(&after));
    let nothing_goes =
        old.iter().all(|n| new.contains(n)) && before.keys().all(|key| after.contains_key(key));
    let sets_default = keys.iter().any(|k| k[0] == "default-runtime");
    let default_can_go_back = !sets_default || before.contains_key("default-runtime");
    // A runtime that is in the file neither before nor after the change comes from a flag that we cannot see, for
    // example in a wrapper script.
    let all_of_file = info
        .runtimes
        .keys()
        .all(|name| new.contains(name) || BUILT_IN.iter().any(|b| name.starts_with(b)));
    keys.iter().all(only) && nothing_goes && default_can_go_back && all_of_file
}

/// Whether our runtime is the daemon's default, and neither its file nor a flag of its unit says so. A reload keeps it.
pub fn keeps_our_default(file: &DaemonJson, unit: &Unit, info: &DaemonInfo) -> bool {
    let ours = SetupOptions::default().runtime_name;
    let in_file = file.get(&["default-runtime"]).and_then(Value::as_str);
    info.default_runtime == ours
        && in_file != Some(ours.as_str())
        && unit.where_is(FLAGS[1]).is_none()
}

fn object(text: Option<&str>) -> Option<Map<String, Value>> {
    let text = text.filter(|t| !t.trim().is_empty()).unwrap_or("{}");
    match json::parse(text) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::host::Host;

    fn is_enough_with(
        before: &str,
        after: &str,
        keys: &[&str],
        flags: &str,
        known: &[&str],
    ) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let units = dir.path().join("etc/systemd/system");
        fs::create_dir_all(&units).unwrap();
        let text = format!("[Service]\nExecStart=/usr/bin/dockerd -H fd:// {flags}\n");
        fs::write(units.join("docker.service"), text).unwrap();
        let host = Host::open(dir.path(), Path::new("/")).unwrap();
        let keys = keys
            .iter()
            .map(|k| k.split('.').map(str::to_owned).collect());
        let change = Change {
            path: "/etc/docker/daemon.json".into(),
            before: Some(before.into()),
            after: Some(after.into()),
            mode: 0o644,
            why: String::new(),
            kind: MergeKind::Json {
                keys: keys.collect(),
            },
        };
        let runtimes = known.iter().map(|n| ((*n).to_owned(), String::new()));
        let info = DaemonInfo {
            runtimes: runtimes.collect(),
            ..DaemonInfo::default()
        };
        is_enough(&[change], &Unit::read(&host, "docker.service"), &info)
    }

    fn is_enough_for_usual(before: &str, after: &str, keys: &[&str]) -> bool {
        is_enough_with(before, after, keys, "", &["runc", "io.containerd.runc.v2"])
    }

    const OURS: &str = r#"{"runtimes":{"nvidia":{"path":"/n"}}}"#;

    #[test]
    fn an_added_runtime_needs_no_restart() {
        assert!(is_enough_for_usual("", OURS, &["runtimes.nvidia"]));
        let both = r#"{"runtimes":{"nvidia":{"path":"/n"}},"default-runtime":"nvidia"}"#;
        let keys = &["runtimes.nvidia", "default-runtime"];
        assert!(is_enough_for_usual(
            r#"{"default-runtime":"runc"}"#,
            both,
            keys
        ));
        assert!(
            !is_enough_for_usual("{}", both, keys),
            "nothing could take the default back"
        );
        let theirs = r#"{"runtimes":{"nvidia":{"path":"/old"}}}"#;
        assert!(is_enough_for_usual(theirs, OURS, &["runtimes.nvidia.path"]));
    }

    #[test]
    fn a_removed_runtime_needs_a_restart() {
        assert!(!is_enough_for_usual(OURS, "{}", &["runtimes.nvidia"]));
        let more = r#"{"runtimes":{"nvidia":{"path":"/n"},"site":{"path":"/s"}}}"#;
        let info = &["runc", "nvidia", "site"];
        assert!(!is_enough_with(more, OURS, &["runtimes.site"], "", info));
        let default = r#"{"runtimes":{"nvidia":{"path":"/n"}},"default-runtime":"nvidia"}"#;
        assert!(!is_enough_for_usual(default, OURS, &["default-runtime"]));
    }

    #[test]
    fn keys_that_are_only_read_at_startup_need_a_restart() {
        let cdi = r#"{"runtimes":{"nvidia":{"path":"/n"}},"features":{"cdi":true}}"#;
        assert!(!is_enough_for_usual(
            "{}",
            cdi,
            &["runtimes.nvidia", "features.cdi"]
        ));
    }

    #[test]
    fn runtimes_set_by_flag_need_a_restart() {
        let info = &["runc"];
        let keys = &["runtimes.nvidia"];
        assert!(is_enough_with("{}", OURS, keys, "", info));
        assert!(!is_enough_with(
            "{}",
            OURS,
            keys,
            "--add-runtime s=/s",
            info
        ));
        assert!(!is_enough_with(
            "{}",
            OURS,
            keys,
            "--default-runtime=s",
            info
        ));
        assert!(!is_enough_with("{}", OURS, keys, "", &["runc", "site"]));
        // A runtime that a failed run left in memory does not count as set by flag.
        assert!(is_enough_with("{}", OURS, keys, "", &["runc", "nvidia"]));
    }
}
