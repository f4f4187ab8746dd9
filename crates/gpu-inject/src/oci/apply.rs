//! Applies edits to an OCI config, and converts them to CDI edits.

use std::io;
use std::path::Path;

use cdi::{ContainerEdits, DeviceNode, Hook, KnownNode, LazyJson, Mount as CdiMount, NodeStat};
use gpu_host::Need;
use serde_json::Value;

use super::hook_args::{ConfigFacts, arguments, mount_arguments, mounted_arguments};
use crate::edits::{BindMount, Edits, MountKind};
use crate::error::Error;

/// Environment variable of our hook, by which the program knows that it runs as the hook, whatever its name.
pub const HOOK_ENV: &str = "GPU_CONTAINER_HOOK=1";

/// Device access in cgroup rules. Without `m`, because a container has no need to make nodes.
const ACCESS: &str = "rw";

/// How device nodes are given in CDI edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeForm {
    /// With device numbers. The host's node is not needed to apply them.
    Numbered,
    /// By path. The program that applies them reads the numbers from the host's node.
    ByPath,
}

/// Who mounts the driver's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounter {
    /// The low-level runtime, from the mounts in config.json.
    Runtime,
    /// Our hook, with `live::mount_here`.
    Hook,
}

/// Applies `edits` to `config`. `hook` is the path of our hook's program on the host. After an
/// error the config may be edited in part.
pub fn apply(
    config: &mut LazyJson<'_>,
    edits: &Edits,
    hook: &Path,
    mounter: Mounter,
    config_facts: ConfigFacts<'_>,
) -> Result<(), Error> {
    let mut cdi_edits = without_nodes(edits, hook, mounter);
    for hook in &mut cdi_edits.hooks {
        hook.args
            .extend(config_facts.arguments().map(str::to_owned));
    }
    cdi::apply(config, &cdi_edits, &no_stat)?;
    let nodes = edits.devices.iter().map(|node| KnownNode {
        path: &node.path,
        major: node.major,
        minor: node.minor,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        access: ACCESS,
    });
    Ok(cdi::add_known_nodes(config, nodes)?)
}

/// Applies `edits` to a config that is parsed already. After an error the config is unchanged.
pub fn apply_to_value(config: &mut Value, edits: &Edits, hook: &Path) -> Result<(), Error> {
    let edits = to_cdi(edits, hook, NodeForm::Numbered);
    Ok(cdi::apply_to_value(config, &[&edits], &no_stat)?)
}

/// Never called, since all nodes have numbers.
fn no_stat(_: &Path) -> io::Result<NodeStat> {
    Err(io::ErrorKind::NotFound.into())
}

/// Converts edits to CDI edits.
pub fn to_cdi(edits: &Edits, hook: &Path, nodes: NodeForm) -> ContainerEdits {
    ContainerEdits {
        device_nodes: edits.devices.iter().map(|d| node(d, nodes)).collect(),
        ..without_nodes(edits, hook, Mounter::Runtime)
    }
}

fn without_nodes(edits: &Edits, hook: &Path, mounter: Mounter) -> ContainerEdits {
    let mut args = Vec::new();
    let mut mounts = Vec::new();
    for one in &edits.mounts {
        // An engine or a runtime would fail if it cannot be reached; our hook continues without it.
        if mounter == Mounter::Hook || one.need == Need::OptionalAndClosed {
            args.extend(mount_arguments(one));
        } else {
            mounts.push(mount(one));
            args.extend(mounted_arguments(one, edits));
        }
    }
    args.extend(arguments(edits));
    ContainerEdits {
        env: edits.env.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        hooks: hooks(hook, args),
        mounts,
        additional_gids: edits.additional_gids.clone(),
        ..ContainerEdits::default()
    }
}

fn node(node: &gpu_host::DeviceNode, form: NodeForm) -> DeviceNode {
    let mut cdi_node = DeviceNode {
        path: node.path.clone(),
        host_path: (node.host_path != node.path).then(|| node.host_path.clone()),
        permissions: Some(ACCESS.into()),
        ..DeviceNode::default()
    };
    if form == NodeForm::Numbered {
        cdi_node.kind = Some("c".into());
        cdi_node.major = Some(node.major.into());
        cdi_node.minor = Some(node.minor.into());
        cdi_node.file_mode = Some(node.mode);
        cdi_node.uid = Some(node.uid);
        cdi_node.gid = Some(node.gid);
    }
    cdi_node
}

fn mount(mount: &BindMount) -> CdiMount {
    let flags: &[&str] = match mount.kind {
        MountKind::File | MountKind::Config => &["ro", "nosuid", "nodev", "rbind", "rprivate"],
        MountKind::Socket => &["nosuid", "nodev", "noexec", "rbind", "rprivate"],
        MountKind::Proc => &["ro", "nosuid", "nodev", "noexec", "rbind", "rprivate"],
    };
    CdiMount {
        host_path: mount.host_path.clone(),
        container_path: mount.path.clone(),
        options: flags.iter().map(|f| (*f).to_owned()).collect(),
        kind: None,
    }
}

