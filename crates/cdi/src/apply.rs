//! Edits applied to an OCI config, on its text, so that no key we do not know is lost.

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

/// What a stat of a host's device node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStat {
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Device number.
    pub major: i64,
    /// Device number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Applies `edits` to `config`. `stat` answers for device nodes of the host. The
/// config may be half edited where an error comes back.
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
            gids.push(LazyJson::made(gid)?);
        }
    }
    Ok(())
}

/// The same for a config that was taken apart already; on an error it is as before.
pub fn apply_to_value(
    config: &mut Value,
    edits: &[&ContainerEdits],
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
    let text = config.to_string();
    let odd = |_| Error::Config("a value");
    let mut document = LazyJson::parse(text.as_bytes()).map_err(odd)?;
    for edits in edits {
        apply(&mut document, edits, stat)?;
    }
    *config = serde_json::from_str(&document.text()).map_err(odd)?;
    Ok(())
}

fn set_env(config: &mut LazyJson<'_>, variable: &str) -> Result<(), Error> {
    let name = variable.split('=').next().unwrap_or(variable);
    let env = config.list(&["process", "env"])?;
    let same = |v: &LazyJson<'_>| {
        v.get::<String>(&[])
            .is_some_and(|v| v.strip_prefix(name).is_some_and(|r| r.starts_with('=')))
    };
    let variable = LazyJson::made(&variable)?;
    if let Some(old) = env.iter_mut().find(|v| same(v)) {
        *old = variable;
    } else {
        env.push(variable);
    }
    Ok(())
}

/// The process's own ids, but for root's: a process that is not root must be able to open
/// the nodes, and the reference implementation takes these where the spec has none.
struct Own {
    uid: Option<u64>,
    gid: Option<u64>,
}

/// All at once: a host of 64 partitioned GPUs has a thousand nodes, and a look through all
/// that is there for each of them would take longer than the container's start.
fn add_nodes(
    config: &mut LazyJson<'_>,
    nodes: &[DeviceNode],
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
    let own = |key: &str| {
        let id = config.get::<u64>(&["process", "user", key])?;
        (id > 0).then_some(id)
    };
    let own = Own {
        uid: own("uid"),
        gid: own("gid"),
    };
    let nodes = nodes.iter().map(|node| node_and_rule(node, &own, stat));
    put_nodes(config, &nodes.collect::<Result<Vec<_>, _>>()?)
}

/// A character device node of which everything is known.
#[derive(Clone, Copy, Debug)]
pub struct KnownNode<'a> {
    /// In the container.
    pub path: &'a Path,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What the device cgroup lets the container do.
    pub access: &'a str,
}

