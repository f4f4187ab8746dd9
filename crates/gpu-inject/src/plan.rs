//! From a request to the edits of one container.

use std::collections::BTreeSet;

use gpu_host::{
    Capabilities, Capability, DeviceNode, DriverFile, FileKind, Gpu, Inventory, MigDevice,
};

use crate::edits::{Edits, Library, Mount, MountKind};
use crate::error::Error;
use crate::policy::Policy;
use crate::request::{Request, Visible};
use crate::requirements;

/// Prefix of our CDI names, accepted in `NVIDIA_VISIBLE_DEVICES`.
const KIND: &str = "nvidia.com/gpu=";

/// A GPU or slices of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picked<'a> {
    Whole(&'a Gpu),
    Slice(&'a Gpu, &'a MigDevice),
}

impl<'a> Picked<'a> {
    fn gpu(self) -> &'a Gpu {
        match self {
            Self::Whole(gpu) | Self::Slice(gpu, _) => gpu,
        }
    }
}

/// The edits that give a container what it asks for and nothing else. No edits for a
/// container that asks for nothing.
pub fn plan(inventory: &Inventory, request: &Request, policy: &Policy) -> Result<Edits, Error> {
    if !request.is_some() {
        return Ok(Edits::default());
    }
    if inventory.driver.is_none() {
        return Err(Error::NoDriver);
    }
    let picked = pick(inventory, &request.visible)?;
    let gpus: Vec<&Gpu> = picked.iter().map(|p| p.gpu()).collect();
    requirements::check(&request.requirements, inventory, &gpus)?;
    let capabilities = request.capabilities.and(policy.supported);
    let mut edits = shared(inventory, capabilities);
    for one in picked {
        device(&mut edits, one, capabilities);
    }
    edits.additional_gids = gids(&edits.devices);
    // A hook or a CDI-aware engine further down must not do it again.
    edits
        .env
        .push(("NVIDIA_VISIBLE_DEVICES".into(), "void".into()));
    Ok(edits)
}

/// What every GPU container gets: files and control nodes of these capabilities.
pub(crate) fn shared(inventory: &Inventory, capabilities: Capabilities) -> Edits {
    let mut edits = Edits {
        forbid_device_node_creation: true,
        ..Edits::default()
    };
    for control in &inventory.control_nodes {
        if control.capabilities == Capabilities::ALL
            || control.capabilities.intersects(capabilities)
        {
            edits.devices.push(control.node.clone());
        }
    }
    let files = inventory.driver.iter().flat_map(|d| &d.files);
    for file in files.filter(|f| is_given(f, capabilities)) {
        add_file(&mut edits, file);
    }
    edits
}

/// A 32-bit library needs `compat32` besides what it is for.
fn is_given(file: &DriverFile, capabilities: Capabilities) -> bool {
    file.capabilities.intersects(capabilities)
        && (file.kind != FileKind::Library32 || capabilities.has(Capability::Compat32))
}

fn add_file(edits: &mut Edits, file: &DriverFile) {
    edits.mounts.push(Mount {
        kind: match file.kind {
            FileKind::Socket => MountKind::Socket,
            _ => MountKind::File,
        },
        host_path: file.host_path.clone(),
        path: file.path.clone(),
    });
    edits.links.extend(file.links.iter().cloned());
    if matches!(file.kind, FileKind::Library | FileKind::Library32) {
        let name = || {
            file.path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
        };
        if let Some(soname) = file.soname.clone().or_else(name) {
            edits.libraries.push(Library {
                path: file.path.clone(),
                soname,
                compat32: file.kind == FileKind::Library32,
            });
        }
    }
}

/// What this device adds.
pub(crate) fn device(edits: &mut Edits, picked: Picked<'_>, capabilities: Capabilities) {
    let gpu = picked.gpu();
    let mut add = |node: &DeviceNode| {
        if !edits.devices.contains(node) {
            edits.devices.push(node.clone());
        }
    };
    add(&gpu.node);
    if let Picked::Slice(_, slice) = picked {
        slice.nodes.iter().for_each(&mut add);
    }
    let drm = Capabilities::of(&[Capability::Graphics, Capability::Display]);
    if capabilities.intersects(drm) {
        gpu.drm.iter().for_each(&mut add);
        for link in &gpu.drm_links {
            if !edits.links.contains(link) {
                edits.links.push(link.clone());
            }
        }
    }
}

