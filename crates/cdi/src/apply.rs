//! Applies CDI edits to the text of an OCI config, so that unknown keys are preserved.
//!
//! Longer than 400 lines, since it has one function for each kind of edit, all on the same document.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::lazy_json::LazyJson;
use crate::spec::{ContainerEdits, DeviceNode, Hook, IntelRdt};

/// Metadata of a device node on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStat {
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Major device number.
    pub major: i64,
    /// Minor device number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Applies `edits` to `config`. `stat` returns the metadata of a device node on the host. After an
/// error the config may be edited in part.
pub fn apply(
    config: &mut LazyJson<'_>,
    edits: &ContainerEdits,
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
    for variable in &edits.env {
        set_env(config, variable)?;
    }
    if !edits.device_nodes.is_empty() {
        add_nodes(config, &edits.device_nodes, stat)?;
    }
    if !edits.mounts.is_empty() {
        add_mounts(config, edits)?;
    }
    for hook in &edits.hooks {
        add_hook(config, hook)?;
    }
    if let Some(rdt) = &edits.intel_rdt {
        set_rdt(config, rdt)?;
    }
    for gid in edits.additional_gids.iter().filter(|g| **g != 0) {
        let gids = config.list(&["process", "user", "additionalGids"])?;
        if !gids.iter().any(|g| g.get(&[]) == Some(*gid)) {
            gids.push(LazyJson::serialized(gid)?);
        }
    }
    Ok(())
}

/// Applies `edits` to a config that is parsed already. After an error the config is unchanged.
pub fn apply_to_value(
    config: &mut Value,
    edits: &[&ContainerEdits],
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
    let text = config.to_string();
    let invalid = |_| Error::Config("a value");
    let mut document = LazyJson::parse(text.as_bytes()).map_err(invalid)?;
    for edits in edits {
        apply(&mut document, edits, stat)?;
    }
    *config = serde_json::from_str(&document.text()).map_err(invalid)?;
    Ok(())
}

fn set_env(config: &mut LazyJson<'_>, variable: &str) -> Result<(), Error> {
    let name = variable.split('=').next().unwrap_or(variable);
    let env = config.list(&["process", "env"])?;
    let same = |v: &LazyJson<'_>| {
        v.get::<String>(&[])
            .is_some_and(|v| v.strip_prefix(name).is_some_and(|r| r.starts_with('=')))
    };
    let variable = LazyJson::serialized(&variable)?;
    if let Some(old) = env.iter_mut().find(|v| same(v)) {
        *old = variable;
    } else {
        env.push(variable);
    }
    Ok(())
}

/// The ids of the container's process, unless it is root. A node whose spec has no owner gets these,
/// as in the reference implementation, so that a process that is not root can open it.
struct ProcessIds {
    uid: Option<u64>,
    gid: Option<u64>,
}

/// Adds all nodes at once. A host with 64 partitioned GPUs has a thousand nodes, and searching the
/// existing ones for each of them would take longer than the rest of a container's start.
fn add_nodes(
    config: &mut LazyJson<'_>,
    nodes: &[DeviceNode],
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
    let id = |key: &str| {
        let id = config.get::<u64>(&["process", "user", key])?;
        (id > 0).then_some(id)
    };
    let process = ProcessIds {
        uid: id("uid"),
        gid: id("gid"),
    };
    let nodes = nodes.iter().map(|node| node_and_rule(node, &process, stat));
    put_nodes(config, &nodes.collect::<Result<Vec<_>, _>>()?)
}

/// A character device node whose attributes are all known.
#[derive(Clone, Copy, Debug)]
pub struct KnownNode<'a> {
    /// Path in the container.
    pub path: &'a Path,
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The access that the device cgroup allows, of `r`, `w`, `m`.
    pub access: &'a str,
}

