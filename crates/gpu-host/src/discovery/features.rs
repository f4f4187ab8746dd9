//! Discovers what this host has besides GPUs: storage, networks, `NVSwitch`, IMEX channels.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::nodes::Dev;
use crate::driver::reach;
use crate::inventory::{Capabilities, DriverFile, Feature, FeatureFiles, FileKind, ImexChannel};
use crate::root::Root;

const TABLE: &str = include_str!("../../features.toml");

/// Directory of the IMEX channel nodes (IMEX Service for `NVLink` Networks guide).
pub(crate) const IMEX_CHANNELS: &str = "/dev/nvidia-caps-imex-channels";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureTable {
    feature: Vec<FeatureRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureRow {
    feature: Feature,
    nodes: Vec<String>,
    #[serde(default)]
    files: Vec<FeatureFile>,
    /// Where the fact comes from. Documentation only.
    #[allow(
        dead_code,
        reason = "documentation column; only the table's test reads it"
    )]
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureFile {
    path: PathBuf,
    #[serde(rename = "of")]
    provider: FileProvider,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileProvider {
    /// Below the driver root; the host's own copy is the fallback.
    Driver,
    /// Below `/`.
    Host,
}

fn table() -> FeatureTable {
    toml::from_str(TABLE).expect("features.toml is read whole by this module's test")
}

/// The features for which the host has at least one node.
pub(crate) fn find(dev: &Dev<'_>, driver_root: &Path) -> Vec<FeatureFiles> {
    table()
        .feature
        .into_iter()
        .filter_map(|row| {
            let nodes: Vec<_> = row.nodes.iter().flat_map(|n| dev.matching(n)).collect();
            if nodes.is_empty() {
                return None;
            }
            let files = row.files.iter();
            Some(FeatureFiles {
                feature: row.feature,
                nodes,
                files: files
                    .filter_map(|f| file(dev.root, driver_root, f))
                    .collect(),
            })
        })
        .collect()
}

fn file(root: &Root, driver_root: &Path, file: &FeatureFile) -> Option<DriverFile> {
    let inner = file.path.strip_prefix("/").unwrap_or(&file.path);
    let in_driver_root = (file.provider == FileProvider::Driver).then(|| driver_root.join(inner));
    let host_path = in_driver_root
        .into_iter()
        .chain([file.path.clone()])
        .find_map(|p| root.canonicalize(p).ok())?;
    let need = reach::need(root, &host_path);
    Some(DriverFile {
        kind: FileKind::Config,
        path: file.path.clone(),
        host_path,
        capabilities: Capabilities::ALL,
        soname: None,
        links: Vec::new(),
        need,
    })
}

/// The channels that exist, in order of their numbers. nvidia-modprobe makes them, or the
/// module's parameter `NVreg_CreateImexChannel0`.
pub(crate) fn imex_channels(dev: &Dev<'_>) -> Vec<ImexChannel> {
    let mut channels: Vec<ImexChannel> = dev
        .matching(&format!("{IMEX_CHANNELS}/channel*"))
        .into_iter()
        .filter_map(|node| {
            let name = node.path.file_name()?.to_str()?;
            let id = name.strip_prefix("channel")?.parse().ok()?;
            Some(ImexChannel { id, node })
        })
        .collect();
    channels.sort_by_key(|c| c.id);
    channels
}

/// Passes to `add` every name whose change makes a stored inventory stale: the entries of a
/// few directories that most hosts lack, and single nodes. The paths are not taken from the
/// table because parsing it at every container start would take too long.
pub(crate) fn freshness_names(root: &Root, dev_root: &Path, mut add: impl FnMut(&Path)) {
    for dir in ["dev/nvidia-caps-imex-channels", "dev/infiniband"] {
        for name in root.read_dir(dev_root.join(dir)).unwrap_or_default() {
            add(Path::new(&name));
        }
    }
    for node in ["dev/gdrdrv", "dev/nvidia-fs0", "dev/nvidia-nvswitchctl"] {
        if root.exists(dev_root.join(node)) {
            add(Path::new(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_complete() {
        let table = table();
        let features: Vec<Feature> = table.feature.iter().map(|r| r.feature).collect();
        assert_eq!(features, Feature::ALL);
        for row in &table.feature {
            assert!(!row.source.is_empty() && !row.nodes.is_empty());
            assert!(row.nodes.iter().all(|n| n.starts_with("/dev/")));
            assert!(row.files.iter().all(|f| f.path.is_absolute()));
        }
    }
}