/// Groups of nodes that others may not open.
pub(crate) fn gids(nodes: &[DeviceNode]) -> Vec<u32> {
    nodes
        .iter()
        .filter(|n| n.gid != 0 && n.mode & 0o006 != 0o006)
        .map(|n| n.gid)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Every device of a partitioned GPU is its slices.
pub(crate) fn parts(gpu: &Gpu) -> Vec<Picked<'_>> {
    if gpu.mig_enabled {
        gpu.mig
            .iter()
            .map(|slice| Picked::Slice(gpu, slice))
            .collect()
    } else {
        vec![Picked::Whole(gpu)]
    }
}

fn pick<'a>(inventory: &'a Inventory, visible: &Visible) -> Result<Vec<Picked<'a>>, Error> {
    let mut picked = Vec::new();
    match visible {
        Visible::NotAsked | Visible::NoGpu => {}
        Visible::All => picked.extend(inventory.gpus.iter().flat_map(parts)),
        Visible::These(list) => {
            for asked in list {
                for one in find(inventory, asked.strip_prefix(KIND).unwrap_or(asked))? {
                    if !picked.contains(&one) {
                        picked.push(one);
                    }
                }
            }
        }
    }
    Ok(picked)
}

fn find<'a>(inventory: &'a Inventory, asked: &str) -> Result<Vec<Picked<'a>>, Error> {
    let gpus = &inventory.gpus;
    if asked == "all" {
        return Ok(gpus.iter().flat_map(parts).collect());
    }
    let number = |text: &str| text.parse::<u32>().ok();
    let no_such = || Error::NoSuchDevice {
        asked: asked.to_owned(),
        there: names(inventory),
    };
    if let Some(index) = number(asked) {
        let gpu = gpus.iter().find(|g| g.index == index).ok_or_else(no_such)?;
        return Ok(parts(gpu));
    }
    if let Some((gpu, slice)) = asked
        .split_once(':')
        .and_then(|(g, s)| Some((number(g)?, number(s)?)))
    {
        let gpu = gpus.iter().find(|g| g.index == gpu).ok_or_else(no_such)?;
        let slice = gpu
            .mig
            .iter()
            .find(|s| s.index == slice)
            .ok_or_else(no_such)?;
        return Ok(vec![Picked::Slice(gpu, slice)]);
    }
    // A UUID or a prefix of one (nvidia-docker documentation, "GPU isolation"); the tag
    // alone would fit everything.
    let is_uuid = ["GPU-", "MIG-"]
        .iter()
        .any(|tag| asked.len() > tag.len() && asked.starts_with(tag));
    if !is_uuid {
        return Err(no_such());
    }
    let fits = |uuid: &Option<String>| uuid.as_deref().is_some_and(|u| u.starts_with(asked));
    let mut found: Vec<(Option<&str>, Vec<Picked<'a>>)> = Vec::new();
    for gpu in gpus {
        if fits(&gpu.uuid) {
            found.push((gpu.uuid.as_deref(), parts(gpu)));
        }
        for slice in gpu.mig.iter().filter(|s| fits(&s.uuid)) {
            found.push((slice.uuid.as_deref(), vec![Picked::Slice(gpu, slice)]));
        }
    }
    if let Some(at) = found.iter().position(|(uuid, _)| *uuid == Some(asked)) {
        return Ok(found.swap_remove(at).1);
    }
    if found.len() > 1 {
        let fits: Vec<&str> = found.iter().filter_map(|(uuid, _)| *uuid).collect();
        return Err(Error::Ambiguous {
            asked: asked.to_owned(),
            fits: fits.join(", "),
        });
    }
    found.pop().map(|(_, devices)| devices).ok_or_else(no_such)
}