/// Adds nodes as [`apply`] does for complete [`DeviceNode`]s, without the cost of constructing these.
pub fn add_known_nodes<'a>(
    config: &mut LazyJson<'_>,
    nodes: impl Iterator<Item = KnownNode<'a>>,
) -> Result<(), Error> {
    let nodes = nodes.map(|node| {
        let kind = "c";
        let (major, minor) = (node.major.into(), node.minor.into());
        let device = DeviceEntry {
            path: node.path.to_string_lossy(),
            kind: kind.into(),
            major,
            minor,
            mode: Some(node.mode),
            uid: Some(node.uid.into()),
            gid: Some(node.gid.into()),
        };
        let rule = DeviceRule {
            allow: true,
            kind: kind.into(),
            major,
            minor,
            access: node.access.into(),
        };
        (device, Some(rule))
    });
    let nodes: Vec<_> = nodes.collect();
    if nodes.is_empty() {
        return Ok(());
    }
    put_nodes(config, &nodes)
}

fn put_nodes(
    config: &mut LazyJson<'_>,
    nodes: &[(DeviceEntry<'_>, Option<DeviceRule<'_>>)],
) -> Result<(), Error> {
    let mut devices = Vec::with_capacity(nodes.len());
    for (device, _) in nodes {
        devices.push((&*device.path, LazyJson::serialized(device)?));
    }
    let existing = config.list(&["linux", "devices"])?;
    replace_by(existing, devices, |device| {
        device.get::<Location>(&[])?.path
    });
    let rules = || nodes.iter().filter_map(|(_, rule)| rule.as_ref());
    if rules().next().is_none() {
        return Ok(());
    }
    let existing = config.list(&["linux", "resources", "devices"])?;
    let allowed = |rule: &LazyJson<'_>| rule.get::<DeviceRule<'_>>(&[]).filter(|r| r.allow);
    let before: Vec<DeviceRule<'_>> = existing.iter().filter_map(allowed).collect();
    let mut known = HashSet::with_capacity(before.len() + nodes.len());
    known.extend(&before);
    for rule in rules() {
        if known.insert(rule) {
            existing.push(LazyJson::serialized(rule)?);
        }
    }
    Ok(())
}

/// The path of a device, or the destination of a mount, in the container.
#[derive(Deserialize)]
struct Location {
    path: Option<String>,
    destination: Option<String>,
}

/// Appends new items and removes the existing ones with the same location. Of several new ones with
/// one location only the last is added.
fn replace_by<'a>(
    existing: &mut Vec<LazyJson<'a>>,
    new: Vec<(&str, LazyJson<'a>)>,
    location: impl Fn(&LazyJson<'a>) -> Option<String>,
) {
    let mut locations = HashSet::with_capacity(new.len());
    let mut last = Vec::with_capacity(new.len());
    for (location, item) in new.into_iter().rev() {
        if locations.insert(location) {
            last.push(item);
        }
    }
    existing.retain(|item| location(item).is_none_or(|l| !locations.contains(l.as_str())));
    existing.extend(last.into_iter().rev());
}

/// An entry of `linux.devices`.
#[derive(Serialize)]
struct DeviceEntry<'a> {
    path: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    major: i64,
    minor: i64,
    #[serde(rename = "fileMode", skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u64>,
}

/// An entry of `linux.resources.devices` with the fields that make two entries equal.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceRule<'a> {
    allow: bool,
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    major: i64,
    minor: i64,
    access: Cow<'a, str>,
}

impl Hash for DeviceRule<'_> {
    /// The device number is enough, because few rules share one.
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.major, self.minor).hash(to);
    }
}

