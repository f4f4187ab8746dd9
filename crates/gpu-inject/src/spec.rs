//! Edits carried out in an OCI config, and written down as CDI edits.

use std::io;
use std::path::Path;

use cdi::{ContainerEdits, DeviceNode, Document, Hook, KnownNode, Mount as CdiMount, NodeStat};
use gpu_host::{Link, Need};
use serde_json::Value;

use crate::edits::{CudaCompat, Edits, Library, Mount, MountKind, Mounted};
use crate::error::{Error, Excerpt};
use crate::request::Arrangement;

/// Set for our hook, so that the binary knows it is one whatever it is called.
pub const HOOK_ENV: &str = "GPU_CONTAINER_HOOK=1";

/// No mknod: a container has no use for it, and it is one more thing it cannot do.
const ACCESS: &str = "rw";

/// How a CDI form of edits is meant to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// With device numbers: no look at the host is needed.
    Numbered,
    /// By path: whoever applies it looks at the host then.
    ByPath,
}

/// Who mounts the driver's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounter {
    /// The low-level runtime, as config.json says.
    Runtime,
    /// Our hook, all of them in one process: `live::mount_here`.
    Hook,
}

/// Before where the root file system is, as config.json says it: our hook then need not read that
/// file, which may not be its to read.
pub const ROOTFS_FLAG: &str = "--rootfs";

/// That /dev is a tmpfs of the container's own ([`Arrangement::own_dev`]).
pub const OWN_DEV_FLAG: &str = "--own-dev";

/// That no mount of the container is shared ([`Arrangement::no_shared_mounts`]).
pub const NO_SHARED_FLAG: &str = "--no-shared-mounts";

/// What our hook is told of config.json, besides what it is to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToldToHook<'a> {
    /// `root.path`.
    pub rootfs: Option<&'a str>,
    /// What it says about mounts.
    pub arrangement: Arrangement,
}

impl<'a> ToldToHook<'a> {
    fn arguments(self) -> impl Iterator<Item = &'a str> {
        let Arrangement {
            own_dev,
            no_shared_mounts,
        } = self.arrangement;
        let rootfs = self.rootfs.into_iter().flat_map(|path| [ROOTFS_FLAG, path]);
        rootfs
            .chain(own_dev.then_some(OWN_DEV_FLAG))
            .chain(no_shared_mounts.then_some(NO_SHARED_FLAG))
    }
}

