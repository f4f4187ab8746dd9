//! Edits applied to an OCI config, on the JSON itself so that no key we do not
//! know is lost.

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
    for node in &edits.device_nodes {
        add_node(config, node, stat)?;
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

fn add_node(
    config: &mut Value,
    node: &DeviceNode,
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(), Error> {
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
    let path = node.path.to_string_lossy();
    let mut device = Map::new();
    device.insert("path".into(), json!(path));
    device.insert("type".into(), json!(kind));
    device.insert("major".into(), json!(major));
    device.insert("minor".into(), json!(minor));
    let mode = node.file_mode.or(found.as_ref().map(|f| f.mode));
    let owner = |given: Option<u32>, found: Option<u32>, key: &str, config: &Value| {
        // A process that is not root must be able to open it: the reference
        // implementation takes the process's own ids where the spec has none.
        let own = config
            .pointer(&format!("/process/user/{key}"))
            .and_then(Value::as_u64);
        given
            .map(u64::from)
            .or(own.filter(|id| *id > 0))
            .or(found.map(u64::from))
    };
    if let Some(mode) = mode {
        device.insert("fileMode".into(), json!(mode));
    }
    let uid = owner(node.uid, found.as_ref().map(|f| f.uid), "uid", config);
    let gid = owner(node.gid, found.as_ref().map(|f| f.gid), "gid", config);
    if let Some(uid) = uid {
        device.insert("uid".into(), json!(uid));
    }
    if let Some(gid) = gid {
        device.insert("gid".into(), json!(gid));
    }
    let devices = list(config, &["linux", "devices"])?;
    devices.retain(|d| d.get("path").and_then(Value::as_str) != Some(&path));
    devices.push(Value::Object(device));
    if kind == "p" {
        return Ok(());
    }
    let rule = json!({
        "allow": true,
        "type": if kind == "u" { "c" } else { kind.as_str() },
        "major": major,
        "minor": minor,
        "access": node.permissions.as_deref().filter(|p| !p.is_empty()).unwrap_or("rwm"),
    });
    let rules = list(config, &["linux", "resources", "devices"])?;
    if !rules.contains(&rule) {
        rules.push(rule);
    }
    Ok(())
}

fn add_mounts(config: &mut Value, edits: &ContainerEdits) -> Result<(), Error> {
    let mounts = list(config, &["mounts"])?;
    for mount in &edits.mounts {
        let target = mount.container_path.to_string_lossy();
        mounts.retain(|m| m.get("destination").and_then(Value::as_str) != Some(&target));
        let mut options = mount.options.clone();
        if !options.iter().any(|o| o == "bind" || o == "rbind") {
            options.push("bind".into());
        }
        mounts.push(json!({
            "destination": target,
            "type": mount.kind.as_deref().unwrap_or("bind"),
            "source": mount.host_path.to_string_lossy(),
            "options": options,
        }));
    }
    // A mount must come after those it lies in; equal depths keep their order.
    mounts.sort_by_key(|m| {
        let target = m
            .get("destination")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Path::new(target).components().count()
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
