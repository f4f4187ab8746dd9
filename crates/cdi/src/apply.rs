//! Edits applied to an OCI config, on the JSON itself so that no key we do not
//! know is lost.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Error;
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
    config: &mut Value,
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
        let gids = list(config, &["process", "user", "additionalGids"])?;
        if !gids.contains(&json!(gid)) {
            gids.push(json!(gid));
        }
    }
    Ok(())
}

fn set_env(config: &mut Value, variable: &str) -> Result<(), Error> {
    let name = variable.split('=').next().unwrap_or(variable);
    let env = list(config, &["process", "env"])?;
    let same = |v: &Value| {
        v.as_str()
            .is_some_and(|v| v.strip_prefix(name).is_some_and(|r| r.starts_with('=')))
    };
    if let Some(old) = env.iter_mut().find(|v| same(v)) {
        *old = json!(variable);
    } else {
        env.push(json!(variable));
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
    config: &mut Value,
    nodes: &[DeviceNode],
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
    let own = |key: &str| {
        let id = config.pointer(&format!("/process/user/{key}"))?.as_u64()?;
        (id > 0).then_some(id)
    };
    let own = Own {
        uid: own("uid"),
        gid: own("gid"),
    };
    let mut devices = Vec::with_capacity(nodes.len());
    let mut rules = Vec::with_capacity(nodes.len());
    for node in nodes {
        let (device, rule) = node_and_rule(node, &own, stat)?;
        devices.push(device);
        rules.extend(rule);
    }
    let there = list(config, &["linux", "devices"])?;
    replace_by(there, devices, "path");
    if rules.is_empty() {
        return Ok(());
    }
    let there = list(config, &["linux", "resources", "devices"])?;
    let mut seen: HashSet<Rule> = there.iter().filter_map(Rule::of).collect();
    let is_new = |rule: &Value| Rule::of(rule).is_none_or(|r| seen.insert(r));
    there.extend(rules.into_iter().filter(is_new));
    Ok(())
}

/// Puts these at the end, in place of those that say the same for `key`; of several of one,
/// the last.
fn replace_by(there: &mut Vec<Value>, made: Vec<Value>, key: &str) {
    let of = |value: &Value| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut names = HashSet::new();
    let mut last: Vec<Value> = made
        .into_iter()
        .rev()
        .filter(|value| of(value).is_none_or(|name| names.insert(name)))
        .collect();
    last.reverse();
    there.retain(|value| {
        let name = value.get(key).and_then(Value::as_str);
        name.is_none_or(|name| !names.contains(name))
    });
    there.extend(last);
}

/// A device rule that allows something, as far as two can be the same.
#[derive(PartialEq, Eq, Hash)]
struct Rule {
    kind: String,
    major: i64,
    minor: i64,
    access: String,
}

impl Rule {
    fn of(value: &Value) -> Option<Self> {
        let rule = value.as_object().filter(|r| r.len() == 5)?;
        let text = |key| Some(rule.get(key)?.as_str()?.to_owned());
        let number = |key| rule.get(key)?.as_i64();
        rule.get("allow")?.as_bool().filter(|allow| *allow)?;
        Some(Self {
            kind: text("type")?,
            major: number("major")?,
            minor: number("minor")?,
            access: text("access")?,
        })
    }
}

fn node_and_rule(
    node: &DeviceNode,
    own: &Own,
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(Value, Option<Value>), Error> {
    let host = node.host_path.as_deref().unwrap_or(&node.path);
    let failed = |why: String| Error::Node {
        path: host.to_owned(),
        why,
    };
    let (kind, major, minor, found) = match (&node.kind, node.major, node.minor) {
        (Some(kind), _, _) if kind == "p" => (kind.clone(), 0, 0, None),
        (Some(kind), Some(major), Some(minor)) => (kind.clone(), major, minor, None),
        _ => {
            let found = stat(host).map_err(|e| failed(e.to_string()))?;
            let kind = node.kind.clone().unwrap_or(found.kind.to_string());
            if !(kind.starts_with(found.kind) || kind == "u" && found.kind == 'c') {
                return Err(failed(format!("is of type {}, not {kind}", found.kind)));
            }
            (kind, found.major, found.minor, Some(found))
        }
    };
    let mut device = Map::new();
    device.insert("path".into(), json!(node.path.to_string_lossy()));
    device.insert("type".into(), json!(kind));
    device.insert("major".into(), json!(major));
    device.insert("minor".into(), json!(minor));
    let mode = node.file_mode.or(found.as_ref().map(|f| f.mode));
    if let Some(mode) = mode {
        device.insert("fileMode".into(), json!(mode));
    }
    let owner = |given: Option<u32>, own: Option<u64>, found: Option<u32>| {
        given.map(u64::from).or(own).or(found.map(u64::from))
    };
    if let Some(uid) = owner(node.uid, own.uid, found.as_ref().map(|f| f.uid)) {
        device.insert("uid".into(), json!(uid));
    }
    if let Some(gid) = owner(node.gid, own.gid, found.as_ref().map(|f| f.gid)) {
        device.insert("gid".into(), json!(gid));
    }
    let device = Value::Object(device);
    if kind == "p" {
        return Ok((device, None));
    }
    let rule = json!({
        "allow": true,
        "type": if kind == "u" { "c" } else { kind.as_str() },
        "major": major,
        "minor": minor,
        "access": node.permissions.as_deref().filter(|p| !p.is_empty()).unwrap_or("rwm"),
    });
    Ok((device, Some(rule)))
}

fn add_mounts(config: &mut Value, edits: &ContainerEdits) -> Result<(), Error> {
    let mounts = list(config, &["mounts"])?;
    let made = edits.mounts.iter().map(|mount| {
        let mut options = mount.options.clone();
        if !options.iter().any(|o| o == "bind" || o == "rbind") {
            options.push("bind".into());
        }
        json!({
            "destination": mount.container_path.to_string_lossy(),
            "type": mount.kind.as_deref().unwrap_or("bind"),
            "source": mount.host_path.to_string_lossy(),
            "options": options,
        })
    });
    replace_by(mounts, made.collect(), "destination");
    // A mount must come after those it lies in; equal depths keep their order.
    mounts.sort_by_cached_key(|m| {
        let target = m.get("destination").and_then(Value::as_str);
        Path::new(target.unwrap_or_default()).components().count()
    });
    Ok(())
}

fn add_hook(config: &mut Value, hook: &Hook) -> Result<(), Error> {
    let mut entry = Map::new();
    entry.insert("path".into(), json!(hook.path.to_string_lossy()));
    if !hook.args.is_empty() {
        entry.insert("args".into(), json!(hook.args));
    }
    if !hook.env.is_empty() {
        entry.insert("env".into(), json!(hook.env));
    }
    if let Some(timeout) = hook.timeout {
        entry.insert("timeout".into(), json!(timeout));
    }
    let entry = Value::Object(entry);
    let hooks = list(config, &["hooks", &hook.hook_name])?;
    if !hooks.contains(&entry) {
        hooks.push(entry);
    }
    Ok(())
}

fn set_rdt(config: &mut Value, rdt: &IntelRdt) -> Result<(), Error> {
    let target = object(config, &["linux", "intelRdt"])?;
    let text = [
        ("closID", &rdt.clos_id),
        ("l3CacheSchema", &rdt.l3_cache_schema),
        ("memBwSchema", &rdt.mem_bw_schema),
    ];
    for (key, value) in text {
        if let Some(value) = value {
            target.insert(key.into(), json!(value));
        }
    }
    for (key, value) in [("enableCMT", rdt.enable_cmt), ("enableMBM", rdt.enable_mbm)] {
        if let Some(value) = value {
            target.insert(key.into(), json!(value));
        }
    }
    Ok(())
}

fn object<'a>(config: &'a mut Value, keys: &[&str]) -> Result<&'a mut Map<String, Value>, Error> {
    let mut at = config;
    for key in keys {
        at = at
            .as_object_mut()
            .ok_or(Error::Config("an object"))?
            .entry(*key)
            .or_insert(Value::Null);
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    at.as_object_mut().ok_or(Error::Config("an object"))
}

fn list<'a>(config: &'a mut Value, keys: &[&str]) -> Result<&'a mut Vec<Value>, Error> {
    let (last, parents) = keys.split_last().ok_or(Error::Config("a list"))?;
    let value = object(config, parents)?.entry(*last).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().ok_or(Error::Config("a list"))
}