/// Carries `edits` out in `config`; `hook` is our hook's program on the host. The config may be half edited where an
/// error comes back.
pub fn apply(
    config: &mut Document<'_>,
    edits: &Edits,
    hook: &Path,
    mounter: Mounter,
    told: ToldToHook<'_>,
) -> Result<(), Error> {
    let mut made = without_nodes(edits, hook, mounter);
    for hook in &mut made.hooks {
        hook.args.extend(told.arguments().map(str::to_owned));
    }
    cdi::apply(config, &made, &no_look)?;
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

/// The same for a config that was taken apart already; on an error it is as before.
pub fn apply_to_value(config: &mut Value, edits: &Edits, hook: &Path) -> Result<(), Error> {
    let edits = to_cdi(edits, hook, Nodes::Numbered);
    Ok(cdi::apply_to_value(config, &[&edits], &no_look)?)
}

/// All nodes have numbers.
fn no_look(_: &Path) -> io::Result<NodeStat> {
    Err(io::ErrorKind::NotFound.into())
}

/// The same edits as CDI says them.
pub fn to_cdi(edits: &Edits, hook: &Path, nodes: Nodes) -> ContainerEdits {
    ContainerEdits {
        device_nodes: edits.devices.iter().map(|d| node(d, nodes)).collect(),
        ..without_nodes(edits, hook, Mounter::Runtime)
    }
}

fn without_nodes(edits: &Edits, hook: &Path, mounter: Mounter) -> ContainerEdits {
    let mut args = Vec::new();
    let mut mounts = Vec::new();
    for one in &edits.mounts {
        // An engine and a runtime fail where they cannot reach it; our hook starts without.
        if mounter == Mounter::Hook || one.need == Need::OptionalAndClosed {
            args.extend(mount_arguments(one));
        } else {
            mounts.push(mount(one));
            args.extend(mounted_arguments(one, edits).into_iter().flatten());
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

fn node(node: &gpu_host::DeviceNode, form: Nodes) -> DeviceNode {
    let mut made = DeviceNode {
        path: node.path.clone(),
        host_path: (node.host_path != node.path).then(|| node.host_path.clone()),
        permissions: Some(ACCESS.into()),
        ..DeviceNode::default()
    };
    if form == Nodes::Numbered {
        made.kind = Some("c".into());
        made.major = Some(node.major.into());
        made.minor = Some(node.minor.into());
        made.file_mode = Some(node.mode);
        made.uid = Some(node.uid);
        made.gid = Some(node.gid);
    }
    made
}

fn mount(mount: &Mount) -> CdiMount {
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

/// One hook for everything that mounts and nodes cannot say; none where that is nothing.
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

const MOUNT: &str = "--mount";
const OPTIONAL_MOUNT: &str = "--mount-if-reached";

/// A mount as our hook is told of it.
fn mount_arguments(mount: &Mount) -> [String; 4] {
    let flag = match mount.need {
        Need::Required => MOUNT,
        Need::Optional | Need::OptionalAndClosed => OPTIONAL_MOUNT,
    };
    [
        flag.to_owned(),
        word(mount.kind).to_owned(),
        mount.host_path.to_string_lossy().into_owned(),
        mount.path.to_string_lossy().into_owned(),
    ]
}

/// The same of one that the runtime makes: the hook looks where it went. Of a library that the
/// host has by the same name `--library` says enough.
fn mounted_arguments(mount: &Mount, edits: &Edits) -> Option<[String; 3]> {
    let is_told = mount.host_path == mount.path
        && edits
            .libraries
            .iter()
            .any(|l| l.path.as_os_str() == mount.path.as_os_str());
    (!is_told).then(|| {
        [
            "--mounted".to_owned(),
            mount.host_path.to_string_lossy().into_owned(),
            mount.path.to_string_lossy().into_owned(),
        ]
    })
}

fn word(kind: MountKind) -> &'static str {
    match kind {
        MountKind::File => "file",
        MountKind::Config => "config",
        MountKind::Socket => "socket",
        MountKind::Proc => "proc",
    }
}

/// What our hook is told of the rest, in the words that [`read_arguments`] reads.
fn arguments(edits: &Edits) -> Vec<String> {
    let mut args = Vec::new();
    let mut add = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
    for library in &edits.libraries {
        let flag = if library.compat32 {
            "--library32"
        } else {
            "--library"
        };
        add(flag, pair(&library.path, &library.soname));
    }
    for (flag, links) in [
        ("--link", &edits.links),
        ("--link-by-node", &edits.links_by_nodes),
    ] {
        for link in links {
            add(flag, pair(&link.path, &link.target.to_string_lossy()));
        }
    }
    // Both are nothing by themselves: they go with libraries and with GPUs.
    if let Some(compat) = &edits.cuda_compat {
        let cuda = compat
            .cuda
            .map(|(major, minor)| format!(",{major}.{minor}"));
        add(
            "--cuda-compat",
            format!("{}{}", compat.driver, cuda.unwrap_or_default()),
        );
        if let Some(root) = &compat.root {
            add("--cuda-compat-root", root.display().to_string());
        }
    }
    match edits.egl_devices {
        Some(mask) => add("--egl-devices", format!("{mask:#x}")),
        None if edits.egl_devices_by_nodes => add("--egl-devices", BY_NODES.into()),
        None => {}
    }
    if edits.forbid_device_node_creation {
        args.push("--forbid-device-nodes".into());
    }
    args
}

/// `format!` takes several times as long, and there are hundreds.
fn pair(path: &Path, value: &str) -> String {
    [&path.to_string_lossy(), "=", value].concat()
}

/// In place of a mask: look at the container's nodes.
const BY_NODES: &str = "nodes";

/// The part of edits that our hook carries out, from its arguments.
pub fn read_arguments(args: &[String]) -> Result<Edits, Error> {
    let mut edits = Edits::default();
    let mut args = args.iter().map(String::as_str);
    while let Some(flag) = args.next() {
        if flag == "--forbid-device-nodes" {
            edits.forbid_device_node_creation = true;
            continue;
        }
        let bad = |wanted: &str| {
            Error::State(format!("gpu-container-hook: {flag} needs {wanted}").into())
        };
        if flag == MOUNT || flag == OPTIONAL_MOUNT {
            let told = [args.next(), args.next(), args.next()];
            let need = if flag == MOUNT {
                Need::Required
            } else {
                Need::Optional
            };
            let mount = read_mount(told, need).ok_or_else(|| bad("KIND /HOST /PATH"))?;
            edits.mounts.push(mount);
            continue;
        }
        if flag == "--mounted" {
            let told = [args.next(), args.next()];
            let told = told.map(|path| path.filter(|p| p.starts_with('/')));
            let [Some(host), Some(path)] = told else {
                return Err(bad("/HOST /PATH"));
            };
            edits.mounted.push(Mounted {
                host_path: host.into(),
                path: path.into(),
            });
            continue;
        }
        let value = args.next().filter(|v| !v.is_empty());
        let pair = || {
            value
                .and_then(|v| v.split_once('='))
                .filter(|(path, value)| path.starts_with('/') && !value.is_empty())
                .ok_or_else(|| bad("/PATH=VALUE"))
        };
        match flag {
            "--library" | "--library32" => {
                let (path, soname) = pair()?;
                edits.libraries.push(Library {
                    path: path.into(),
                    soname: soname.into(),
                    compat32: flag == "--library32",
                });
            }
            "--link" | "--link-by-node" => {
                let (path, target) = pair()?;
                let links = if flag == "--link" {
                    &mut edits.links
                } else {
                    &mut edits.links_by_nodes
                };
                links.push(Link {
                    path: path.into(),
                    target: target.into(),
                });
            }
            "--cuda-compat" => {
                let value = value.ok_or_else(|| bad("DRIVER[,CUDA]"))?;
                let (driver, cuda) = value.split_once(',').unwrap_or((value, ""));
                let cuda = (!cuda.is_empty())
                    .then(|| version_pair(cuda).ok_or_else(|| bad("DRIVER[,CUDA]")))
                    .transpose()?;
                edits.cuda_compat = Some(CudaCompat {
                    driver: driver.into(),
                    cuda,
                    root: None,
                });
            }
            "--cuda-compat-root" => {
                let root = value.filter(|v| v.starts_with('/'));
                let root = root.ok_or_else(|| bad("/DIRECTORY"))?;
                let compat = edits.cuda_compat.as_mut();
                compat.ok_or_else(|| bad("--cuda-compat before it"))?.root = Some(root.into());
            }
            "--egl-devices" => match value {
                Some(BY_NODES) => edits.egl_devices_by_nodes = true,
                mask => {
                    let mask = mask.and_then(|m| m.strip_prefix("0x"));
                    let mask = mask.and_then(|m| u64::from_str_radix(m, 16).ok());
                    edits.egl_devices = Some(mask.ok_or_else(|| bad("0xMASK or nodes"))?);
                }
            },
            _ => {
                let why = format!(
                    "gpu-container-hook: unknown flag {:?}; was the CDI spec made by another version? \
                     `gpusetup cdi refresh` makes it anew",
                    Excerpt::of(flag)
                );
                return Err(Error::State(why.into()));
            }
        }
    }
    Ok(edits)
}

fn read_mount(told: [Option<&str>; 3], need: Need) -> Option<Mount> {
    let [kind, host, path] = told;
    let kinds = [
        MountKind::File,
        MountKind::Config,
        MountKind::Socket,
        MountKind::Proc,
    ];
    let is_path = |path: &&str| path.starts_with('/');
    Some(Mount {
        kind: kinds.into_iter().find(|k| kind == Some(word(*k)))?,
        host_path: host.filter(is_path)?.into(),
        path: path.filter(is_path)?.into(),
        need,
    })
}

/// `12.4` as numbers.
pub fn version_pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
    fn the_hook_reads_what_it_is_told() {
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
            assert_eq!(read_arguments(&arguments(&edits)).unwrap(), edits);
        }
        let made = hooks(Path::new("/hook"), arguments(&full()));
        assert_eq!(made[0].args[..2], ["gpu-container-hook", "cdi"]);
        assert!(made[0].args.iter().any(|a| a == "580.65.06,13.0"));
        assert!(made[0].args.iter().any(|a| a == "0x5"));
        assert!(hooks(Path::new("/hook"), Vec::new()).is_empty());
    }

    #[test]
    fn mounts_are_the_runtimes_or_the_hooks() {
        let mount = |kind, host: &str| Mount {
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
            let mut config = Document::parse(b"{}").unwrap();
            let told = ToldToHook::default();
            apply(&mut config, &edits, Path::new("/hook"), mounter, told).unwrap();
            config.get(&[]).unwrap()
        };
        let told = |config: &Value| {
            let args = config["hooks"]["createContainer"][0]["args"].clone();
            let args: Vec<String> = serde_json::from_value(args).unwrap();
            read_arguments(&args[2..]).unwrap()
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
        assert_eq!(told(&by_runtime), with_mounted);
        let by_hook = applied(Mounter::Hook);
        assert!(by_hook.get("mounts").is_none());
        // Neither is the hook's to do.
        let told = Edits {
            devices: edits.devices.clone(),
            additional_gids: edits.additional_gids.clone(),
            ..told(&by_hook)
        };
        assert_eq!(told, edits);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "--library",
            "--library a=b",
            "--link /a",
            "--odd /a=b",
            "--mount",
            "--mount file /a",
            "--mount file /a b",
            "--mount device /a /b",
            "--mounted /a",
            "--mounted /a b",
            "--cuda-compat",
            "--cuda-compat 580,x",
            "--cuda-compat-root /x",
            "--egl-devices 5",
            "--egl-devices",
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert!(read_arguments(&args).is_err(), "{line}");
        }
    }
}