/// As [`apply`] adds a [`DeviceNode`] that says all of this, without one being made for it.
pub fn add_known_nodes<'a>(
    config: &mut LazyJson<'_>,
    nodes: impl Iterator<Item = KnownNode<'a>>,
) -> Result<(), Error> {
    let nodes = nodes.map(|node| {
        let kind = "c";
        let (major, minor) = (node.major.into(), node.minor.into());
        let device = Device {
            path: node.path.to_string_lossy(),
            kind: kind.into(),
            major,
            minor,
            mode: Some(node.mode),
            uid: Some(node.uid.into()),
            gid: Some(node.gid.into()),
        };
        let rule = Rule {
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
    nodes: &[(Device<'_>, Option<Rule<'_>>)],
) -> Result<(), Error> {
    let mut devices = Vec::with_capacity(nodes.len());
    for (device, _) in nodes {
        devices.push((&*device.path, LazyJson::made(device)?));
    }
    let there = config.list(&["linux", "devices"])?;
    replace_by(there, devices, |device| device.get::<At>(&[])?.path);
    let rules = || nodes.iter().filter_map(|(_, rule)| rule.as_ref());
    if rules().next().is_none() {
        return Ok(());
    }
    let there = config.list(&["linux", "resources", "devices"])?;
    let allowed = |rule: &LazyJson<'_>| rule.get::<Rule<'_>>(&[]).filter(|r| r.allow);
    let before: Vec<Rule<'_>> = there.iter().filter_map(allowed).collect();
    let mut seen = HashSet::with_capacity(before.len() + nodes.len());
    seen.extend(&before);
    for rule in rules() {
        if seen.insert(rule) {
            there.push(LazyJson::made(rule)?);
        }
    }
    Ok(())
}

/// Where a device or a mount is in the container.
#[derive(Deserialize)]
struct At {
    path: Option<String>,
    destination: Option<String>,
}

/// Puts these at the end, in place of those that are in the same place; of several in one,
/// the last.
fn replace_by<'a>(
    there: &mut Vec<LazyJson<'a>>,
    made: Vec<(&str, LazyJson<'a>)>,
    place: impl Fn(&LazyJson<'a>) -> Option<String>,
) {
    let mut names = HashSet::with_capacity(made.len());
    let mut last = Vec::with_capacity(made.len());
    for (name, item) in made.into_iter().rev() {
        if names.insert(name) {
            last.push(item);
        }
    }
    there.retain(|item| place(item).is_none_or(|name| !names.contains(name.as_str())));
    there.extend(last.into_iter().rev());
}

/// A device of `linux.devices`.
#[derive(Serialize)]
struct Device<'a> {
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

/// One of `linux.resources.devices`, as far as two can be the same.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule<'a> {
    allow: bool,
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    major: i64,
    minor: i64,
    access: Cow<'a, str>,
}

impl Hash for Rule<'_> {
    /// The number is enough: few rules have one in common.
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.major, self.minor).hash(to);
    }
}

fn node_and_rule<'a>(
    node: &'a DeviceNode,
    own: &Own,
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(Device<'a>, Option<Rule<'a>>), Error> {
    let host = node.host_path.as_deref().unwrap_or(&node.path);
    let failed = |why: String| Error::Node {
        path: host.to_owned(),
        why,
    };
    let (kind, major, minor, found) = match (&node.kind, node.major, node.minor) {
        (Some(kind), _, _) if kind == "p" => (Cow::from(kind), 0, 0, None),
        (Some(kind), Some(major), Some(minor)) => (kind.into(), major, minor, None),
        _ => {
            let found = stat(host).map_err(|e| failed(e.to_string()))?;
            let kind = match &node.kind {
                Some(kind) => Cow::from(kind),
                None => found.kind.to_string().into(),
            };
            if !(kind.starts_with(found.kind) || kind == "u" && found.kind == 'c') {
                return Err(failed(format!("is of type {}, not {kind}", found.kind)));
            }
            (kind, found.major, found.minor, Some(found))
        }
    };
    let owner = |given: Option<u32>, own: Option<u64>, found: Option<u32>| {
        given.map(u64::from).or(own).or(found.map(u64::from))
    };
    let rule = (kind != "p").then(|| Rule {
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
            Some(given) => given.into(),
        },
    });
    let device = Device {
        path: node.path.to_string_lossy(),
        kind,
        major,
        minor,
        mode: node.file_mode.or(found.as_ref().map(|f| f.mode)),
        uid: owner(node.uid, own.uid, found.as_ref().map(|f| f.uid)),
        gid: owner(node.gid, own.gid, found.as_ref().map(|f| f.gid)),
    };
    Ok((device, rule))
}

/// One of `mounts`.
#[derive(Serialize)]
struct Mount<'a> {
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
        entries.push(Mount {
            destination: mount.container_path.to_string_lossy(),
            kind: mount.kind.as_deref().unwrap_or("bind"),
            source: mount.host_path.to_string_lossy(),
            options,
        });
    }
    let mut made = Vec::with_capacity(entries.len());
    for entry in &entries {
        made.push((&*entry.destination, LazyJson::made(entry)?));
    }
    let place = |mount: &LazyJson<'_>| mount.get::<At>(&[])?.destination;
    replace_by(mounts, made, place);
    // A mount must come after those it lies in; equal depths keep their order.
    mounts.sort_by_cached_key(|m| {
        let target = place(m).unwrap_or_default();
        Path::new(&target).components().count()
    });
    Ok(())
}

/// One of a list of `hooks`.
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
    let entry = LazyJson::made(&HookEntry {
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
