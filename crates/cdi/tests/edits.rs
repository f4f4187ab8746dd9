//! Each kind of container edit alone: device nodes, their cgroup rules and owners, variables, mounts, hooks, groups, and the
//! order of the results.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::io;
use std::path::Path;

use cdi::{
    ContainerEdits, DeviceNode, Error, Hook, IntelRdt, KnownNode, Mount, NodeStat, apply_to_value,
};
use serde_json::{Value, json};

fn nothing(_: &Path) -> io::Result<NodeStat> {
    Err(io::ErrorKind::NotFound.into())
}

/// The `stat` of a block device that belongs to a user.
fn disk(path: &Path) -> io::Result<NodeStat> {
    if path != Path::new("/dev/x") {
        return nothing(path);
    }
    Ok(NodeStat {
        kind: 'b',
        major: 8,
        minor: 1,
        mode: 0o640,
        uid: 7,
        gid: 8,
    })
}

fn gpu(path: &Path) -> io::Result<NodeStat> {
    disk(path).map(|found| NodeStat { kind: 'c', ..found })
}

fn node(
    kind: Option<&str>,
    numbers: Option<(i64, i64)>,
    permissions: Option<&str>,
) -> ContainerEdits {
    ContainerEdits {
        device_nodes: vec![DeviceNode {
            path: "/dev/x".into(),
            kind: kind.map(str::to_owned),
            major: numbers.map(|n| n.0),
            minor: numbers.map(|n| n.1),
            permissions: permissions.map(str::to_owned),
            ..DeviceNode::default()
        }],
        ..ContainerEdits::default()
    }
}

/// The config's device and rule after the edits.
fn one(
    mut config: Value,
    edits: &ContainerEdits,
    stat: &dyn Fn(&Path) -> io::Result<NodeStat>,
) -> Result<(Value, Value), Error> {
    apply_to_value(&mut config, &[edits], stat)?;
    let rules = &config["linux"]["resources"]["devices"];
    Ok((config["linux"]["devices"][0].clone(), rules[0].clone()))
}

