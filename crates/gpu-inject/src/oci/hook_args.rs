//! Writes and reads the arguments of our hook.

use std::path::Path;

use gpu_host::{Link, Need};

use super::arrangement::Arrangement;
use crate::edits::{CudaCompat, Edits, Library, Mount, MountKind, Mounted};
use crate::error::{Error, Excerpt};

/// Flag with `root.path` of config.json, so that our hook does not have to read that file, for
/// which it may lack permission.
pub const ROOTFS_FLAG: &str = "--rootfs";

/// Flag: /dev is a tmpfs of the container's own ([`Arrangement::own_dev`]).
pub const OWN_DEV_FLAG: &str = "--own-dev";

/// Flag: no mount of the container is shared ([`Arrangement::no_shared_mounts`]).
pub const NO_SHARED_FLAG: &str = "--no-shared-mounts";

/// Facts from config.json that our hook gets as arguments, besides its edits.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConfigFacts<'a> {
    /// `root.path`.
    pub rootfs: Option<&'a str>,
    /// Facts about the mounts.
    pub arrangement: Arrangement,
}

impl<'a> ConfigFacts<'a> {
    pub(super) fn arguments(self) -> impl Iterator<Item = &'a str> {
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

const MOUNT: &str = "--mount";
const OPTIONAL_MOUNT: &str = "--mount-if-reached";
const MOUNTED: &str = "--mounted";

/// Of these the flags with a path of the host's behind them, and how many words are between: for whoever moves a spec
/// to another root.
pub const HOST_PATH_BEHIND: &[(&str, usize)] = &[(MOUNTED, 0), (MOUNT, 1), (OPTIONAL_MOUNT, 1)];

/// The arguments for a mount that our hook makes.
pub(super) fn mount_arguments(mount: &Mount) -> [String; 4] {
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

/// The arguments for a mount that the runtime makes, so that the hook can check where it went.
/// `None` for a library at the same path on the host, because its `--library` is enough.
pub(super) fn mounted_arguments(mount: &Mount, edits: &Edits) -> Option<[String; 3]> {
    let is_in_library_args = mount.host_path == mount.path
        && edits
            .libraries
            .iter()
            .any(|l| l.path.as_os_str() == mount.path.as_os_str());
    (!is_in_library_args).then(|| {
        [
            MOUNTED.to_owned(),
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

/// The arguments for all other edits, in the form that [`read_arguments`] reads.
pub(super) fn arguments(edits: &Edits) -> Vec<String> {
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
    // These two are never the only arguments: they come with libraries and with GPUs.
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

/// Joins with `=`. `format!` takes several times as long, and there are hundreds of pairs.
fn pair(path: &Path, value: &str) -> String {
    [&path.to_string_lossy(), "=", value].concat()
}

/// Value of `--egl-devices` for computing the mask from the container's nodes.
const BY_NODES: &str = "nodes";

/// Reads the edits that our hook applies from its arguments.
pub fn read_arguments(args: &[String]) -> Result<Edits, Error> {
    let mut edits = Edits::default();
    let mut args = args.iter().map(String::as_str);
    while let Some(flag) = args.next() {
        if flag == "--forbid-device-nodes" {
            edits.forbid_device_node_creation = true;
            continue;
        }
        let bad =
            |usage: &str| Error::State(format!("gpu-container-hook: {flag} needs {usage}").into());
        if flag == MOUNT || flag == OPTIONAL_MOUNT {
            let values = [args.next(), args.next(), args.next()];
            let need = if flag == MOUNT {
                Need::Required
            } else {
                Need::Optional
            };
            let mount = read_mount(values, need).ok_or_else(|| bad("KIND /HOST /PATH"))?;
            edits.mounts.push(mount);
            continue;
        }
        if flag == MOUNTED {
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

fn read_mount(values: [Option<&str>; 3], need: Need) -> Option<Mount> {
    let [kind, host, path] = values;
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

/// Parses `12.4`, or `12` as 12.0.
pub fn version_pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever flag a mount is told by.
    #[test]
    fn of_a_moved_spec_the_hosts_paths_are_known_by_their_flags() {
        let mount = |need| Mount {
            kind: MountKind::File,
            host_path: "/driver/a".into(),
            path: "/driver/a".into(),
            need,
        };
        let needs = [Need::Required, Need::Optional, Need::OptionalAndClosed];
        let told = needs.map(|need| mount_arguments(&mount(need)).to_vec());
        let mounted = mounted_arguments(&mount(Need::Required), &Edits::default());
        for args in told.into_iter().chain(mounted.map(Vec::from)) {
            let hook = cdi::Hook {
                hook_name: "createContainer".into(),
                args: args.clone(),
                ..cdi::Hook::default()
            };
            let mut spec = cdi::Spec::default();
            spec.container_edits.hooks.push(hook);
            let transform = cdi::Transform {
                from: "/driver".into(),
                to: "/moved".into(),
                relative_to: cdi::RelativeTo::Host,
                host_path_behind: HOST_PATH_BEHIND,
            };
            transform.apply(&mut spec);
            let mut wanted = args;
            let host = wanted.len() - 2;
            wanted[host] = "/moved/a".into();
            assert_eq!(spec.container_edits.hooks[0].args, wanted);
        }
    }

    #[test]
    fn malformed_arguments_are_refused() {
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