fn node_and_rule<'a>(
    node: &'a DeviceNode,
    process: &ProcessIds,
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(DeviceEntry<'a>, Option<DeviceRule<'a>>), Error> {
    let host = node.host_path.as_deref().unwrap_or(&node.path);
    let failed = |why: String| Error::Node {
        path: host.to_owned(),
        why,
    };
    let (kind, major, minor, on_host) = match (&node.kind, node.major, node.minor) {
        (Some(kind), _, _) if kind == "p" => (Cow::from(kind), 0, 0, None),
        (Some(kind), Some(major), Some(minor)) => (kind.into(), major, minor, None),
        _ => {
            let stat = stat(host).map_err(|e| failed(e.to_string()))?;
            let kind = match &node.kind {
                Some(kind) => Cow::from(kind),
                None => stat.kind.to_string().into(),
            };
            if !(kind.starts_with(stat.kind) || kind == "u" && stat.kind == 'c') {
                return Err(failed(format!("is of type {}, not {kind}", stat.kind)));
            }
            (kind, stat.major, stat.minor, Some(stat))
        }
    };
    let owner = |in_spec: Option<u32>, process: Option<u64>, on_host: Option<u32>| {
        in_spec
            .map(u64::from)
            .or(process)
            .or(on_host.map(u64::from))
    };
    let rule = (kind != "p").then(|| DeviceRule {
        allow: true,
        kind: if kind == "u" {
            "c".into()
        } else {
            kind.clone()
        },
        major,
        minor,
        access: match node.permissions.as_deref() {
            None | Some("") => "rwm".into(),
            Some(permissions) => permissions.into(),
        },
    });
    let device = DeviceEntry {
        path: node.path.to_string_lossy(),
        kind,
        major,
        minor,
        mode: node.file_mode.or(on_host.as_ref().map(|s| s.mode)),
        uid: owner(node.uid, process.uid, on_host.as_ref().map(|s| s.uid)),
        gid: owner(node.gid, process.gid, on_host.as_ref().map(|s| s.gid)),
    };
    Ok((device, rule))
}

/// An entry of `mounts`.
#[derive(Serialize)]
struct MountEntry<'a> {
    destination: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'a str,
    source: Cow<'a, str>,
    options: Vec<&'a str>,
}

fn add_mounts(config: &mut LazyJson<'_>, edits: &ContainerEdits) -> Result<(), Error> {
    let mounts = config.list(&["mounts"])?;
    let mut entries = Vec::with_capacity(edits.mounts.len());
    for mount in &edits.mounts {
        let mut options: Vec<&str> = mount.options.iter().map(String::as_str).collect();
        if !options.iter().any(|o| *o == "bind" || *o == "rbind") {
            options.push("bind");
        }
        entries.push(MountEntry {
            destination: mount.container_path.to_string_lossy(),
            kind: mount.kind.as_deref().unwrap_or("bind"),
            source: mount.host_path.to_string_lossy(),
            options,
        });
    }
    let mut new = Vec::with_capacity(entries.len());
    for entry in &entries {
        new.push((&*entry.destination, LazyJson::serialized(entry)?));
    }
    let destination = |mount: &LazyJson<'_>| mount.get::<Location>(&[])?.destination;
    replace_by(mounts, new, destination);
    // A mount must come after those that contain it. Mounts of equal depth keep their order.
    mounts.sort_by_cached_key(|m| {
        let target = destination(m).unwrap_or_default();
        Path::new(&target).components().count()
    });
    Ok(())
}

/// An entry in one of the lists of `hooks`.
#[derive(Serialize)]
struct HookEntry<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    args: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<i64>,
}

fn add_hook(config: &mut LazyJson<'_>, hook: &Hook) -> Result<(), Error> {
    let entry = LazyJson::serialized(&HookEntry {
        path: hook.path.to_string_lossy(),
        args: &hook.args,
        env: &hook.env,
        timeout: hook.timeout,
    })?;
    let hooks = config.list(&["hooks", &hook.hook_name])?;
    let value = |document: &LazyJson<'_>| document.get::<Value>(&[]);
    if hooks.is_empty() || !hooks.iter().any(|h| value(h) == value(&entry)) {
        hooks.push(entry);
    }
    Ok(())
}

fn set_rdt(config: &mut LazyJson<'_>, rdt: &IntelRdt) -> Result<(), Error> {
    let text = [
        ("closID", &rdt.clos_id),
        ("l3CacheSchema", &rdt.l3_cache_schema),
        ("memBwSchema", &rdt.mem_bw_schema),
    ];
    for (key, value) in text {
        if let Some(value) = value {
            config.set(&["linux", "intelRdt", key], value)?;
        }
    }
    for (key, value) in [("enableCMT", rdt.enable_cmt), ("enableMBM", rdt.enable_mbm)] {
        if let Some(value) = value {
            config.set(&["linux", "intelRdt", key], &value)?;
        }
    }
    Ok(())
}