fn names(inventory: &Inventory) -> String {
    let mut names = Vec::new();
    for gpu in &inventory.gpus {
        names.push(match &gpu.uuid {
            Some(uuid) => format!("{} ({uuid})", gpu.index),
            None => gpu.index.to_string(),
        });
        names.extend(gpu.mig.iter().map(|s| format!("{}:{}", gpu.index, s.index)));
    }
    if names.is_empty() {
        return "none".into();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use gpu_host::{Driver, PciAddress};
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str, minor: u32) -> DeviceNode {
        DeviceNode {
            path: format!("/dev/{name}").into(),
            host_path: format!("/dev/{name}").into(),
            major: 195,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }
    }

    fn gpu(index: u32, slices: u32) -> Gpu {
        Gpu {
            index,
            minor: index,
            uuid: Some(format!("GPU-{index}abc")),
            name: None,
            brand: None,
            compute_capability: None,
            pci: PciAddress::default(),
            node: node(&format!("nvidia{index}"), index),
            drm: vec![node(&format!("dri/card{index}"), index)],
            drm_links: Vec::new(),
            mig_enabled: slices > 0,
            mig: (0..slices)
                .map(|n| MigDevice {
                    index: n,
                    uuid: Some(format!("MIG-{index}{n}")),
                    gpu_instance: n + 1,
                    compute_instance: 0,
                    profile: None,
                    nodes: vec![node(&format!("nvidia-caps/nvidia-cap{index}{n}"), n)],
                    access_files: Vec::new(),
                })
                .collect(),
        }
    }

    fn host() -> Inventory {
        Inventory {
            driver: Some(Driver::default()),
            gpus: vec![gpu(0, 0), gpu(1, 2), gpu(2, 0)],
            ..Inventory::default()
        }
    }

    fn nodes(asked: &str) -> Result<Vec<String>, Error> {
        let request = Request {
            visible: Visible::These(asked.split(',').map(str::to_owned).collect()),
            capabilities: Capabilities::of(&[Capability::Compute]),
            ..Request::default()
        };
        let edits = plan(&host(), &request, &Policy::default())?;
        Ok(edits
            .devices
            .iter()
            .map(|d| d.path.display().to_string())
            .collect())
    }

    #[test]
    fn exactly_what_is_asked_for() {
        assert_eq!(nodes("0").unwrap(), ["/dev/nvidia0"]);
        assert_eq!(
            nodes("2,GPU-0abc,0").unwrap(),
            ["/dev/nvidia2", "/dev/nvidia0"]
        );
        assert_eq!(
            nodes("1:1").unwrap(),
            ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap11"]
        );
        assert_eq!(
            nodes("MIG-10").unwrap(),
            ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap10"]
        );
        assert_eq!(nodes("1").unwrap().len(), 3);
        assert_eq!(nodes("nvidia.com/gpu=2").unwrap(), ["/dev/nvidia2"]);
        assert_eq!(nodes("all").unwrap().len(), 5);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for asked in ["3", "0:0", "1:2", "GPU-", "GPU-9", "gpu0", "-1", "0x0"] {
            assert!(
                matches!(nodes(asked), Err(Error::NoSuchDevice { .. })),
                "{asked}"
            );
        }
        assert!(matches!(nodes("MIG-1"), Err(Error::Ambiguous { .. })));
        assert!(nodes("7").unwrap_err().to_string().contains("0 (GPU-0abc)"));
    }

    #[test]
    fn display_nodes_come_with_graphics_only() {
        let mut request = Request {
            visible: Visible::All,
            capabilities: Capabilities::of(&[Capability::Graphics]),
            ..Request::default()
        };
        let count = |r: &Request| plan(&host(), r, &Policy::default()).unwrap().devices.len();
        assert_eq!(count(&request), 8);
        request.capabilities = Capabilities::of(&[Capability::Utility]);
        assert_eq!(count(&request), 5);
    }

    proptest! {
        #[test]
        fn never_a_gpu_that_was_not_asked_for(asked in "([0-3](:[0-2])?|GPU-[0-3]abc|MIG-[01][01]|[a-z]{1,3})") {
            if let Ok(nodes) = nodes(&asked) {
                let index: String = asked.chars().find(char::is_ascii_digit).into_iter().collect();
                for node in nodes.iter().filter(|n| !n.contains("caps")) {
                    prop_assert_eq!(node, &format!("/dev/nvidia{index}"));
                }
            }
        }
    }
}
