//! Writes and reads the arguments of our hook.

use std::path::{Path, PathBuf};

use gpu_host::{Link, Need};

use super::arrangement::Arrangement;
use crate::edits::{BindMount, CudaCompat, Edits, GpuIdentity, Library, MountKind, Mounted};
use crate::error::{Error, Excerpt};

/// Flag with `root.path` of config.json, so that our hook does not have to read that file, for
/// which it may lack permission.
pub const ROOTFS_FLAG: &str = "--rootfs";

/// Flag: /dev is a tmpfs that only the container has ([`Arrangement::own_dev`]).
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
const GPU: &str = "--gpu";

/// The flags among these that are followed by a path of the host, and the number of words in between, for programs
/// that move a spec to another root.
pub const HOST_PATH_BEHIND: &[(&str, usize)] = &[(MOUNTED, 0), (MOUNT, 1), (OPTIONAL_MOUNT, 1)];

/// The arguments for a mount that our hook makes.
pub(super) fn mount_arguments(mount: &BindMount) -> [String; 4] {
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

/// The arguments for a mount that the runtime makes, so that the hook can check where it went. None for a library at the
/// same path on the host, because its `--library` is enough; one word where the container has it at the same path, because a
/// runtime reads and writes all arguments more than once a start.
pub(super) fn mounted_arguments(mount: &BindMount, edits: &Edits) -> Vec<String> {
    let is_same = mount.host_path == mount.path;
    let is_it = |l: &Library| l.path.as_os_str() == mount.path.as_os_str();
    if is_same && edits.libraries.iter().any(is_it) {
        return Vec::new();
    }
    let path = mount.path.to_string_lossy();
    if is_same {
        return vec![[MOUNTED, "=", &path].concat()];
    }
    let host = mount.host_path.to_string_lossy().into_owned();
    vec![MOUNTED.to_owned(), host, path.into_owned()]
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
    for gpu in &edits.gpus {
        let uuid = gpu
            .uuid
            .as_deref()
            .map_or(String::new(), |u| [",", u].concat());
        add(
            GPU,
            format!("{}={},{}{uuid}", gpu.minor, gpu.index, gpu.pci),
        );
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

/// Reads the edits that our hook applies from its arguments, whose memory they keep.
pub fn read_arguments(args: Vec<String>) -> Result<Edits, Error> {
    let mut edits = Edits::default();
    let mut args = args.into_iter();
    while let Some(flag) = args.next() {
        let flag = flag.as_str();
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
        if let Some(path) = flag.strip_prefix(MOUNTED).and_then(|f| f.strip_prefix('=')) {
            let path = absolute(Some(path.to_owned())).ok_or_else(|| bad("=/PATH"))?;
            edits.mounted.push(Mounted {
                host_path: path.clone(),
                path,
            });
            continue;
        }
        if flag == MOUNTED {
            let paths = [args.next(), args.next()];
            let [Some(host_path), Some(path)] = paths.map(absolute) else {
                return Err(bad("/HOST /PATH"));
            };
            edits.mounted.push(Mounted { host_path, path });
            continue;
        }
        let mut value = args.next().filter(|v| !v.is_empty());
        let mut pair = || {
            let pair = value.take().and_then(split_pair);
            pair.filter(|(path, value)| path.starts_with('/') && !value.is_empty())
                .ok_or_else(|| bad("/PATH=VALUE"))
        };
        match flag {
            "--library" | "--library32" => {
                let (path, soname) = pair()?;
                edits.libraries.push(Library {
                    path: path.into(),
                    soname,
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
            GPU => {
                let gpu = value.as_deref().and_then(read_gpu);
                edits
                    .gpus
                    .push(gpu.ok_or_else(|| bad("MINOR=INDEX,PCI[,UUID]"))?);
            }
            "--cuda-compat" => {
                let value = value.as_deref().ok_or_else(|| bad("DRIVER[,CUDA]"))?;
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
                let root = absolute(value).ok_or_else(|| bad("/DIRECTORY"))?;
                let compat = edits.cuda_compat.as_mut();
                compat.ok_or_else(|| bad("--cuda-compat before it"))?.root = Some(root);
            }
            "--egl-devices" => match value.as_deref() {
                Some(BY_NODES) => edits.egl_devices_by_nodes = true,
                mask => {
                    let mask = mask.and_then(|m| m.strip_prefix("0x"));
                    let mask = mask.and_then(|m| u64::from_str_radix(m, 16).ok());
                    edits.egl_devices = Some(mask.ok_or_else(|| bad("0xMASK or nodes"))?);
                }
            },
            _ => return Err(Error::HookFlag(Excerpt::of(flag))),
        }
    }
    Ok(edits)
}

fn absolute(path: Option<String>) -> Option<PathBuf> {
    path.filter(|p| p.starts_with('/')).map(PathBuf::from)
}

/// Splits at the first `=`. The first part keeps the memory of the whole text.
fn split_pair(mut text: String) -> Option<(String, String)> {
    let at = text.find('=')?;
    let behind = text[at + 1..].to_owned();
    text.truncate(at);
    Some((text, behind))
}

/// Reads `MINOR=INDEX,PCI[,UUID]`.
fn read_gpu(text: &str) -> Option<GpuIdentity> {
    let (minor, rest) = text.split_once('=')?;
    let mut parts = rest.splitn(3, ',');
    Some(GpuIdentity {
        minor: minor.parse().ok()?,
        index: parts.next()?.parse().ok()?,
        pci: parts.next()?.parse().ok()?,
        uuid: parts.next().map(str::to_owned),
    })
}

fn read_mount(values: [Option<String>; 3], need: Need) -> Option<BindMount> {
    let [kind, host, path] = values;
    let kinds = [
        MountKind::File,
        MountKind::Config,
        MountKind::Socket,
        MountKind::Proc,
    ];
    Some(BindMount {
        kind: kinds
            .into_iter()
            .find(|k| kind.as_deref() == Some(word(*k)))?,
        host_path: absolute(host)?,
        path: absolute(path)?,
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

    /// Arguments of earlier versions are read as well, because programs are replaced more often than a CDI spec is
    /// made.
    #[test]
    fn a_mount_at_its_host_path_takes_one_argument() {
        let mount = |host: &str, path: &str| BindMount {
            kind: MountKind::File,
            host_path: host.into(),
            path: path.into(),
            need: Need::Required,
        };
        let edits = Edits {
            libraries: vec![Library {
                path: "/l/a.so".into(),
                soname: "a.so".into(),
                compat32: false,
            }],
            ..Edits::default()
        };
        let arguments = |host, path| mounted_arguments(&mount(host, path), &edits);
        assert_eq!(arguments("/a=b", "/a=b"), ["--mounted=/a=b"]);
        assert_eq!(arguments("/host/a", "/a"), ["--mounted", "/host/a", "/a"]);
        assert_eq!(arguments("/l/a.so", "/l/a.so"), [""; 0]);
        assert_eq!(arguments("/m/a.so", "/l/a.so").len(), 3);
        let mounted = |args: &[&str]| {
            let args = args.iter().map(|a| (*a).to_owned()).collect();
            read_arguments(args).unwrap().mounted
        };
        let short = mounted(&["--mounted=/a=b"]);
        assert_eq!(short, mounted(&["--mounted", "/a=b", "/a=b"]));
        assert_eq!(short[0].host_path, short[0].path);
    }

    #[test]
    fn a_pair_is_split_at_its_first_sign() {
        let pair = |text: &str| split_pair(text.to_owned());
        let of = |path: &str, value: &str| Some((path.to_owned(), value.to_owned()));
        assert_eq!(pair("/a=b"), of("/a", "b"));
        assert_eq!(pair("/a=b=c"), of("/a", "b=c"));
        assert_eq!(pair("/a="), of("/a", ""));
        assert_eq!(pair("/a"), None);
    }

    /// The same for every flag that names a mount.
    #[test]
    fn of_a_moved_spec_the_hosts_paths_are_known_by_their_flags() {
        let mount = |need| BindMount {
            kind: MountKind::File,
            host_path: "/driver/a".into(),
            path: "/driver/a".into(),
            need,
        };
        let needs = [Need::Required, Need::Optional, Need::OptionalAndClosed];
        let mounts = needs.map(|need| mount_arguments(&mount(need)).to_vec());
        let separate = BindMount {
            path: "/driver/b".into(),
            ..mount(Need::Required)
        };
        let mounted = [mount(Need::Required), separate]
            .map(|mount| mounted_arguments(&mount, &Edits::default()));
        for args in mounts.into_iter().chain(mounted) {
            let before = read_arguments(args.clone()).unwrap();
            let hook = cdi::Hook {
                hook_name: "createContainer".into(),
                args,
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
            let mut expected = before;
            for mount in &mut expected.mounts {
                mount.host_path = "/moved/a".into();
            }
            for mounted in &mut expected.mounted {
                mounted.host_path = "/moved/a".into();
            }
            let moved = spec.container_edits.hooks.remove(0).args;
            assert_eq!(read_arguments(moved).unwrap(), expected);
        }
    }

    #[test]
    fn malformed_arguments_are_refused() {
        for line in [
            "--library",
            "--library a=b",
            "--library /a=",
            "--library /a",
            "--link /a",
            "--odd /a=b",
            "--mount",
            "--mount file /a",
            "--mount file /a b",
            "--mount device /a /b",
            "--mounted /a",
            "--mounted /a b",
            "--mounted=a",
            "--mounted=",
            "--mountedly=/a",
            "--cuda-compat",
            "--cuda-compat 580,x",
            "--cuda-compat-root /x",
            "--gpu",
            "--gpu 0",
            "--gpu 0=1",
            "--gpu 0=x,0000:3b:00.0",
            "--gpu 0=1,3b",
            "--egl-devices 5",
            "--egl-devices",
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert!(read_arguments(args).is_err(), "{line}");
        }
    }
}