/// The hook that does what mounts and nodes cannot express; no hook if there is nothing to do.
fn hooks(hook: &Path, args: Vec<String>) -> Vec<Hook> {
    if args.is_empty() {
        return Vec::new();
    }
    let name = ["gpu-container-hook", "cdi"].map(str::to_owned);
    vec![Hook {
        hook_name: "createContainer".into(),
        path: hook.to_owned(),
        args: name.into_iter().chain(args).collect(),
        env: vec![HOOK_ENV.into()],
        timeout: None,
    }]
}

#[cfg(test)]
mod tests {
    use gpu_host::Link;
    use serde_json::json;

    use super::super::hook_args::read_arguments;
    use super::*;
    use crate::edits::{CudaCompat, Library, Mounted};

    fn full() -> Edits {
        let library = |path: &str, compat32| Library {
            path: path.into(),
            soname: "a.so.1".into(),
            compat32,
        };
        Edits {
            libraries: vec![library("/l/a.so.5", false), library("/m/a.so.5", true)],
            links: vec![Link {
                path: "/l/b".into(),
                target: "c=d".into(),
            }],
            links_by_nodes: vec![Link {
                path: "/dev/dri/by-path/pci-0".into(),
                target: "../card0".into(),
            }],
            forbid_device_node_creation: true,
            cuda_compat: Some(CudaCompat {
                driver: "580.65.06".into(),
                cuda: Some((13, 0)),
                root: Some("/compat".into()),
            }),
            egl_devices: Some(0b101),
            ..Edits::default()
        }
    }

    #[test]
    fn the_hooks_arguments_are_read_back_as_the_same_edits() {
        let by_nodes = Edits {
            egl_devices_by_nodes: true,
            cuda_compat: Some(CudaCompat {
                driver: "580".into(),
                cuda: None,
                root: None,
            }),
            ..Edits::default()
        };
        for edits in [full(), by_nodes, Edits::default()] {
            assert_eq!(read_arguments(arguments(&edits)).unwrap(), edits);
        }
        let cdi_hooks = hooks(Path::new("/hook"), arguments(&full()));
        assert_eq!(cdi_hooks[0].args[..2], ["gpu-container-hook", "cdi"]);
        assert!(cdi_hooks[0].args.iter().any(|a| a == "580.65.06,13.0"));
        assert!(cdi_hooks[0].args.iter().any(|a| a == "0x5"));
        assert!(hooks(Path::new("/hook"), Vec::new()).is_empty());
    }

    #[test]
    fn the_chosen_mounter_gets_the_mounts() {
        let mount = |kind, host: &str| BindMount {
            kind,
            host_path: host.into(),
            path: Path::new("/in").join(&host[1..]),
            need: Need::Required,
        };
        let edits = Edits {
            mounts: vec![
                mount(MountKind::File, "/driver/l/a=b.so"),
                mount(MountKind::Config, "/etc/a"),
                mount(MountKind::Socket, "/run/a"),
                mount(MountKind::Proc, "/proc/a"),
            ],
            devices: vec![gpu_host::DeviceNode {
                path: "/dev/nvidia0".into(),
                host_path: "/host/dev/nvidia0".into(),
                major: 195,
                minor: 7,
                mode: 0o660,
                uid: 0,
                gid: 44,
            }],
            additional_gids: vec![44],
            ..full()
        };
        let applied = |mounter| -> Value {
            let mut config = LazyJson::parse(b"{}").unwrap();
            let facts = ConfigFacts::default();
            apply(&mut config, &edits, Path::new("/hook"), mounter, facts).unwrap();
            config.get(&[]).unwrap()
        };
        let hook_edits = |config: &Value| {
            let args = config["hooks"]["createContainer"][0]["args"].clone();
            let args: Vec<String> = serde_json::from_value(args).unwrap();
            read_arguments(args[2..].to_vec()).unwrap()
        };
        let by_runtime = applied(Mounter::Runtime);
        let mut by_value = json!({});
        apply_to_value(&mut by_value, &edits, Path::new("/hook")).unwrap();
        assert_eq!(by_runtime, by_value);
        assert_eq!(by_runtime["mounts"].as_array().unwrap().len(), 4);
        let mounted = edits.mounts.iter().map(|m| Mounted {
            host_path: m.host_path.clone(),
            path: m.path.clone(),
        });
        let with_mounted = Edits {
            mounted: mounted.collect(),
            ..full()
        };
        assert_eq!(hook_edits(&by_runtime), with_mounted);
        let by_hook = applied(Mounter::Hook);
        assert!(by_hook.get("mounts").is_none());
        // The hook's arguments have neither of these two.
        let all_edits = Edits {
            devices: edits.devices.clone(),
            additional_gids: edits.additional_gids.clone(),
            ..hook_edits(&by_hook)
        };
        assert_eq!(all_edits, edits);
    }
}