#[test]
fn a_nodes_fields_come_from_the_spec_or_else_from_the_host() {
    let from_host = json!({"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o640, "uid": 7, "gid": 8});
    let rule = json!({"allow": true, "type": "b", "major": 8, "minor": 1, "access": "rwm"});
    assert_eq!(
        one(json!({}), &node(None, None, None), &disk).unwrap(),
        (from_host.clone(), rule.clone())
    );
    // A major number without a minor number is ignored.
    let mut half = node(Some("b"), Some((9, 9)), Some(""));
    half.device_nodes[0].minor = None;
    assert_eq!(one(json!({}), &half, &disk).unwrap(), (from_host, rule));

    // The spec gives every field, so the host, which may lack the device, is not consulted.
    let whole_node = node(Some("c"), Some((195, 0)), Some("r"));
    let (device, rule) = one(json!({}), &whole_node, &nothing).unwrap();
    assert_eq!(
        device,
        json!({"path": "/dev/x", "type": "c", "major": 195, "minor": 0})
    );
    assert_eq!(
        rule,
        json!({"allow": true, "type": "c", "major": 195, "minor": 0, "access": "r"})
    );

    // To the device cgroup an unbuffered character device is of type `c`.
    let (device, rule) = one(json!({}), &node(Some("u"), None, None), &gpu).unwrap();
    assert_eq!((&device["type"], &rule["type"]), (&json!("u"), &json!("c")));

    // A FIFO has neither device numbers nor a cgroup rule.
    let (device, rule) = one(json!({}), &node(Some("p"), None, None), &nothing).unwrap();
    assert_eq!(
        device,
        json!({"path": "/dev/x", "type": "p", "major": 0, "minor": 0})
    );
    assert_eq!(rule, Value::Null);
}

#[test]
fn a_device_type_that_differs_from_the_hosts_is_refused() {
    for kind in ["c", "u"] {
        let wrong = one(json!({}), &node(Some(kind), None, None), &disk);
        assert!(matches!(wrong, Err(Error::Node { .. })), "{kind}");
    }
    assert!(matches!(
        one(json!({}), &node(Some("b"), None, None), &gpu),
        Err(Error::Node { .. })
    ));
}

#[test]
fn a_node_belongs_to_the_process_user_unless_that_is_root() {
    let ids = |config: Value, edits: &ContainerEdits| {
        let (device, _) = one(config, edits, &gpu).unwrap();
        (device["uid"].clone(), device["gid"].clone())
    };
    let user = |uid: u32, gid: u32| json!({"process": {"user": {"uid": uid, "gid": gid}}});
    let plain = node(None, None, None);
    assert_eq!(ids(user(0, 0), &plain), (json!(7), json!(8)));
    assert_eq!(ids(user(1, 1), &plain), (json!(1), json!(1)));
    assert_eq!(ids(user(1000, 0), &plain), (json!(1000), json!(8)));
    let mut with_owner = plain;
    with_owner.device_nodes[0].uid = Some(0);
    assert_eq!(ids(user(1000, 1000), &with_owner), (json!(0), json!(1000)));
}

#[test]
fn a_rule_is_added_once_and_a_deny_rule_does_not_count() {
    let there = json!({"linux": {"resources": {"devices": [
        {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "rwm"},
        {"allow": false, "access": "rwm"},
    ]}}});
    let edits = node(None, None, None);
    let mut config = there.clone();
    apply_to_value(&mut config, &[&edits, &edits], &disk).unwrap();
    let rules = config["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules.len(), 3, "{rules:?}");
    assert_eq!(rules[2]["allow"], json!(true));
    assert_eq!(config["linux"]["devices"].as_array().unwrap().len(), 1);
    // The same device with other access is a different rule.
    apply_to_value(&mut config, &[&node(None, None, Some("r"))], &disk).unwrap();
    assert_eq!(
        config["linux"]["resources"]["devices"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn known_nodes_are_those_a_spec_would_give() {
    let known = KnownNode {
        path: Path::new("/dev/x"),
        major: 195,
        minor: 3,
        mode: 0o666,
        uid: 0,
        gid: 44,
        access: "rw",
    };
    let mut same = node(Some("c"), Some((195, 3)), Some("rw"));
    same.device_nodes[0].file_mode = Some(0o666);
    same.device_nodes[0].uid = Some(0);
    same.device_nodes[0].gid = Some(44);
    let mut expected = json!({"process": {"user": {"uid": 5}}});
    let text = expected.to_string();
    apply_to_value(&mut expected, &[&same], &nothing).unwrap();
    let mut document = cdi::LazyJson::parse(text.as_bytes()).unwrap();
    cdi::add_known_nodes(&mut document, std::iter::once(known)).unwrap();
    assert_eq!(document.get::<Value>(&[]).unwrap(), expected);
    let mut untouched = cdi::LazyJson::parse(text.as_bytes()).unwrap();
    cdi::add_known_nodes(&mut untouched, std::iter::empty()).unwrap();
    assert_eq!(untouched.text(), text);
}

#[test]
fn a_variable_replaces_only_the_one_with_exactly_its_name() {
    let mut config = json!({"process": {"env": ["AB=1", "A=1", "A"]}});
    let edits = ContainerEdits {
        env: vec!["A=2=3".into(), "B=".into()],
        ..ContainerEdits::default()
    };
    apply_to_value(&mut config, &[&edits], &nothing).unwrap();
    assert_eq!(
        config["process"]["env"],
        json!(["AB=1", "A=2=3", "A", "B="])
    );
}

#[test]
fn a_mount_follows_its_parent_and_replaces_one_at_the_same_destination() {
    let mount = |to: &str, options: &[&str], kind: Option<&str>| Mount {
        host_path: "/h".into(),
        container_path: to.into(),
        options: options.iter().map(ToString::to_string).collect(),
        kind: kind.map(str::to_owned),
    };
    let edits = ContainerEdits {
        mounts: vec![
            mount("/usr/lib/a", &["ro"], None),
            mount("/run", &["rbind"], Some("none")),
            mount("/old", &["bind", "rw"], None),
        ],
        ..ContainerEdits::default()
    };
    let mut config = json!({"mounts": [
        {"destination": "/old", "source": "/theirs"}, {"destination": "/a/b/c/d"}, {"destination": "/usr/lib"},
    ]});
    apply_to_value(&mut config, &[&edits], &nothing).unwrap();
    let mounts = config["mounts"].as_array().unwrap();
    let places: Vec<_> = mounts
        .iter()
        .map(|m| m["destination"].as_str().unwrap())
        .collect();
    assert_eq!(
        places,
        ["/run", "/old", "/usr/lib", "/usr/lib/a", "/a/b/c/d"]
    );
    assert_eq!(
        mounts[0],
        json!({"destination": "/run", "type": "none", "source": "/h", "options": ["rbind"]})
    );
    assert_eq!(
        mounts[1],
        json!({"destination": "/old", "type": "bind", "source": "/h", "options": ["bind", "rw"]})
    );
    assert_eq!(mounts[3]["options"], json!(["ro", "bind"]));
}

#[test]
fn a_hook_is_added_once_and_a_different_one_is_kept() {
    let hook = |args: &[&str]| ContainerEdits {
        hooks: vec![Hook {
            hook_name: "createContainer".into(),
            path: "/h".into(),
            args: args.iter().map(ToString::to_string).collect(),
            timeout: Some(5),
            ..Hook::default()
        }],
        ..ContainerEdits::default()
    };
    let mut config = json!({});
    apply_to_value(
        &mut config,
        &[&hook(&["a"]), &hook(&["b"]), &hook(&["a"])],
        &nothing,
    )
    .unwrap();
    let entry = |arg: &str| json!({"path": "/h", "args": [arg], "timeout": 5});
    assert_eq!(
        config["hooks"],
        json!({"createContainer": [entry("a"), entry("b")]})
    );
}

#[test]
fn groups_and_rdt_are_added_but_never_group_root() {
    let edits = ContainerEdits {
        additional_gids: vec![0, 44, 5, 44],
        intel_rdt: Some(IntelRdt {
            clos_id: Some("c".into()),
            l3_cache_schema: Some("L3:0=f".into()),
            enable_cmt: Some(false),
            ..IntelRdt::default()
        }),
        ..ContainerEdits::default()
    };
    let mut config = json!({"process": {"user": {"additionalGids": [5]}}, "linux": {"intelRdt": {"memBwSchema": "MB:0=20"}}});
    apply_to_value(&mut config, &[&edits], &nothing).unwrap();
    assert_eq!(config["process"]["user"]["additionalGids"], json!([5, 44]));
    assert_eq!(
        config["linux"]["intelRdt"],
        json!({"memBwSchema": "MB:0=20", "closID": "c", "l3CacheSchema": "L3:0=f", "enableCMT": false})
    );
}

#[test]
fn empty_edits_change_nothing() {
    let is_host_read = Cell::new(false);
    let stat = |path: &Path| {
        is_host_read.set(true);
        nothing(path)
    };
    let mut config = json!({"a": 1});
    apply_to_value(&mut config, &[&ContainerEdits::default()], &stat).unwrap();
    assert_eq!((config, is_host_read.get()), (json!({"a": 1}), false));
    assert!(ContainerEdits::default().is_empty() && !node(None, None, None).is_empty());
}
