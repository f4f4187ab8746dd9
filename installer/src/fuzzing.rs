//! Entry points for testenv/fuzz: each takes the content of a file, and panics only if the result breaks one of our
//! guarantees.

use std::path::Path;

use gpu_host::Root;

use crate::edit::{self, revert};
use crate::error::edit_error::EditError;
use crate::host::systemd_unit::Unit;
use crate::host::{Host, RECEIPT};
use crate::model::change::MergeKind;
use crate::setup::install_planner::{self, InstallRequest};
use crate::transaction::journal::Journal;
use crate::transaction::receipt::{JOURNAL, Receipt};
use crate::transaction::state_file;

fn keys(dotted: &[&str]) -> Vec<Vec<String>> {
    let key = |path: &&str| path.split('/').map(str::to_owned).collect();
    dotted.iter().map(key).collect()
}

/// daemon.json: edited, edited again, undone; and undone after somebody made it `later`.
pub fn json(text: &str, later: &str) {
    let keys = keys(&["features/cdi", "runtimes/nvidia"]);
    let ours = [
        serde_json::json!(true),
        serde_json::json!({"path": "/usr/bin/gpu-container-runtime"}),
    ];
    let values: Vec<_> = keys.iter().cloned().zip(ours).collect();
    let set = |text: &str| edit::json::set(text, &values);
    install_and_undo_restore_the_tree(text, later, set, &MergeKind::Json { keys: keys.clone() });
}

/// containerd's config.toml, the same.
pub fn toml(text: &str, later: &str) {
    let cri = "plugins/io.containerd.grpc.v1.cri";
    let runtime = format!("{cri}/containerd/runtimes/nvidia");
    let keys = keys(&[
        &format!("{cri}/enable_cdi"),
        &format!("{runtime}/runtime_type"),
        &format!("{runtime}/options/BinaryName"),
    ]);
    let ours: [toml_edit::Value; 3] = [
        true.into(),
        "io.containerd.runc.v2".into(),
        "/usr/bin/gpu-container-runtime".into(),
    ];
    let values: Vec<_> = keys.iter().cloned().zip(ours).collect();
    let set = |text: &str| edit::toml::set(text, &values);
    install_and_undo_restore_the_tree(text, later, set, &MergeKind::Toml { keys: keys.clone() });
}

fn install_and_undo_restore_the_tree(
    before: &str,
    later: &str,
    set: impl Fn(&str) -> Result<String, EditError>,
    kind: &MergeKind,
) {
    let Ok(after) = set(before) else { return };
    assert_eq!(set(&after).as_ref(), Ok(&after), "a second edit changes it");
    let undone = revert::remove_ours(kind, &after, Some(before), &after);
    assert_eq!(undone, Ok(Some(before.to_owned())), "undo is not exact");
    let _ = revert::remove_ours(kind, later, Some(before), &after);
    if let Ok(later) = set(later) {
        let undone = revert::remove_ours(kind, &later, Some(before), &after);
        assert!(undone.is_ok(), "ours cannot be taken out: {undone:?}");
    }
}

/// A unit file, below `tree`.
pub fn unit(tree: &Path, text: &[u8]) {
    let host = host(tree);
    put(tree, "etc/systemd/system/docker.service", text);
    let unit = Unit::read(&host, "docker.service");
    let _ = (
        unit.flag("--config-file"),
        unit.where_is("--feature").is_some(),
        unit.environment("PATH"),
    );
}

/// dpkg's table of packages, below `tree`.
pub fn dpkg_status(tree: &Path, text: &[u8]) -> Option<String> {
    put(tree, "var/lib/dpkg/status", text);
    host(tree).package_version(&["docker.io", "containerd"])
}

/// All that `plan` reads of a host with Docker and containerd, below `tree`: what it plans can be
/// undone to the byte.
pub fn plan(tree: &Path, daemon_json: &[u8], config_toml: &[u8], unit: &[u8]) {
    put(tree, "etc/os-release", b"ID=debian\n");
    put(tree, "usr/sbin/dockerd", b"");
    put(tree, "usr/bin/containerd", b"");
    put(tree, "etc/docker/daemon.json", daemon_json);
    put(tree, "etc/containerd/config.toml", config_toml);
    put(tree, "etc/systemd/system/docker.service", unit);
    let Ok(plan) = install_planner::plan(&host(tree), &InstallRequest::default()) else {
        return;
    };
    for change in &plan.changes {
        let undone = revert::revert(change, change.after.as_deref());
        assert_eq!(undone.as_ref(), Ok(&change.before), "{change:?}");
    }
}

/// A receipt or a journal that a user may have edited.
pub fn state(text: &[u8], current: &str) {
    let changes = state_file::parse(RECEIPT, text)
        .map(|r: Receipt| r.changes)
        .or_else(|_| state_file::parse(JOURNAL, text).map(|j: Journal| j.changes));
    for change in changes.unwrap_or_default() {
        let _ = revert::revert(&change, Some(current));
        let _ = revert::revert(&change, change.after.as_deref());
    }
}

/// A text that a user pastes into `doctor --explain`.
pub fn explain(text: &[u8]) {
    let causes = crate::doctor::explain::explain(text);
    let sure = |c: &crate::doctor::explain::Candidate| c.letters;
    assert!(
        causes.is_sorted_by(|a, b| sure(a) >= sure(b)),
        "not the surest first"
    );
}

fn host(tree: &Path) -> Host {
    Host::open(tree, Path::new("/")).unwrap_or_else(|e| panic!("no tree to fuzz in: {e}"))
}

/// Writes a file of the tree, for targets that prepare a tree of their own.
pub fn put(tree: &Path, path: &str, content: &[u8]) {
    let file = tree.join(path);
    let written = std::fs::write(&file, content).or_else(|_| {
        std::fs::create_dir_all(file.parent().unwrap_or(tree))?;
        std::fs::write(&file, content)
    });
    assert!(written.is_ok(), "{}: {written:?}", file.display());
}

/// The root of the tree, which the parsers of gpu-host take.
pub fn root(tree: &Path) -> Root {
    host(tree).root().clone()
}
